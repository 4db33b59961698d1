"""Room for bundles on their way in: made before their bytes are written, so that the budget holds always."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from edgeflow_agent.core.clock import boottime_ns

PATIENCE_NS = 30 * 10**9  # writers are told of sunken limits once a second

Answer = Callable[[str], object]  # "" when there is room, else why there is none


@dataclass(slots=True)
class _Claim:
    size: int
    answer: Answer
    until: int
    given: bool = False


class Claims:
    """Who has asked for room, by keys of their own, and who was given it."""

    def __init__(self) -> None:
        self._claims: dict[Hashable, _Claim] = {}
        self._claimed = 0  # bytes, since there was no claim at all
        self._before = -1  # bytes that were stored then

    def claim(self, key: Hashable, size: int, answer: Answer) -> None:
        """Ask for room for `size` bytes, until `release`; `answer` is called once, by a later look."""
        self._claims[key] = _Claim(size, answer, boottime_ns() + PATIENCE_NS)
        self._claimed += size

    def release(self, key: Hashable) -> None:
        """Give back what was claimed: it is stored by now, or never will be."""
        self._claims.pop(key, None)
        if not self._claims:
            self._claimed, self._before = 0, -1

    def forget(self, keys: type) -> None:
        """Release all claims whose keys are of a type: their process is gone."""
        for key in [key for key in self._claims if isinstance(key, keys)]:
            self.release(key)

    def coming(self, stored: int) -> int:
        """Return the bytes that are claimed and not stored yet; of bundles on their way, `stored` are."""
        if not self._claims:
            return 0
        if self._before < 0:
            self._before = stored
        return max(0, self._claimed - max(0, stored - self._before))

    def refuse(self, most: int, coming: int) -> None:
        """Refuse the waiting claims that `most` bytes do not hold, whatever makes room; `coming` as above."""
        waiting = {key: claim for key, claim in self._claims.items() if not claim.given}
        most -= max(0, coming - sum(claim.size for claim in waiting.values()))  # to come of those with room
        for key, claim in waiting.items():
            if claim.size > most:
                self._claimed -= claim.size
                self.release(key)
                claim.answer(f"{claim.size} bytes are more than the {max(0, most)} there can be room for")
            else:
                most -= claim.size

    def give(self, *, fits: bool) -> None:
        """Answer those that wait: there is room for all of them, or there is not and they waited too long."""
        now = boottime_ns()
        for key, claim in list(self._claims.items()):
            if claim.given:
                continue
            if fits:
                claim.given = True
                claim.answer("")
            elif now >= claim.until:
                self.release(key)
                claim.answer(f"room for {claim.size} bytes was not made in time")
