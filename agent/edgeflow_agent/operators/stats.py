"""`stats`: statistics of each column over a window."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import get_args

import numpy as np
import numpy.typing as npt

from edgeflow_agent.core.batch import Batch, Values
from edgeflow_agent.core.ports import Operator, StepContext
from edgeflow_proto.pipeline.kinds.steps import signal

Doubles = npt.NDArray[np.float64]

_CHUNK = 1 << 16  # values worked on at once, so that they stay in the cache
_ROUNDING = 16 * np.finfo(np.float64).eps  # a spread below this part of the mean is none


class Stats(Operator):
    """``(n, size, columns)`` → ``(n, columns · functions)`` float32, column by column, by way of float64."""

    def __init__(self, options: signal.Stats, context: StepContext) -> None:
        self._names = tuple(options.functions)
        self._functions = [_FUNCTIONS[name] for name in options.functions]

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return one row of statistics per window."""
        values = batch.values
        if values.ndim != 3:
            raise ValueError(f"needs windows of columns, not rows of shape {list(values.shape[1:])}")
        count, size, columns = values.shape
        out = np.empty((count, columns, len(self._functions)), np.float32)
        step = max(1, _CHUNK // (size * columns))
        with np.errstate(all="ignore"):
            for start in range(0, count, step):
                self._fill(out[start : start + step], values[start : start + step])
        return {"": batch.having(out.reshape(count, -1), self._columns(batch.columns))}

    def _fill(self, out: Values, values: Values) -> None:
        windows = _Windows(values)
        for index, function in enumerate(self._functions):
            out[:, :, index] = function(windows)

    def _columns(self, columns: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if columns is None:
            return None
        return tuple(f"{column}.{name}" for column in columns for name in self._names)


class _Windows:
    """Windows column by column, with what several statistics need worked out once; all ``(n, columns)``."""

    def __init__(self, values: Values) -> None:
        # A column's values side by side: sums over them are then several times faster.
        self.x: Doubles = np.ascontiguousarray(values.swapaxes(1, 2), np.float64)

    @cached_property
    def mean(self) -> Doubles:
        return _mean(self.x)

    @cached_property
    def squares(self) -> Doubles:
        """Squared distances from the mean, ``(n, columns, size)``: the second pass of two."""
        centred = self.x - self.mean[:, :, None]
        return np.multiply(centred, centred, out=centred)

    @cached_property
    def variance(self) -> Doubles:
        return _mean(self.squares)

    @cached_property
    def rms(self) -> Doubles:
        return np.sqrt(_mean_square(self.x))

    @cached_property
    def min(self) -> Doubles:
        return _over(np.minimum, self.x)

    @cached_property
    def max(self) -> Doubles:
        return _over(np.maximum, self.x)

    @property
    def peak(self) -> Doubles:
        return np.maximum(self.max, -self.min)

    @property
    def kurtosis(self) -> Doubles:
        fourth = _mean_square(self.squares)
        constant = self.variance <= np.square(_ROUNDING * self.mean)
        return np.where(constant, 0.0, fourth / np.square(self.variance))

    @property
    def crest(self) -> Doubles:
        return np.where(self.rms == 0, 0.0, self.peak / self.rms)

    @property
    def crossings(self) -> Doubles:
        """How often neighbours that are not zero differ in sign: a zero takes the sign before it."""
        signs = np.sign(self.x)
        place = np.maximum.accumulate(np.where(signs != 0, np.arange(signs.shape[2]), 0), axis=2)
        signs = np.take_along_axis(signs, place, axis=2)
        changes: Doubles = np.sum(signs[:, :, 1:] * signs[:, :, :-1] < 0, axis=2, dtype=np.float64)
        return np.where(np.isnan(self.min), np.nan, changes)

    def quantile(self, share: float) -> Doubles:
        """The value that a share of the others are not above, on the line between the nearest two."""
        return np.quantile(self.x, share, axis=2)


def _quantile(windows: _Windows, share: float) -> Doubles:
    return windows.quantile(share)


def _over(function: np.ufunc, values: Doubles) -> Doubles:
    result: Doubles = function.reduce(values, axis=2)
    return result


def _mean(values: Doubles) -> Doubles:
    return np.true_divide(_over(np.add, values), values.shape[2])


def _mean_square(values: Doubles) -> Doubles:
    total: Doubles = np.einsum("ncs,ncs->nc", values, values)
    return np.true_divide(total, values.shape[2])


_FUNCTIONS: dict[signal.Statistic, Callable[[_Windows], Doubles]] = {
    "mean": lambda windows: windows.mean,
    "std": lambda windows: np.sqrt(windows.variance),
    "rms": lambda windows: windows.rms,
    "min": lambda windows: windows.min,
    "max": lambda windows: windows.max,
    "peak_to_peak": lambda windows: windows.max - windows.min,
    "kurtosis": lambda windows: windows.kurtosis,
    "crest": lambda windows: windows.crest,
    "zero_crossings": lambda windows: windows.crossings,
    "median": lambda windows: windows.quantile(0.5),
    **{
        name: partial(_quantile, share=int(name[1:]) / 100)
        for name in get_args(signal.Statistic)
        if name[0] == "q"
    },
}
