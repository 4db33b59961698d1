"""What a replay came to: whether a pipeline said again what it had said, and what another says instead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from edgeflow_proto.event import Event
from edgeflow_tools import tables
from edgeflow_tools.cases import Tolerance
from edgeflow_tools.compare import Comparison, Difference, Said, said
from edgeflow_tools.engine import Engine
from edgeflow_tools.replay import Replay
from edgeflow_tools.terminal import counted

SHOWN = 20  # differences that people are shown


class Against(msgspec.Struct, frozen=True):
    """One comparison. `open` counts events that differ where there is nothing to hold them against."""

    same: dict[str, int]
    differences: list[Difference]
    open: int

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """How many events are the same, changed, gained and lost, by output."""
        found = {output: Counter(same=count) for output, count in self.same.items()}
        for difference in self.differences:
            found.setdefault(difference.event.output, Counter())[difference.kind] += 1
        return dict(sorted(found.items()))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        told = {"outputs": self.counts, "open": self.open, "differences": self.differences}
        found: dict[str, Any] = msgspec.to_builtins(told)
        return found


class Journal:
    """What a pipeline said, held against what it says of the same rows again.

    Rows may be on disk before what was said of them is: behind the newest event nothing counts as gained.
    """

    def __init__(self, replay: Replay, events: Iterable[dict[str, Any]], tolerance: Tolerance) -> None:
        self._replay = replay
        self._events = (event for event in events if not event["type"].startswith("edgeflow."))
        self._comparison = Comparison(tolerance, spans=True)
        self._newest: dict[str, int] = {}  # time of an event, by boot

    def again(self, events: Sequence[Event]) -> None:
        """Take what it says, and about as much of what it said."""
        for event in _counted(events, self._replay):
            self._comparison.after(event)
            self._before(next(self._events, None))

    def _before(self, event: dict[str, Any] | None) -> None:
        if event is not None:
            found = said(event)
            self._newest[found.boot] = max(self._newest.get(found.boot, 0), found.when)
            self._comparison.before(found)

    def against(self) -> Against:
        """Return the outcome; what lies outside of the rows that were run does not count."""
        for event in self._events:
            self._before(event)
        found = [d for d in self._comparison.differences() if self._replay.ran.reach(d.event.span)]
        known = [d for d in found if self._replay.known.holds(d.event.span) and not self._ahead(d)]
        return Against(self._comparison.same, known, len(found) - len(known))

    def _ahead(self, difference: Difference) -> bool:
        event = difference.event
        return difference.kind == "gained" and event.when > self._newest.get(event.boot, 0)


class Candidate:
    """What a candidate says, held against what the pipeline itself says of the same rows."""

    def __init__(self, replay: Replay, tolerance: Tolerance, near: int) -> None:
        self._replay = replay
        self._comparison = Comparison(tolerance, near, spans=False)

    def take(self, own: Sequence[Event], other: Sequence[Event]) -> None:
        """Take what both say."""
        for event in _counted(own, self._replay):
            self._comparison.before(event)
        for event in _counted(other, self._replay):
            self._comparison.after(event)

    def against(self) -> Against:
        """Return the outcome."""
        return Against(self._comparison.same, self._comparison.differences(), 0)


def _counted(events: Iterable[Event], replay: Replay) -> Iterator[Said]:
    """Yield the events that count: not those of rows that only led up to where the replay begins."""
    for event in events:
        found = said(event.to_json())
        if not found.span or replay.ran.reach(found.span):
            yield found


def cost(engine: Engine) -> dict[str, dict[str, float]]:
    """Return what each step took: microseconds a row, and a call at most in 99 of 100."""
    steps = engine.tally.steps.items()
    found = {
        name: {
            "rows": step.rows,
            "us_per_row": round(sum(step.calls) / 1e3 / max(1, step.rows), 3),
            "p99_us": step.quantile_us(0.99),
        }
        for name, step in steps
    }
    rows, us = sum(engine.rows.values()), engine.spent.pushing / 1e3
    return found | {"(all)": {"rows": rows, "us_per_row": round(us / max(1, rows), 3)}}


def ground(name: str, replay: Replay, seconds: float) -> Iterator[str]:
    """Yield lines about what was run."""
    rate = f"{replay.rows / max(seconds, 1e-9):,.0f} rows/s"
    yield f"{name}: {counted(replay.rows, 'row', 'rows')} run again in {seconds:.2f} s ({rate})"
    if replay.other:
        yield f"left out: {counted(replay.other, 'row', 'rows')} that another version of it ran"
    if replay.holes or replay.restarts:
        yield (
            f"on the way: {counted(replay.holes, 'hole', 'holes')} in the recording,"
            f" {counted(replay.restarts, 'restart', 'restarts')} of the agent"
        )


def show(title: str, against: Against) -> None:
    """Print a comparison: a table by output, then the first differences."""
    tables.console().print(title)
    kinds = ("same", "changed", "gained", "lost")
    rows = [(output, *(f"{counts[kind]:,}" for kind in kinds)) for output, counts in against.counts.items()]
    tables.show(("output", *kinds), rows)
    if against.open:
        what = counted(against.open, "event differs", "events differ")
        tables.console().print(f"{what} where the steps' memory, or the journal, is not known")
    for difference in against.differences[:SHOWN]:
        tables.console().print(line(difference), soft_wrap=True)
    if len(against.differences) > SHOWN:
        tables.console().print(f"and {len(against.differences) - SHOWN:,} more (--json has all)")


def line(difference: Difference) -> str:
    """Return a difference in a line."""
    event = difference.event
    mark = {"changed": "~", "gained": "+", "lost": "-"}[difference.kind]
    values = ", ".join(difference.what) or " ".join(f"{name}={each}" for name, each in event.data.items())
    return f"{mark} {event.time} {event.output} {event.subject}".rstrip() + f": {values}"


def show_costs(own: Engine, other: Engine) -> None:
    """Print what the steps of both took, side by side."""
    mine, theirs = cost(own), cost(other)
    tables.show(
        ("step", "µs per row", "candidate", "p99 per call", "candidate"),
        [(step, *_cells(mine.get(step, {}), theirs.get(step, {}))) for step in {**mine, **theirs}],
    )


def _cells(mine: dict[str, float], theirs: dict[str, float]) -> Iterator[str]:
    for figure in ("us_per_row", "p99_us"):
        for side in (mine, theirs):
            yield f"{side[figure]:,.2f}" if figure in side else ""
