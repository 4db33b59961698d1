"""`spectrum`: what frequencies a window holds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeflow_agent.core.batch import Batch, Values
from edgeflow_agent.core.ports import Operator, StepContext
from edgeflow_proto.pipeline.kinds.steps import signal

_CHUNK = 1 << 16  # values worked on at once, so that they stay in the cache
_COSINES = {"none": (1.0,), "hann": (0.5, 0.5), "hamming": (0.54, 0.46), "blackman": (0.42, 0.5, 0.08)}


class Spectrum(Operator):
    """``(n, size, columns)`` → ``(n, size // 2 + 1, columns)``, or ``(n, columns · bands)``, float32."""

    def __init__(self, options: signal.Spectrum, context: StepContext) -> None:
        self._options = options
        self._rate = context.upstream.sample_rate or 1.0
        self._size = 0
        self._measure(context.upstream.shape[0] if context.upstream.shape else signal.LEAST_WINDOW)

    def _measure(self, size: int) -> None:
        """Work out what depends on the windows' size alone."""
        self._size = size
        self._taper = taper(self._options.window, size)
        self._scale = np.full(size // 2 + 1, 2.0 / (size * np.square(self._taper).sum()))
        self._scale[0] /= 2
        self._scale[-1] /= 1 + (size % 2 == 0)
        lines = np.fft.rfftfreq(size, 1 / self._rate)
        bands = (self._options.bands or {}).values()
        inside = [(lines >= low) & (lines < high) for low, high in bands]
        self._bands = np.array(inside, np.float64).reshape(len(inside), len(lines))

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return each window's spectrum."""
        values = batch.values
        if values.ndim != 3:
            raise ValueError(f"needs windows of columns, not rows of shape {list(values.shape[1:])}")
        if values.shape[1] < signal.LEAST_WINDOW:
            raise ValueError(f"needs windows of {signal.LEAST_WINDOW} rows or more")
        if values.shape[1] != self._size:
            self._measure(values.shape[1])
        step = max(1, _CHUNK // max(1, values[0].size))
        with np.errstate(all="ignore"):  # of infinities NaN, and what float32 cannot hold is infinite
            parts = [self._lines(values[start : start + step]) for start in range(0, len(values), step)]
        return {"": batch.having(np.concatenate(parts), self._columns(batch.columns))}

    def _lines(self, values: Values) -> npt.NDArray[np.float32]:
        lines = np.abs(np.fft.rfft(values * self._taper[:, None], axis=1))
        if self._options.bands is None and self._options.output == "magnitude":
            return lines.astype(np.float32)
        power = np.square(lines) * self._scale[:, None]
        if self._options.bands is not None:
            power = (self._bands @ power).swapaxes(1, 2).reshape(len(values), -1)
        out: npt.NDArray[np.float32] = power.astype(np.float32)
        return out

    def _columns(self, columns: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if self._options.bands is None or columns is None:
            return columns
        return tuple(f"{column}.{band}" for column in columns for band in self._options.bands)


def taper(name: str, size: int) -> npt.NDArray[np.float64]:
    """Return a window function, periodic, as a sum of cosines."""
    angle = 2 * np.pi * np.arange(size) / size
    terms = [(-1) ** k * share * np.cos(k * angle) for k, share in enumerate(_COSINES[name])]
    total: npt.NDArray[np.float64] = np.sum(terms, axis=0)
    return total
