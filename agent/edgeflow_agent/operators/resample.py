"""`resample`: rows at even times, per key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol

import numpy as np

from edgeflow_agent.core.batch import Batch, Int64s, Rows, Values
from edgeflow_agent.core.ports import Operator, StepContext
from edgeflow_agent.operators.keys import by_key
from edgeflow_proto.pipeline.kinds.steps import shape


class Resample(Operator):
    """``(n, *row)`` → ``(k, *row)`` at multiples of the period, in the order of what brings them about.

    A row spans from the first row it is made of to the one that brought it about, which is at its time or
    past it. A time that goes back counts as the latest before it.
    """

    stateless: ClassVar[bool] = False

    def __init__(self, options: shape.Resample, context: StepContext) -> None:
        self._begin: Callable[[], _Track] = partial(_Mean if options.method == "mean" else _Line, options)
        self._tracks: dict[int, _Track] = {}

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Take rows in; return those at even times that they bring about."""
        parts: list[tuple[int, _Made, Rows]] = []
        for key, rows in by_key(batch.key):
            track = self._tracks.setdefault(key, self._begin())
            made = track.follow(batch.values[rows], batch.t[rows], batch.span[rows])
            if made is not None and len(made.t):
                parts.append((key, made, made.by if isinstance(rows, slice) else rows[made.by]))
        return {"": _in_order(parts, batch.columns)} if parts else {}

    def gap(self) -> None:
        """Nothing is made up across a gap."""
        self._tracks.clear()

    def state(self) -> dict[int, Any]:
        """Return what times to come need, per key."""
        return {key: track.state() for key, track in self._tracks.items()}

    def restore(self, state: dict[int, Any]) -> None:
        """Take it back."""
        self._tracks = {key: self._begin() for key in state}
        for key, kept in state.items():
            self._tracks[key].restore(*kept)


@dataclass(frozen=True, slots=True)
class _Made:
    """Rows at even times; `by` tells which row of the call brought each about."""

    values: Values
    t: Int64s
    span: Int64s
    by: Int64s


class _Track(Protocol):
    """What is followed of one key."""

    def follow(self, values: Values, t: Int64s, span: Int64s) -> _Made | None: ...

    def state(self) -> Any: ...

    def restore(self, *state: Any) -> None: ...


class _Line:
    """Between rows: on the line from one to the next, or at the height of the one before."""

    def __init__(self, options: shape.Resample) -> None:
        self._period, self._max_gap = options.period_ns, options.max_gap_ns
        self._interpolate = options.method == "linear"
        self._last: tuple[Values, Int64s, Int64s] | None = None  # arrays of one row

    def follow(self, values: Values, t: Int64s, span: Int64s) -> _Made:
        fresh = self._last is None
        if self._last is not None:
            values, t, span = (np.concatenate(two) for two in zip(self._last, (values, t, span), strict=True))
        t = np.maximum.accumulate(t)
        self._last = values[-1:].copy(), t[-1:].copy(), span[-1:].copy()
        count = self._count(t, fresh)
        after = np.repeat(np.arange(len(t)), count)
        nth = np.arange(len(after)) - np.repeat(np.cumsum(count) - count, count)  # of those after one row
        even = ((t // self._period)[after] - count[after] + 1 + nth) * self._period
        before = np.where(even == t[after], after, after - 1)
        spans = span[after].copy()
        spans[:, ::2] = span[before, ::2]
        made = self._between(values, t, before, even) if self._interpolate else values[before]
        return _Made(made, even, spans, after - (not fresh))

    def _count(self, t: Int64s, fresh: bool) -> Int64s:
        """How many even times lie after the row before each row, up to its own."""
        count = np.diff(t // self._period, prepend=t[0] // self._period)
        at = t % self._period == 0
        far = np.diff(t, prepend=t[0]) > self._max_gap
        count[far] = at[far]
        count[0] = fresh and at[0]
        return count

    def _between(self, values: Values, t: Int64s, before: Int64s, even: Int64s) -> Values:
        after = np.minimum(before + 1, len(t) - 1)
        length = np.maximum(t[after] - t[before], 1)
        share = ((even - t[before]) / length).reshape(-1, *(1,) * (values.ndim - 1))
        line = values[before] * (1 - share) + values[after] * share
        return np.where(share == 0, values[before], line).astype(values.dtype)

    def state(self) -> Any:
        return self._last

    def restore(self, *state: Any) -> None:
        self._last = (state[0], state[1], state[2])


class _Mean:
    """Averages of the rows since the even time before; one is known when a row past its time comes."""

    def __init__(self, options: shape.Resample) -> None:
        self._period = options.period_ns
        self._open: _Sums | None = None  # of one time, which more rows may belong to

    def follow(self, values: Values, t: Int64s, span: Int64s) -> _Made:
        times = np.maximum.accumulate(-(-t // self._period)) * self._period
        times = times if self._open is None else np.maximum(times, self._open.t[0])
        starts = np.flatnonzero(np.diff(times, prepend=times[0] - 1))
        sums = np.add.reduceat(values, starts, axis=0, dtype=np.float64)
        found = _Sums(times[starts], sums, np.diff(starts, append=len(t)), span[starts, ::2])
        if self._open is not None:
            found, starts = found.behind(self._open, starts)
        self._open, done, by = found.take(slice(-1, None)), found.take(slice(-1)), starts[1:]
        spans = span[by].copy()
        spans[:, ::2] = done.first
        return _Made(done.mean.astype(values.dtype), done.t, spans, by)

    def state(self) -> Any:
        return _arrays(self._open) if self._open is not None else ()

    def restore(self, *state: Any) -> None:
        self._open = _Sums(*state)


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums of rows by the even time they belong to."""

    t: Int64s
    sum: Values
    count: Int64s
    first: Int64s

    @property
    def mean(self) -> Values:
        return self.sum / self.count.reshape(-1, *(1,) * (self.sum.ndim - 1))

    def behind(self, before: _Sums, starts: Int64s) -> tuple[_Sums, Int64s]:
        """Put one time's sums before these, or into the first; and where the rows of each start."""
        mine, its = _arrays(self), _arrays(before)
        if before.t[0] < self.t[0]:
            return _Sums(*map(np.concatenate, zip(its, mine, strict=True))), np.append(0, starts)
        self.sum[:1] += before.sum
        self.count[:1] += before.count
        self.first[:1] = before.first
        return self, starts

    def take(self, rows: slice) -> _Sums:
        return _Sums(*(part[rows] for part in _arrays(self)))


def _arrays(sums: _Sums) -> tuple[Int64s, Values, Int64s, Int64s]:
    """Return the arrays themselves (dataclasses' own function copies them)."""
    return sums.t, sums.sum, sums.count, sums.first


def _in_order(parts: list[tuple[int, _Made, Rows]], columns: tuple[str, ...] | None) -> Batch:
    values, t, span = (
        np.concatenate([getattr(made, name) for _, made, _ in parts]) for name in ("values", "t", "span")
    )
    key = np.repeat(np.array([key for key, _, _ in parts], np.uint32), [len(made.t) for _, made, _ in parts])
    batch = Batch(values, t, key, span, columns)
    by = np.concatenate([rows for _, _, rows in parts])
    return batch if len(parts) == 1 else batch.take(np.argsort(by, kind="stable"))
