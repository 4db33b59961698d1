"""What a replay came to: whether a pipeline said again what it had said, and what another says instead."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from edgeflow_proto.event import ROW_BITS, Event, instant
from edgeflow_tools.cases import Tolerance
from edgeflow_tools.replay.compare import Comparison, Difference, Found, Said, said
from edgeflow_tools.replay.journalled import Journalled, passed
from edgeflow_tools.replay.player import Replay, rows_of

MOST = 10_000  # differences that are kept
KEEP_NS = 60 * 10**9  # of the device's time, that an event waits for its equal
DOUBT_NS = (
    5 * 10**9
)  # how much later than a hole in a journal an event may have been decided on that is in it


class Against:
    """One comparison. `open` counts events that differ where there is nothing to hold them against.

    `unrecorded` counts events of a journal that were not compared because their rows are not recorded. Of the
    differences the first `MOST` are kept; all are counted.
    """

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.differences: list[Difference] = []
        self.open = self.unrecorded = 0

    def tell(self, difference: Difference) -> None:
        """Add one."""
        self._counts[difference.event.output][difference.kind] += 1
        if len(self.differences) < MOST:
            self.differences.append(difference)

    def same(self, counts: Mapping[str, int]) -> None:
        """Say how many events were the same, by output."""
        for output, count in counts.items():
            self._counts[output]["same"] = count

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """How many events are the same, changed, gained and lost, by output."""
        return dict(sorted(self._counts.items()))

    @property
    def untold(self) -> int:
        """How many differences there are besides those that are kept."""
        found = sum(counts.total() - counts["same"] for counts in self._counts.values())
        return found - len(self.differences)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        told = {
            "outputs": self.counts,
            "open": self.open,
            "not_compared": {"not recorded": self.unrecorded},
            "differences": self.differences,
            "untold": self.untold,
        }
        found: dict[str, Any] = msgspec.to_builtins(told)
        return found


class _Side:
    """A comparison of what is made of a recording, of which no more is kept than may yet find its equal."""

    def __init__(self, replay: Replay, comparison: Comparison, keep_ns: int) -> None:
        self._replay, self._comparison = replay, comparison
        self._keep, self._looked = keep_ns, 0
        self._against = Against()

    def _turn(self) -> None:
        """Judge what is old enough, once in a while."""
        age = self._comparison.age = self._replay.age
        if age - self._looked >= self._keep:
            self._looked = age
            self._judge(age - self._keep)

    def _judge(self, age: float) -> None:
        for found in self._comparison.settled(age):
            if not self._bears(found.difference.event):
                self._leave_out(found.difference.event)
            elif self._certain(found):
                self._against.tell(found.difference)
            else:
                self._against.open += 1

    def _bears(self, event: Said) -> bool:
        """Whether an event is one of the rows that were run: what only time brings about is of none."""
        return self._replay.ran.reach(event.span)

    def _certain(self, found: Found) -> bool:
        raise NotImplementedError

    def _leave_out(self, event: Said) -> None:
        """Note an event whose rows were not run."""

    def against(self) -> Against:
        """Return the outcome; nothing may come behind this."""
        self._judge(math.inf)
        self._against.same(self._comparison.same)
        return self._against


class Journal(_Side):
    """What a pipeline said, held against what it says of the same rows again.

    Where the journal has lost events, and behind the newest of each run of the agent (rows may be on disk
    before what was said of them is), nothing counts as gained.
    """

    def __init__(
        self, replay: Replay, told: Journalled, tolerance: Tolerance, dropped: Mapping[str, int] | None = None
    ) -> None:
        """`dropped` says up to when, ns since its boot, a disk that refused cost events, by boot."""
        super().__init__(replay, Comparison(tolerance, spans=True), KEEP_NS)
        self._told, self._dropped = told, dropped or {}
        self._doubtful = -1  # up to which age events may be missing from the journal
        self._newest: dict[int, int] = {}  # age of the journal's newest event, by generation of its rings
        self._beyond: Mapping[str, int] | None = None  # the numbers of the rows behind those asked for
        self._until: float = math.inf

    def again(self, events: Sequence[Event]) -> None:
        """Take what it says, and what it said of the rows up to there."""
        self._turn()
        missing, holes = self._told.missing, self._told.holes
        self._take(self._told.upto(self._replay.following))
        if missing or self._told.missing or self._told.holes > holes:
            self._doubtful = self._replay.age + DOUBT_NS
        for event in events:
            sure = self._replay.age > self._doubtful and not self._lost(event)
            found = said(event.to_json())
            if self._bears(found):
                self._comparison.after(found, sure=sure)

    def _lost(self, event: Event) -> bool:
        """Whether an event may be one that a disk that refused cost."""
        upto = self._dropped.get(event.clock.boot_id, -1)
        return upto >= (0 if event.clock.quality == "payload" else event.t)

    def _take(self, events: Iterable[dict[str, Any]]) -> None:
        """Take what it said, but for what is of rows that were passed by: those come no more."""
        for event in events:
            found = said(event)
            self._newest[_generation(found)] = self._replay.age
            if self._bears(found) or not passed(found.span, self._replay.following):
                self._comparison.before(found)
            else:
                self._leave_out(found)

    def _leave_out(self, event: Said) -> None:
        """Count an event of rows that are not recorded, though they lie between those that are asked for."""
        since = -math.inf if self._replay.since is None else self._replay.since
        asked = since <= instant(event.time) <= self._until and not self._replay.led.reach(event.span)
        self._against.unrecorded += asked and passed(event.span, self._beyond or {})

    def behind(self, beyond: Mapping[str, int], until: float = math.inf) -> None:
        """Take what it said of rows behind the last that were run: they are not recorded.

        `beyond` are the numbers of the first rows that are recorded again, of each input, and none where none
        are; `until` is the moment, ns since 1970, behind which nothing was asked for.
        """
        self._beyond, self._until = beyond, until
        self._take(self._told.rest())
        for event in self._told.upto(beyond):
            found = said(event)
            self._newest[_generation(found)] = self._replay.age
            self._leave_out(found)

    def _certain(self, found: Found) -> bool:
        event, gained = found.difference.event, found.difference.kind == "gained"
        if gained and (not found.sure or found.age >= self._newest.get(_generation(event), 0)):
            return False
        return self._replay.known.holds(event.span)

    def against(self) -> Against:
        """Return the outcome; what lies outside of the rows that were run does not count."""
        if self._beyond is None:
            self.behind(self._replay.following)
        return super().against()


def _generation(event: Said) -> int:
    """Return the newest generation of the rings whose rows are behind an event."""
    return max((last >> ROW_BITS for _, last in rows_of(event.span).values()), default=0)


class Candidate(_Side):
    """What a candidate says, held against what the pipeline itself says of the same rows."""

    def __init__(self, replay: Replay, tolerance: Tolerance, near: int) -> None:
        super().__init__(replay, Comparison(tolerance, near, spans=False), KEEP_NS + 2 * near)

    def take(self, own: Sequence[Event], other: Sequence[Event]) -> None:
        """Take what both say, but for what is of rows that only led up to where the replay begins."""
        self._turn()
        for side, events in enumerate((own, other)):
            for found in filter(self._bears, (said(event.to_json()) for event in events)):
                give = self._comparison.after if side else self._comparison.before
                give(found, sure=self._sure(found, side))

    def _sure(self, event: Said, side: int) -> bool:
        memory = self._replay.players[-1].memory
        return memory is None or memory.sure(event.output, event.subject, side)

    def _bears(self, event: Said) -> bool:
        return not event.span or super()._bears(event)

    def _certain(self, found: Found) -> bool:
        return found.sure
