"""Events of two runs over the same rows, held against each other: the same, changed, gained, lost."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from edgeflow_proto.event import instant
from edgeflow_tools.cases import Tolerance, mappings_differ

Kind = Literal["changed", "gained", "lost"]
_Source = tuple[str, str, str]


class Said(msgspec.Struct, frozen=True):
    """What is compared of an event; `when` is ns since its boot, or since 1970 where samples carry times."""

    output: str
    subject: str
    boot: str
    when: int
    time: str
    severity: str
    span: str
    data: dict[str, Any]

    @property
    def source(self) -> _Source:
        """Events of one source are in the order of their times."""
        return self.output, self.subject, self.boot


def said(event: dict[str, Any]) -> Said:
    """Take what is compared out of an event in CloudEvents form."""
    carried = event["clockquality"] == "payload"
    return Said(
        event["output"], event.get("subject", ""), event["bootid"],
        instant(event["time"]) if carried else int(event["monotonicns"]),
        event["time"], event["severity"], event.get("inputspan", ""), event["data"],
    )  # fmt: skip


class Difference(msgspec.Struct, frozen=True):
    """An event that one of the runs has, or both in different ways, told in `what`."""

    kind: Kind
    before: Said | None
    after: Said | None
    what: tuple[str, ...] = ()

    @property
    def event(self) -> Said:
        """The event, as it was where it was."""
        found = self.before or self.after
        assert found is not None
        return found


class Comparison:
    """Takes the events of both runs, in any order, and keeps those that have no equal on the other side yet.

    Two are a pair when output, subject and time agree; at the end, one that is left and one of the other side
    at most `near` ns away are a pair too, the earliest first. With `spans` they must be of the same rows.
    """

    def __init__(self, tolerance: Tolerance, near: int = 0, *, spans: bool) -> None:
        self._tolerance, self._near, self._spans = tolerance, near, spans
        self._left: tuple[dict[tuple[_Source, int], deque[Said]], ...] = (
            defaultdict(deque),
            defaultdict(deque),
        )
        self._changed: list[Difference] = []
        self.same: Counter[str] = Counter()  # pairs without a difference, by output

    def before(self, event: Said) -> None:
        """Take an event of the first run."""
        self._take(event, 0)

    def after(self, event: Said) -> None:
        """Take an event of the second run."""
        self._take(event, 1)

    def _take(self, event: Said, side: int) -> None:
        place, other = (event.source, event.when), self._left[1 - side]
        waiting = other.get(place)
        if not waiting:
            self._left[side][place].append(event)
            return
        found = waiting.popleft()
        if not waiting:
            del other[place]
        self._pair(*((event, found) if side == 0 else (found, event)))

    def _pair(self, before: Said, after: Said) -> None:
        what = [*mappings_differ(before.data, after.data, self._tolerance)]
        if before.severity != after.severity:
            what.append(f"severity is {after.severity}, expected {before.severity}")
        if self._spans and before.span != after.span:
            what.append(f"its rows are {after.span}, expected {before.span}")
        if before.when != after.when:
            what.append(f"it is {(after.when - before.when) / 1e9:+.3f} s away")
        if what:
            self._changed.append(Difference("changed", before, after, tuple(what)))
        else:
            self.same[before.output] += 1

    def differences(self) -> list[Difference]:
        """Return all there are, in the order of time; no events may come behind this."""
        self._pair_near()
        found = self._changed
        for kind, left in zip(("lost", "gained"), self._left, strict=True):
            events = [event for waiting in left.values() for event in waiting]
            found += [_alone(kind, event) for event in events]
        return sorted(found, key=lambda each: (each.event.time, each.event.output, each.event.subject))

    def _pair_near(self) -> None:
        befores, afters = (_by_source(left) for left in self._left)
        for source in befores.keys() & afters.keys() if self._near else ():
            for before, after in _nearest(befores[source], afters[source], self._near):
                for event, left in zip((before, after), self._left, strict=True):
                    left[source, event.when].remove(event)
                self._pair(before, after)


def _alone(kind: str, event: Said) -> Difference:
    return Difference("lost", event, None) if kind == "lost" else Difference("gained", None, event)


def _by_source(left: dict[tuple[_Source, int], deque[Said]]) -> dict[_Source, deque[Said]]:
    """Return what is left by source, in the order of time."""
    found: dict[_Source, deque[Said]] = defaultdict(deque)
    for place in sorted(left, key=lambda place: place[1]):
        found[place[0]] += left[place]
    return found


def _nearest(befores: deque[Said], afters: deque[Said], near: int) -> Iterator[tuple[Said, Said]]:
    """Yield pairs that are near each other, walking along both in the order of time."""
    while befores and afters:
        apart = afters[0].when - befores[0].when
        if abs(apart) <= near:
            yield befores.popleft(), afters.popleft()
        elif apart > 0:
            befores.popleft()
        else:
            afters.popleft()
