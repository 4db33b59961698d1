"""`map`, `scale`, `fill`, `drop`, `diff`, `cast` and `reshape`: other values of rows."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from edgeflow_agent.core.batch import Batch, Int64s, Rows, Values
from edgeflow_agent.core.ports import Operator, StepContext
from edgeflow_agent.operators.columns import compiled, positions, truth
from edgeflow_agent.operators.keys import by_key
from edgeflow_proto.pipeline import expression
from edgeflow_proto.pipeline.kinds.steps import values


class Map(Operator):
    """``(n, columns)`` → ``(n, expressions)``, behind the old columns where those stay."""

    def __init__(self, options: values.Map, context: StepContext) -> None:
        self._keep = options.keep
        self._names = tuple(options.columns)
        self._terms = [compiled(expression.parse(text)) for text in options.columns.values()]

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return each expression's values."""
        old = batch.values.shape[1] if self._keep else 0
        out = np.empty((len(batch), old + len(self._terms)), _floating(batch.values))
        if self._keep:
            out[:, :old] = batch.values
        with np.errstate(all="ignore"):  # 1/0 is inf, as everywhere in this field
            for place, term in enumerate(self._terms, old):
                out[:, place] = term(batch)
        kept = (batch.columns or ()) if self._keep else ()
        return {"": batch.having(out, (*kept, *self._names))}


class Scale(Operator):
    """``(n, *row)`` → ``(n, *row)``, value · factor + offset."""

    def __init__(self, options: values.Scale, context: StepContext) -> None:
        self._columns = options.columns
        self._factor, self._offset = options.line

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return the rows on their new scale."""
        out = np.array(batch.values, _floating(batch.values))
        part: Any = ... if self._columns is None else (..., positions(batch.columns, self._columns))
        with np.errstate(all="ignore"):  # what does not fit is infinite, as in any float
            out[part] = out[part] * self._factor + self._offset
        return {"": batch.having(out, batch.columns)}


class FillValue(Operator):
    """``(n, *row)`` → ``(n, *row)``, a value in the place of NaN."""

    def __init__(self, options: values.Fill, context: StepContext) -> None:
        self._value, self._columns = options.value, options.columns

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return the rows without NaN in those columns."""
        missing = _missing(batch, self._columns)
        if not missing.any():
            return {"": batch}
        out = batch.values.copy()
        with np.errstate(over="ignore"):
            out[missing] = self._value
        return {"": batch.having(out, batch.columns)}


class FillLast(Operator):
    """``(n, *row)`` → ``(n, *row)``, the key's last value in the place of NaN."""

    stateless: ClassVar[bool] = False

    def __init__(self, options: values.Fill, context: StepContext) -> None:
        self._columns = options.columns
        self._last: dict[int, Values] = {}

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return the rows, with what was known in the place of what is missing."""
        out = batch.values.copy()
        missing = _missing(batch, self._columns)
        for key, rows in by_key(batch.key):
            own = _carried(out[rows], missing[rows], self._last.get(key))
            out[rows] = own
            self._last[key] = own[-1].copy()
        return {"": batch.having(out, batch.columns)}

    def gap(self) -> None:
        """What was known may be long past."""
        self._last.clear()

    def state(self) -> dict[int, Values]:
        """Return the last values of each key."""
        return dict(self._last)

    def restore(self, state: dict[int, Values]) -> None:
        """Take them back."""
        self._last = dict(state)


def _carried(own: Values, missing: Rows, last: Values | None) -> Values:
    """Return rows in which each missing value is the one before it in its place."""
    before = np.full_like(own[:1], np.nan) if last is None else last[None]
    whole = np.concatenate([before, own])
    known = np.concatenate([np.zeros_like(missing[:1]), missing])
    index = np.arange(len(whole)).reshape(-1, *(1,) * (whole.ndim - 1))
    source = np.maximum.accumulate(np.where(known, 0, index), axis=0)
    return np.take_along_axis(whole, source, axis=0)[1:]


class Drop(Operator):
    """``(n, *row)`` → those without NaN."""

    def __init__(self, options: values.Drop, context: StepContext) -> None:
        self._columns = options.columns
        self._all = options.when == "all"

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return the rows that are whole enough."""
        part: Any = ... if self._columns is None else (..., positions(batch.columns, self._columns))
        missing = np.isnan(batch.values[part]).reshape(len(batch), -1)
        kept: Rows = np.logical_not(missing.all(axis=1) if self._all else missing.any(axis=1))
        return {"": batch if kept.all() else batch.take(kept)}


class Diff(Operator):
    """``(n, *row)`` → ``(n - first of each key, *row)``: row minus the key's row before it."""

    stateless: ClassVar[bool] = False

    def __init__(self, options: values.Diff, context: StepContext) -> None:
        self._per, self._columns = options.per, options.columns
        self._last: dict[int, tuple[Values, Int64s]] = {}  # values and time, arrays of one row

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return the differences, each with the span of its two rows' newer one and the older one's first."""
        dtype = batch.values.dtype if batch.values.dtype.kind == "f" else np.dtype(np.float64)
        out = np.array(batch.values, dtype)
        span, fresh = batch.span.copy(), np.zeros(len(batch), bool)
        for key, rows in by_key(batch.key):
            self._follow(key, batch, rows, (out, span, fresh))
        made = Batch(out, batch.t, batch.key, span, batch.columns)
        return {"": made.take(~fresh) if fresh.any() else made}

    def _follow(self, key: int, batch: Batch, rows: Rows | slice, to: tuple[Values, Int64s, Rows]) -> None:
        out, span, fresh = to
        own, t, place = out[rows], batch.t[rows], batch.span[rows]
        last = self._last.get(key)
        self._last[key] = (own[-1:].copy(), np.concatenate([t[-1:], place[-1]]))
        before, since, first = (own[:1], t[:1], place[:1, ::2]) if last is None else _split(last)
        index = np.arange(len(batch))[rows]
        fresh[index[0]] = last is None
        earlier = np.concatenate([before, own[:-1]])
        part: Any = ... if self._columns is None else (..., positions(batch.columns, self._columns))
        change = own.copy()
        with np.errstate(all="ignore"):
            change[part] = own[part] - earlier[part]
            if self._per is not None:
                elapsed = np.diff(t, prepend=since) / self._per
                change[part] /= elapsed.reshape(-1, *(1,) * (change.ndim - 1)).astype(change.dtype)
        out[rows] = change
        starts = np.concatenate([first, place[:-1, ::2]])
        span[index[:, None], np.arange(0, span.shape[1], 2)] = starts

    def gap(self) -> None:
        """The next row of a key is a first one."""
        self._last.clear()

    def state(self) -> dict[int, tuple[Values, Int64s]]:
        """Return the last row of each key."""
        return dict(self._last)

    def restore(self, state: dict[int, tuple[Values, Int64s]]) -> None:
        """Take it back."""
        self._last = {key: (kept[0], kept[1]) for key, kept in state.items()}


def _split(last: tuple[Values, Int64s]) -> tuple[Values, Int64s, Int64s]:
    """Return a kept row's values, time, and first input rows."""
    values_, marks = last
    return values_, marks[:1], marks[None, 1::2]


class Cast(Operator):
    """``(n, *row)`` → ``(n, *row)`` in another dtype."""

    def __init__(self, options: values.Cast, context: StepContext) -> None:
        self._dtype = np.dtype(options.dtype)

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return the rows in that dtype."""
        return {"": batch.having(cast(batch.values, self._dtype), batch.columns)}


def cast(rows: Values, dtype: np.dtype[Any]) -> Values:
    """Return values in another dtype: to whole numbers rounded half to even and clipped, NaN as 0.

    To bool: whether a value is a number other than 0. To floats: infinite where they cannot hold it.
    """
    if dtype.kind == "b":
        return np.asarray(truth(rows))
    if dtype.kind == "f" or rows.dtype.kind == "b":
        with np.errstate(over="ignore"):
            return rows.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    if rows.dtype.kind != "f":
        return np.clip(
            rows, max(limits.min, np.iinfo(rows.dtype).min), min(limits.max, np.iinfo(rows.dtype).max)
        ).astype(dtype)
    whole = np.rint(np.nan_to_num(rows.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf))
    out = np.where(whole >= limits.max, limits.max, 0).astype(dtype)
    inside = (whole > limits.min) & (whole < limits.max)
    out[inside] = whole[inside].astype(dtype)
    out[whole <= limits.min] = limits.min
    return out


class Reshape(Operator):
    """``(n, *row)`` → ``(n, *shape)``, the same values."""

    def __init__(self, options: values.Reshape, context: StepContext) -> None:
        self._shape = tuple(options.shape)
        self._columns = None if options.columns is None else tuple(options.columns)

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return the rows in their new shape; raises ValueError where the number of values differs."""
        return {"": batch.having(batch.values.reshape(len(batch), *self._shape), self._columns)}


def fill(options: values.Fill, context: StepContext) -> Operator:
    """Return the step of a `fill`."""
    return FillLast(options, context) if options.value == "last" else FillValue(options, context)


def _missing(batch: Batch, columns: list[str] | None) -> Rows:
    """Return where values to be filled are NaN."""
    missing: Rows = np.isnan(batch.values)
    if columns is not None:
        others = np.ones(missing.shape[-1], bool)
        others[positions(batch.columns, columns)] = False
        missing[..., others] = False
    return missing


def _floating(rows: Values) -> np.dtype[Any]:
    return rows.dtype if rows.dtype.kind == "f" else np.dtype(np.float32)
