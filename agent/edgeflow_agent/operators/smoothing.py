"""`ewma` and `filter_iir`: recursions over the rows of each key."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from edgeflow_agent.core.batch import Batch, Int64s, Rows, Values
from edgeflow_agent.core.ports import Operator, StepContext
from edgeflow_agent.operators import recursion
from edgeflow_agent.operators.keys import by_key
from edgeflow_agent.operators.recursion import Doubles
from edgeflow_proto.pipeline.kinds.steps import signal

_HUGE = 1e150  # values beyond it could overflow within, and what is carried would be NaN from then on


class Smoother(Operator):
    """``(n, *row)`` → ``(n, *row)``, in float64 inside; rows with a value that is no number give NaN."""

    stateless: ClassVar[bool] = False

    def __init__(self, context: StepContext) -> None:
        self._dtype = np.dtype(context.flows[""].dtype or np.float32)
        self._known: dict[int, Any] = {}  # what is carried of each key

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return the rows, each with what came before it."""
        flat = batch.values.reshape(len(batch), -1).astype(np.float64)
        whole: Rows = np.logical_and.reduce(np.abs(flat) <= _HUGE, axis=1)
        out = np.full_like(flat, np.nan)
        for key, rows in by_key(batch.key):
            index = np.arange(len(batch))[rows]
            index = index[whole[index]]
            if len(index):
                out[index] = self._follow(key, flat[index], batch.t[index])
        return {"": batch.having(self._shaped(out, batch.values), batch.columns)}

    def _shaped(self, out: Doubles, like: Values) -> Values:
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
            return out.reshape(like.shape).astype(self._dtype)

    def _follow(self, key: int, values: Doubles, t: Int64s) -> Doubles:
        """Return what comes of rows of one key, ``(n, values)``."""
        raise NotImplementedError

    def gap(self) -> None:
        """Begin anew."""
        self._known.clear()

    def state(self) -> dict[int, Any]:
        """Return what is carried of each key."""
        return dict(self._known)

    def restore(self, state: dict[int, Any]) -> None:
        """Take it back."""
        self._known = dict(state)


class MeanByRows(Smoother):
    """The weight of a row depends on how many came after it."""

    def __init__(self, options: signal.Ewma, context: StepContext) -> None:
        super().__init__(context)
        rows = options.half_life.rows if options.half_life is not None else None
        self._mean = recursion.mean(options.alpha or 1 - 0.5 ** (1 / (rows or 1)))

    def _follow(self, key: int, values: Doubles, t: Int64s) -> Doubles:
        before = self._known.get(key)
        out, self._known[key] = self._mean(values, values[:1] if before is None else before)
        return out


class MeanByTime(Smoother):
    """The weight of a row depends on how long ago it was; a late one came with the newest before it."""

    def __init__(self, options: signal.Ewma, context: StepContext) -> None:
        super().__init__(context)
        self._half_life = options.half_life.ns or 1 if options.half_life is not None else 1

    def _follow(self, key: int, values: Doubles, t: Int64s) -> Doubles:
        mean, since = self._known.get(key) or (values[0], int(t[0]))
        t = np.maximum.accumulate(np.append(since, t))
        keep = 0.5 ** (np.diff(t) / self._half_life)
        out = np.empty_like(values)
        for row, (value, share) in enumerate(zip(values, keep.tolist(), strict=True)):
            mean = value + share * (mean - value)
            out[row] = mean
        self._known[key] = (mean, int(t[-1]))
        return out


def ewma(options: signal.Ewma, context: StepContext) -> Operator:
    """Return the step of an `ewma`."""
    by_time = options.half_life is not None and options.half_life.ns is not None
    return MeanByTime(options, context) if by_time else MeanByRows(options, context)


class FilterIir(Smoother):
    """Biquads one after another, at rest in the beginning."""

    def __init__(self, options: signal.FilterIir, context: StepContext) -> None:
        super().__init__(context)
        self._sections = [recursion.biquad(*each) for each in options.sections(context.upstream.rate)]

    def _follow(self, key: int, values: Doubles, t: Int64s) -> Doubles:
        states = self._known.get(key) or [np.zeros((2, values.shape[1]))] * len(self._sections)
        behind = []
        for section, state in zip(self._sections, states, strict=True):
            values, after = section(values, state)
            behind.append(after)
        self._known[key] = behind
        return values
