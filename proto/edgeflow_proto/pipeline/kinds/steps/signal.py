"""Step kinds that compute on windows and signals."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import msgspec

from edgeflow_proto.pipeline.flow import MAX_COLUMNS, Flow
from edgeflow_proto.pipeline.kinds.base import (
    Context,
    StepKind,
    need_axes,
)
from edgeflow_proto.pipeline.problem import Mistake
from edgeflow_proto.pipeline.units import Extent, Frequency

Statistic = Literal[
    "mean", "std", "rms", "min", "max", "peak_to_peak", "kurtosis", "crest", "zero_crossings",
    "q01", "q05", "q10", "q25", "median", "q75", "q90", "q95", "q99",
]  # fmt: skip
FLOATS = ("float32", "float64")
LEAST_WINDOW = 2  # rows that have a spectrum: of a single one a window function leaves nothing
MAX_SECTIONS = 32
LEAST_TURN = 1e-6  # of the rate; below it a filter's coefficients are its rounding errors
Section = tuple[float, float, float, float, float]  # b0, b1, b2, a1, a2; a0 is 1


class Stats(StepKind, frozen=True, kw_only=True):
    """Statistics of each column over a window: ``(size, columns)`` → ``x.mean, x.std, …`` in float32.

    `std` divides by n. `kurtosis` is Pearson's (3 for a normal distribution). `crest` is peak over rms.
    Kurtosis of a constant is 0, and crest of zeros. `zero_crossings` counts changes of sign, zeros left
    out. `q05` and its like are quantiles, on the line between the nearest two values. A NaN makes all
    those of its window and column NaN.
    """

    short: ClassVar[str | None] = "functions"
    functions: list[Statistic]

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """One column per input column and function, column by column."""
        if not self.functions or len(set(self.functions)) < len(self.functions):
            raise Mistake("name each function once, and at least one", option="functions")
        need_axes(upstream, 2, "needs windows of columns")
        if upstream.columns is None:
            return {"": upstream.having(shape=None, dtype="float32", columns=None, rate=upstream.rate)}
        if len(upstream.columns) * len(self.functions) > MAX_COLUMNS:
            raise Mistake(f"makes more than {MAX_COLUMNS} columns", option="functions")
        columns = tuple(f"{column}.{name}" for column in upstream.columns for name in self.functions)
        return {
            "": upstream.having(shape=(len(columns),), dtype="float32", columns=columns, rate=upstream.rate)
        }


class Spectrum(StepKind, frozen=True, kw_only=True):
    """The spectrum of each column of a window, by the real Fourier transform.

    ``(size, columns)`` → ``(size // 2 + 1, columns)`` magnitudes or powers; or with ``bands: {low: [0, 10],
    high: [10, 50]}`` the power in each band, lower end in and upper end out, in Hz: columns ``x.low,
    x.high, …``. Line k is k times the rate over the size. Magnitudes are unscaled. Powers are one-sided and
    scaled so that those of all lines add up to the mean square of the signal, whatever the `window` function
    takes away. Source: Parseval's theorem; Harris (1978), "On the use of windows for harmonic analysis".
    """

    short: ClassVar[str | None] = "output"
    output: Literal["magnitude", "power"] = "magnitude"
    window: Literal["none", "hann", "hamming", "blackman"] = "hann"
    bands: dict[str, list[float]] | None = None

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """Lines of the spectrum as rows of the window's columns, or one column per column and band."""
        need_axes(upstream, 2, "needs windows of columns")
        if upstream.shape is not None and upstream.shape[0] < LEAST_WINDOW:
            raise Mistake(f"needs windows of {LEAST_WINDOW} rows or more", option="from")
        made = self._lined(upstream) if self.bands is None else self._banded(upstream)
        return {"": msgspec.structs.replace(made, sample_rate=None)}

    def _lined(self, upstream: Flow) -> Flow:
        shape = None if upstream.shape is None else (upstream.shape[0] // 2 + 1, upstream.shape[1])
        return upstream.having(shape=shape, dtype="float32", columns=upstream.columns, rate=upstream.rate)

    def _banded(self, upstream: Flow) -> Flow:
        if upstream.sample_rate is None and upstream.inputs:
            what = "bands need the rate of the rows in the window"
            raise Mistake(what, option="bands", hint="state the input's rate")
        for name, ends in (self.bands or {}).items():
            if not name.isidentifier() or len(ends) != 2 or not 0 <= ends[0] < ends[1]:
                raise Mistake(f"'{name}' is two frequencies, the lower one first", option="bands")
            if upstream.sample_rate is not None and ends[0] >= upstream.sample_rate / 2:
                half = f"half the rate, {upstream.sample_rate / 2:g} Hz"
                raise Mistake(f"'{name}' begins beyond {half}", option="bands")
        if not self.bands:
            raise Mistake("name at least one band", option="bands")
        if upstream.columns is None:
            return upstream.having(shape=None, dtype="float32", columns=None, rate=upstream.rate)
        columns = tuple(f"{column}.{name}" for column in upstream.columns for name in self.bands)
        if len(columns) > MAX_COLUMNS:
            raise Mistake(f"makes more than {MAX_COLUMNS} columns", option="bands")
        return upstream.having(shape=(len(columns),), dtype="float32", columns=columns, rate=upstream.rate)


class Ewma(StepKind, frozen=True, kw_only=True):
    """The exponentially weighted mean of the rows so far, per key; it begins with the first row.

    By `alpha`, the weight of the newest row, or by `half_life`: after so many rows, or so much time by the
    rows' times, a row counts half; by time, one no newer than the row before it counts nothing. A row with a
    value that is no number, or beyond 1e150, gives NaN and is left out.
    """

    short: ClassVar[str | None] = "half_life"
    half_life: Extent | None = None
    alpha: float | None = None

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The same rows, smoothed, as floats."""
        if (self.half_life is None) == (self.alpha is None):
            raise Mistake("give either half_life or alpha")
        if self.alpha is not None and not 0 < self.alpha <= 1:
            raise Mistake("must be above 0 and at most 1", option="alpha")
        return {"": _floats(upstream)}


class FilterIir(StepKind, frozen=True, kw_only=True):
    """A recursive filter of every column, its state carried per key: biquads one after another.

    One of `lowpass`, `highpass`, `bandpass` (two frequencies: a highpass and a lowpass) as Butterworth
    filters of `order`, a `notch` of quality `q`, or second-order sections as `sos` (``[b0, b1, b2, a0, a1,
    a2]`` each). It begins at rest. A row with a value that is no number, or beyond 1e150, gives NaN and is
    left out. Source: bilinear transform with prewarped frequency, Bristow-Johnson, "Cookbook formulae for
    audio EQ biquad filter coefficients".
    """

    lowpass: Frequency | None = None
    highpass: Frequency | None = None
    bandpass: list[Frequency] | None = None
    notch: Frequency | None = None
    q: float = 30.0
    order: int = 2
    sos: list[list[float]] | None = None

    def sections(self, rate: float | None) -> list[Section]:
        """Return the biquads; raises Mistake where they cannot be designed at that rate."""
        named = [
            name
            for name in ("lowpass", "highpass", "bandpass", "notch", "sos")
            if getattr(self, name) is not None
        ]
        if len(named) != 1:
            raise Mistake("give one of lowpass, highpass, bandpass, notch and sos")
        self._check_shape(named[0])
        if self.sos is not None:
            if not 1 <= len(self.sos) <= MAX_SECTIONS:
                raise Mistake(f"is between 1 and {MAX_SECTIONS} sections", option="sos")
            return [_given(section) for section in self.sos]
        if rate is None:
            raise Mistake(
                "a frequency needs a rate", option=named[0], hint="state the input's rate, or resample"
            )
        return self._designed(rate)

    def _check_shape(self, name: str) -> None:
        """Raise Mistake for an order or quality out of its range, or of a filter that has none."""
        if name in ("notch", "sos") and self.order != 2:
            raise Mistake(f"{name} has none", option="order")
        if name != "notch" and self.q != 30:
            raise Mistake(f"{name} has none", option="q")
        if not 1 <= self.order <= 12:
            raise Mistake("must be between 1 and 12", option="order")
        if not 0 < self.q <= 1e6:
            raise Mistake("must be above 0 and at most 1e6", option="q")

    def _designed(self, rate: float) -> list[Section]:
        if self.lowpass is not None:
            return butterworth("lowpass", _turn(self.lowpass, rate, "lowpass"), self.order)
        if self.highpass is not None:
            return butterworth("highpass", _turn(self.highpass, rate, "highpass"), self.order)
        if self.notch is not None:
            return [_notch(_turn(self.notch, rate, "notch"), self.q)]
        low, high = [_turn(each, rate, "bandpass") for each in self._band()]
        return butterworth("highpass", low, self.order) + butterworth("lowpass", high, self.order)

    def _band(self) -> list[Frequency]:
        band = self.bandpass or []
        if len(band) != 2 or not band[0] < band[1]:
            raise Mistake("is two frequencies, the lower one first", option="bandpass")
        return band

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The same rows, filtered, as floats."""
        if upstream.inputs:
            self.sections(upstream.rate)
        return {"": _floats(upstream)}


def butterworth(kind: Literal["lowpass", "highpass"], turn: float, order: int) -> list[Section]:
    """Return a Butterworth filter as biquads; `turn` is the cutoff in radians per sample.

    Pairs of poles at an angle have the quality ``1 / (2 cos angle)``; an odd order has a single pole
    besides.
    """
    angles = [math.pi * (2 * pair + 1 + order % 2) / (2 * order) for pair in range(order // 2)]
    sections = [_pass(kind, turn, 1 / (2 * math.cos(angle))) for angle in angles]
    return [*sections, _single(kind, turn)] if order % 2 else sections


def _pass(kind: str, turn: float, quality: float) -> Section:
    alpha, cosine = math.sin(turn) / (2 * quality), math.cos(turn)
    edge = 2 * (math.sin(turn / 2) if kind == "lowpass" else math.cos(turn / 2)) ** 2  # 1 -+ cosine
    middle = edge if kind == "lowpass" else -edge
    return _given([edge / 2, middle, edge / 2, 1 + alpha, -2 * cosine, 1 - alpha])


def _single(kind: str, turn: float) -> Section:
    warped = math.tan(turn / 2)
    if kind == "lowpass":
        return _given([warped, warped, 0, 1 + warped, warped - 1, 0])
    return _given([1, -1, 0, 1 + warped, warped - 1, 0])


def _notch(turn: float, quality: float) -> Section:
    alpha, cosine = math.sin(turn) / (2 * quality), math.cos(turn)
    return _given([1, -2 * cosine, 1, 1 + alpha, -2 * cosine, 1 - alpha])


def _given(section: list[float]) -> Section:
    """Return a section with a0 = 1; raises Mistake where it is none, or grows without end."""
    if len(section) != 6 or not section[3] or not all(map(math.isfinite, section)):
        raise Mistake("a section is b0, b1, b2, a0, a1, a2, and a0 is not 0", option="sos")
    b0, b1, b2, _, a1, a2 = (value / section[3] for value in section)
    if not (abs(a2) < 1 and abs(a1) < 1 + a2):  # both poles inside the unit circle
        raise Mistake("a section is not stable", option="sos")
    return b0, b1, b2, a1, a2


def _turn(frequency: float, rate: float, option: str) -> float:
    if frequency >= rate / 2:
        raise Mistake(f"must be below half the rate, {rate / 2:g} Hz", option=option)
    if frequency < rate * LEAST_TURN:
        what = f"is too low for {rate:g} Hz, at least {rate * LEAST_TURN:g} Hz"
        raise Mistake(what, option=option, hint="resample before it")
    return 2 * math.pi * frequency / rate


def _floats(upstream: Flow) -> Flow:
    dtype = upstream.dtype if upstream.dtype in (*FLOATS, None) else "float32"
    return msgspec.structs.replace(upstream, dtype=dtype, codes={})
