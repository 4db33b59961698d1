"""`join` and `merge`: rows of several edges brought together, in an order that no timing can change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from edgeflow_agent.core.batch import Batch, Int64s, Rows, Values, concatenated
from edgeflow_agent.core.ports import Operator, StepContext
from edgeflow_agent.operators.keys import by_key
from edgeflow_proto.pipeline.flow import Flow, in_step
from edgeflow_proto.pipeline.kinds.steps import shape

MAX_WAITING = 1 << 16  # rows of one source; beyond, the oldest wait no longer
NO_ROW = -1
_ALL = np.iinfo(np.int64).max  # a place behind all that has come: rows in step that belong together do so


class Meeting(Operator):
    """Rows of several sources on one scale: the row numbers of their first input, or else their times.

    A row has its place on the scale from the last row behind it or its time; a place that goes back counts as
    the latest before it. What stands before a place that all sources have come past is settled for good.
    """

    stateless: ClassVar[bool] = False

    def __init__(self, context: StepContext) -> None:
        flows = list(context.upstreams.values())
        self._by_row = in_step(flows)
        self.ticks = not self._by_row
        self._waiting = [Waiting(self._by_row) for _ in flows]
        self._lanes = _lanes(flows)
        self._inputs = len(context.flows[""].inputs)

    def meet(self, batches: Sequence[Batch | None], until: Sequence[int]) -> dict[str, Batch]:
        """Take rows in; return those whose place all sources have come past."""
        for source, waiting, lane in zip(batches, self._waiting, self._lanes, strict=True):
            if source is not None and len(source):
                waiting.push(self._widened(source, lane))
        made = self._settle([_ALL] * len(until) if self._by_row else until)
        return {"": made} if made is not None and len(made) else {}

    def _settle(self, until: Sequence[int]) -> Batch | None:
        """Return what is settled, where each source has come up to, but not with, a place."""
        raise NotImplementedError

    def _widened(self, batch: Batch, lane: list[int]) -> Batch:
        """Return a source's rows with spans that have room for all inputs of the result."""
        if lane == list(range(2 * self._inputs)):
            return batch
        span = np.full((len(batch), 2 * self._inputs), NO_ROW, np.int64)
        span[:, lane] = batch.span
        return Batch(batch.values, batch.t, batch.key, span, batch.columns)

    def state(self) -> list[Any]:
        """Return the rows that wait, by source."""
        return [waiting.state() for waiting in self._waiting]

    def restore(self, state: list[Any]) -> None:
        """Take them back."""
        for waiting, kept in zip(self._waiting, state, strict=True):
            waiting.restore(kept)


class Merge(Meeting):
    """``(n, *row)`` of each source → all of them, by place; at one place in the order of the sources."""

    def __init__(self, options: shape.Merge, context: StepContext) -> None:
        super().__init__(context)

    def _settle(self, until: Sequence[int]) -> Batch | None:
        settled = [waiting.take(min(until)) for waiting in self._waiting]
        parts = [(batch, place) for batch, place in settled if batch is not None]
        if not parts:
            return None
        merged = concatenated([batch for batch, _ in parts])
        return merged.take(np.argsort(np.concatenate([place for _, place in parts]), kind="stable"))


class Partners(NamedTuple):
    """What stands beside rows: `which` of the rows of another source for each of them, `NO_ROW` for none."""

    rows: Batch | None  # None where there is none yet
    which: Int64s


class Matching(Meeting):
    """Rows of the first source, each with the last row of its key of every other one up to its place.

    A source without keys belongs to every key. A partner older than `tolerance` (ns) counts as missing.
    """

    def __init__(self, context: StepContext, tolerance: int | None) -> None:
        super().__init__(context)
        self._tolerance = tolerance
        self._keyed = [flow.key is not None for flow in context.upstreams.values()]

    def _together(self, rows: Batch, partners: list[Partners]) -> Batch:
        """Return what is made of rows and their partners of every other source; spans hold all of them."""
        raise NotImplementedError

    def _settle(self, until: Sequence[int]) -> Batch | None:
        others = min(until[1:])
        rows, place = self._waiting[0].take(others)
        try:
            return None if rows is None else self._matched(rows, place)
        finally:
            for waiting, keyed in zip(self._waiting[1:], self._keyed[1:], strict=True):
                waiting.forget(min(others, until[0]), keyed=keyed)

    def _matched(self, rows: Batch, place: Int64s) -> Batch:
        partners = [self._partners(index, rows, place) for index in range(1, len(self._waiting))]
        span = rows.span.copy()
        for other, which in partners:
            if other is not None:
                has = which != NO_ROW
                _stretch(span, has, other.span[which[has]])
        return self._together(Batch(rows.values, rows.t, rows.key, span, rows.columns), partners)

    def _partners(self, index: int, rows: Batch, place: Int64s) -> Partners:
        other, places = self._waiting[index].rows
        which = np.full(len(rows), NO_ROW)
        if other is None:
            return Partners(None, which)
        mine = dict(by_key(other.key)) if self._keyed[index] else {}
        for key, own in by_key(rows.key):
            theirs = mine.get(key) if self._keyed[index] else slice(None)
            if theirs is not None:
                which[own] = _latest(np.arange(len(other))[theirs], places[theirs], place[own])
        if self._tolerance is not None:
            which[rows.t - other.t[which] > self._tolerance] = NO_ROW
        return Partners(other, which)


class Join(Matching):
    """``(n, columns)`` of each source → ``(k, all columns)``. A row spans what the rows in it span."""

    def __init__(self, options: shape.Join, context: StepContext) -> None:
        super().__init__(context, int(options.tolerance))
        self._drop = options.missing == "drop"
        self._widths = [len(flow.columns or ()) for flow in context.upstreams.values()]
        self._columns = context.flows[""].columns

    def _together(self, rows: Batch, partners: list[Partners]) -> Batch:
        beside = [self._beside(*pair) for pair in zip(partners, self._widths[1:], strict=True)]
        values = np.concatenate([rows.values, *beside], axis=1)
        joined = rows.having(values, self._columns)
        return joined.take(all_found(partners)) if self._drop else joined

    def _beside(self, partners: Partners, width: int) -> Values:
        """Return the columns of one source for each row, NaN (0 where none is kept) where it has none."""
        has = partners.which != NO_ROW
        like = self._waiting[0].dtype
        fill = np.nan if like.kind == "f" else 0
        out = np.full((len(has), width), fill, like)
        if partners.rows is not None:
            out[has] = partners.rows.values[partners.which[has]]
        return out


def all_found(partners: Sequence[Partners]) -> Rows:
    """Return which rows have a partner of every other source, a mask."""
    found: Rows = np.all([each.which != NO_ROW for each in partners], axis=0)
    return found


class Waiting:
    """Rows of one source that wait, in their order, with their places on the scale."""

    def __init__(self, by_row: bool) -> None:
        self._by_row = by_row
        self.rows: tuple[Batch | None, Int64s] = (None, np.empty(0, np.int64))
        self._last = NO_ROW  # the newest place
        self.dtype: np.dtype[Any] = np.dtype(np.float32)

    def push(self, batch: Batch) -> None:
        """Put rows behind those that wait; they are copied."""
        self.dtype = batch.values.dtype
        place = np.maximum.accumulate(batch.span[:, 1] if self._by_row else batch.t)
        place = np.maximum(place, self._last)
        self._last = int(place[-1])
        rows, places = self.rows
        own = batch.take(np.arange(len(batch)))
        self.rows = own if rows is None else concatenated([rows, own]), np.concatenate([places, place])

    def take(self, until: int) -> tuple[Batch | None, Int64s]:
        """Take out the rows before a place, and those too many to wait."""
        rows, places = self.rows
        count = max(int(np.searchsorted(places, until)), len(places) - MAX_WAITING)
        if rows is None or not count:
            return None, places[:0]
        left = None if count == len(places) else rows.take(slice(count, None))
        self.rows = left, places[count:]
        return rows.take(slice(count)), places[:count]

    def forget(self, until: int, *, keyed: bool) -> None:
        """Drop rows that a later one of their key, itself before a place, stands in for."""
        rows, places = self.rows
        settled = max(int(np.searchsorted(places, until)), len(places) - MAX_WAITING)
        if rows is None or settled < 2:
            return
        groups = by_key(rows.key[:settled]) if keyed else [(0, slice(settled))]
        latest = [np.arange(settled)[group][-1] for _, group in groups]
        kept = np.concatenate([np.sort(latest), np.arange(settled, len(places))])
        self.rows = rows.take(kept), places[kept]

    def state(self) -> Any:
        """Return the rows as plain arrays."""
        rows, places = self.rows
        if rows is None:
            return [self._last]
        return [self._last, rows.values, rows.t, rows.key, rows.span, places, rows.columns]

    def restore(self, state: Any) -> None:
        """Take back what `state` returned."""
        self._last, *parts = state
        if parts:
            values, t, key, span, places, columns = parts
            self.dtype = values.dtype
            named = None if columns is None else tuple(columns)
            self.rows = Batch(values, t, key, span, named), places


def _lanes(flows: Sequence[Flow]) -> list[list[int]]:
    """Return where the span columns of each source stand among those of the result."""
    inputs = list(dict.fromkeys(name for flow in flows for name in flow.inputs))
    return [[2 * inputs.index(name) + end for name in flow.inputs for end in (0, 1)] for flow in flows]


def _latest(index: Int64s, places: Int64s, wanted: Int64s) -> Int64s:
    """Return, of rows by place, the last at each wanted place or before it; `NO_ROW` before the first."""
    found = np.searchsorted(places, wanted, side="right") - 1
    return np.where(found >= 0, index[found], NO_ROW)


def _stretch(span: Int64s, rows: Rows, other: Int64s) -> None:
    """Widen spans in place, so that they hold others too."""
    mine = span[rows]
    first, theirs = mine[:, ::2], other[:, ::2]
    mine[:, ::2] = np.where(
        first == NO_ROW, theirs, np.where(theirs == NO_ROW, first, np.fmin(first, theirs))
    )
    mine[:, 1::2] = np.maximum(mine[:, 1::2], other[:, 1::2])
    span[rows] = mine
