"""Events of two runs over the same rows, held against each other: the same, changed, gained, lost."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

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

    @property
    def place(self) -> tuple[str, str, str]:
        """What differences are told in the order of."""
        return self.event.time, self.event.output, self.event.subject


class Found(msgspec.Struct, frozen=True):
    """A difference; whether both sides were sure of it, and how old its youngest event is."""

    difference: Difference
    sure: bool
    age: int


class _Waiting(NamedTuple):
    event: Said
    sure: bool
    age: int


_Left = dict[_Source, dict[int, deque[_Waiting]]]  # by source and time


class Comparison:
    """Takes the events of both runs, in any order, and keeps those that have no equal on the other side yet.

    Two are a pair when output, subject and time agree; when it is settled, one that is left and one of the
    other side at most `near` ns away are a pair too, the earliest first. With `spans` they must be of the
    same rows. `age` is that of the events to come: who raises it can settle the older ones, and need not keep
    them.
    """

    def __init__(self, tolerance: Tolerance, near: int = 0, *, spans: bool) -> None:
        self._tolerance, self._near, self._spans = tolerance, near, spans
        self._left: tuple[_Left, _Left] = ({}, {})
        self._changed: list[Found] = []
        self.same: Counter[str] = Counter()  # pairs without a difference, by output
        self.age = 0

    def before(self, event: Said, *, sure: bool = True) -> None:
        """Take an event of the first run."""
        self._take(_Waiting(event, sure, self.age), 0)

    def after(self, event: Said, *, sure: bool = True) -> None:
        """Take an event of the second run."""
        self._take(_Waiting(event, sure, self.age), 1)

    def _take(self, one: _Waiting, side: int) -> None:
        source, when = one.event.source, one.event.when
        if when in self._left[1 - side].get(source, ()):
            self._pair(one, _taken(self._left[1 - side], source, when), side)
        else:
            self._left[side].setdefault(source, {}).setdefault(when, deque()).append(one)

    def _pair(self, one: _Waiting, other: _Waiting, side: int) -> None:
        before, after = (one.event, other.event) if side == 0 else (other.event, one.event)
        what = [*mappings_differ(before.data, after.data, self._tolerance)]
        if before.severity != after.severity:
            what.append(f"severity is {after.severity}, expected {before.severity}")
        if self._spans and before.span != after.span:
            what.append(f"its rows are {after.span}, expected {before.span}")
        if before.when != after.when:
            what.append(f"it is {(after.when - before.when) / 1e9:+.3f} s away")
        if what:
            difference = Difference("changed", before, after, tuple(what))
            self._changed.append(Found(difference, one.sure and other.sure, max(one.age, other.age)))
        else:
            self.same[before.output] += 1

    def settled(self, age: float = math.inf) -> list[Found]:
        """Return, once each, the differences of events up to that age: nothing is to come that is near them.

        They are in the order of time.
        """
        alone = [found for side in (0, 1) for source in [*self._left[side]]
                 for found in self._settle(source, side, age)]  # fmt: skip
        changed, self._changed = self._changed, []
        return sorted([*alone, *changed], key=lambda each: each.difference.place)

    def _settle(self, source: _Source, side: int, age: float) -> Iterator[Found]:
        mine, theirs = self._left[side], self._left[1 - side]
        old = sorted(each.event.when for one in mine[source].values() for each in one if each.age <= age)
        others = sorted(each.event.when for one in theirs.get(source, {}).values() for each in one)
        for when, other in _nearest(old, others, self._near):
            one = _taken(mine, source, when)
            if other is None:
                yield Found(_alone(side, one.event), one.sure, one.age)
            else:
                self._pair(one, _taken(theirs, source, other), side)


def _taken(left: _Left, source: _Source, when: int) -> _Waiting:
    """Take out what waits of a source and time the longest."""
    waiting = left[source][when]
    found = waiting.popleft()
    if not waiting:
        del left[source][when]
    if not left[source]:
        del left[source]
    return found


def _alone(side: int, event: Said) -> Difference:
    return Difference("gained", None, event) if side else Difference("lost", event, None)


def _nearest(mine: list[int], theirs: list[int], near: int) -> Iterator[tuple[int, int | None]]:
    """Yield each time with the earliest of the others that is near it, walking along both in their order."""
    others = deque(theirs)
    for when in mine:
        while others and others[0] < when - near:
            others.popleft()
        yield when, others.popleft() if near and others and others[0] <= when + near else None
