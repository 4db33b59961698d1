"""`ewma` and `filter_iir` against the recursions as one would write them down, and what they are for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.core.batch import Batch
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.base import StepKind
from edgeflow_proto.pipeline.kinds.steps.signal import Ewma, FilterIir
from edgeflow_proto.pipeline.units import Extent, Frequency
from tests.support.steps import PERIOD_NS, alone, assert_indifferent, cut, keyed, rows, run, sizes, step

RATE = 1000.0
IN = Flow((2,), "float64", ("x", "y"), rate=RATE, inputs=("in",), key="machine")
numbers = st.floats(-100, 100) | st.sampled_from([0.0, np.nan, np.inf])
FILTERS = [
    FilterIir(lowpass=Frequency(50), order=4), FilterIir(highpass=Frequency(50), order=3),
    FilterIir(bandpass=[Frequency(20), Frequency(200)]), FilterIir(notch=Frequency(50), q=5),
    FilterIir(sos=[[1, 2, 1, 2, 0.5, 0.25]]),
]  # fmt: skip


def double(batch: Batch) -> Batch:
    return Batch(batch.values.astype(np.float64), batch.t, batch.key, batch.span, batch.columns)


def outcome(options: StepKind, batch: Batch, sizes: list[int]) -> Batch:
    return assert_indifferent(lambda: alone(step(options, IN)), double(batch), sizes)["out"]


def by_key(batch: Batch) -> dict[int, list[int]]:
    """Return the rows of each key that are whole."""
    whole = np.isfinite(batch.values).all(axis=1)
    return {int(key): [row for row in np.flatnonzero(batch.key == key).tolist() if whole[row]]
            for key in np.unique(batch.key)}  # fmt: skip


@given(keyed(numbers), sizes, st.floats(0.01, 1))
def test_a_mean_by_alpha(batch: Batch, sizes: list[int], alpha: float) -> None:
    out = outcome(Ewma(alpha=alpha), batch, sizes)
    wanted = np.full((len(batch), 2), np.nan)
    for own in by_key(batch).values():
        mean = None
        for row in own:
            x = batch.values[row].astype(np.float64)
            mean = x if mean is None else mean + alpha * (x - mean)
            wanted[row] = mean
    np.testing.assert_allclose(out.values, wanted, rtol=1e-9, atol=1e-9)


@given(keyed(numbers), sizes, st.integers(1, 20))
def test_a_mean_by_time(batch: Batch, sizes: list[int], half_life: int) -> None:
    out = outcome(Ewma(half_life=Extent(ns=half_life * PERIOD_NS)), batch, sizes)
    wanted = np.full((len(batch), 2), np.nan)
    for own in by_key(batch).values():
        mean, since = None, 0
        for row in own:
            x, t = batch.values[row].astype(np.float64), int(batch.t[row])
            share = 0.5 ** ((t - since) / (half_life * PERIOD_NS))
            mean, since = x if mean is None else x + share * (mean - x), t
            wanted[row] = mean
    np.testing.assert_allclose(out.values, wanted, rtol=1e-9, atol=1e-9)


def test_a_row_counts_half_after_the_half_life_in_rows() -> None:
    values = np.zeros((9, 2))
    values[0] = 1
    out = run(lambda: alone(step(Ewma(half_life=Extent(4)), IN)), [rows(values)])["out"]
    assert out.values[4, 0] == pytest.approx(0.5)


@given(st.sampled_from(FILTERS), keyed(numbers), sizes)
def test_a_filter_is_its_difference_equation(options: FilterIir, batch: Batch, sizes: list[int]) -> None:
    out = outcome(options, batch, sizes)
    wanted = np.full((len(batch), 2), np.nan)
    for own in by_key(batch).values():
        x = batch.values[own].astype(np.float64)
        for b0, b1, b2, a1, a2 in options.sections(RATE):
            y = np.zeros_like(x)
            for n in range(len(x)):
                y[n] = b0 * x[n]
                y[n] += (b1 * x[n - 1] - a1 * y[n - 1]) if n > 0 else 0
                y[n] += (b2 * x[n - 2] - a2 * y[n - 2]) if n > 1 else 0
            x = y
        wanted[own] = x
    np.testing.assert_allclose(out.values, wanted, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize(
    "options",
    [
        FilterIir(lowpass=Frequency(0.01)), FilterIir(lowpass=Frequency(0.1), order=12),
        FilterIir(highpass=Frequency(0.1), order=7), FilterIir(sos=[[1, 0, 0, 1, -1.2, 0.36]]),
    ],
)  # fmt: skip
def test_a_far_cutoff_is_exact_however_rows_are_cut(options: FilterIir) -> None:
    samples = rows(1000 + np.random.default_rng(5).normal(size=(3000, 2)))
    one, other = [
        run(lambda: alone(step(options, IN)), cut(samples, sizes))["out"].values
        for sizes in ([3000], [1, 7, 100, 333])
    ]
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", [Ewma(alpha=0.5), Ewma(half_life=Extent(ns=1)), *FILTERS])
def test_a_huge_value_is_left_out_and_harms_nothing_behind_it(options: StepKind) -> None:
    samples = np.array([[1, 2], [1.7e308, 0], [-1.7e308, 0], [3, 4]])
    out = run(lambda: alone(step(options, IN)), [rows(samples)])["out"].values
    np.testing.assert_array_equal(np.isnan(out).any(axis=1), [False, True, True, False])


def test_a_late_row_does_not_move_a_mean_by_time() -> None:
    samples = rows(np.float64([[1, 1], [9, 9], [3, 3]]), t=[10**9, 0, 10**9 + PERIOD_NS])
    options = Ewma(half_life=Extent(ns=PERIOD_NS))
    for each in ([3], [1]):
        out = run(lambda: alone(step(options, IN)), cut(samples, each))["out"]
        assert out.values[:, 0].tolist() == [1, 1, 2]


def gain(options: FilterIir, hertz: float) -> float:
    """Return the amplitude that is left of a tone, in decibels."""
    tone = np.sin(2 * np.pi * hertz * np.arange(8000) / RATE)
    samples = rows(np.stack((tone, tone), axis=1))
    out = run(lambda: alone(step(options, IN)), cut(samples, [1000]))["out"]
    return 20 * math.log10(np.sqrt(2 * np.mean(out.values[4000:, 0] ** 2)) + 1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("kind", ["lowpass", "highpass"])
def test_a_butterworth_filter_halves_power_at_its_cutoff_and_falls_by_its_order(
    kind: str, order: int
) -> None:
    low = kind == "lowpass"
    options = FilterIir(order=order, **{kind: Frequency(100)})  # type: ignore[arg-type]
    assert gain(options, 100) == pytest.approx(-3.0103, abs=0.01)
    assert gain(options, 10 if low else 400) == pytest.approx(0, abs=0.2)
    there = 200 if low else 50
    turn = math.tan(math.pi * there / RATE) / math.tan(math.pi * 100 / RATE)
    wanted = -10 * math.log10(1 + (turn if low else 1 / turn) ** (2 * order))
    assert gain(options, there) == pytest.approx(wanted, abs=0.05)


def test_a_notch_takes_one_tone() -> None:
    options = FilterIir(notch=Frequency(50))
    assert gain(options, 50) < -60
    assert gain(options, 70) == pytest.approx(0, abs=0.1)


def test_a_gap_begins_anew() -> None:
    runtime = alone(step(Ewma(alpha=0.5), IN))
    runtime.push("in", rows(np.float64([[8, 8]])))
    runtime.gap("in")
    ((_, out),) = runtime.push("in", rows(np.float64([[2, 2]])))
    assert out.values.tolist() == [[2, 2]]
