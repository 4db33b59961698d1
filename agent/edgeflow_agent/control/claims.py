"""Room for bundles on their way in: made before their bytes are written, so that the budget holds always."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

from edgeflow_agent.core.clock import boottime_ns

PATIENCE_NS = 30 * 10**9  # writers are told of sunken limits once a second

Answer = Callable[[str], object]  # "" when there is room, else why there is none


@dataclass(slots=True)
class _Claim:
    size: int
    folder: Path
    before: int  # bytes that its folder took when it was made
    answer: Answer
    until: int
    stored: int = 0
    given: bool = False

    @property
    def coming(self) -> int:
        return max(0, self.size - self.stored)


class Claims:
    """Who has asked for room, by keys of their own, and who was given it. `taken` measures a folder."""

    def __init__(self, taken: Callable[[Path], int]) -> None:
        self._taken = taken
        self._claims: dict[Hashable, _Claim] = {}

    def claim(self, key: Hashable, size: int, folder: Path, answer: Answer) -> None:
        """Ask for room for `size` bytes until `release`; `answer` is called once, by a later look.

        They come to lie below `folder`, where nobody else writes meanwhile. A claim takes the place of one
        under the same key, whose answer does not come.
        """
        until = boottime_ns() + PATIENCE_NS
        self._claims[key] = _Claim(size, folder, self._taken(folder), answer, until)

    def release(self, key: Hashable) -> None:
        """Give back what was claimed: it is stored by now, or never will be."""
        self._claims.pop(key, None)

    def forget(self, keys: type) -> None:
        """Release all claims whose keys are of a type: their process is gone."""
        for key in [key for key in self._claims if isinstance(key, keys)]:
            self.release(key)

    def look(self) -> None:
        """Measure what is stored of each claim. That never sinks: whole bundles are moved on."""
        for claim in self._claims.values():
            claim.stored = max(claim.stored, self._taken(claim.folder) - claim.before)

    @property
    def coming(self) -> int:
        """The bytes that are claimed and were not stored at the newest look."""
        return sum(claim.coming for claim in self._claims.values())

    def refuse(self, most: int) -> None:
        """Refuse the waiting claims that `most` bytes do not hold, whatever makes room."""
        waiting = {key: claim for key, claim in self._claims.items() if not claim.given}
        most -= self.coming - sum(claim.coming for claim in waiting.values())  # to come of those with room
        for key, claim in waiting.items():
            if claim.size > most:
                self.release(key)
                words = "there can be room for now, within the budget and beside what is to stay free"
                claim.answer(f"{claim.size} bytes are more than the {max(0, most)} {words}")
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
