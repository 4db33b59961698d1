from __future__ import annotations

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeflow_agent.core.batch import Batch, Values
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.steps.signal import Statistic, Stats
from tests.support.steps import alone, assert_indifferent, floats, rows, sizes, step

ALL = list(get_args(Statistic))
WINDOWS = Flow((6, 2), "float32", ("x", "y"), inputs=("in",))


def stats(values: Values, functions: list[Statistic] = ALL, flow: Flow = WINDOWS) -> Batch:
    return step(Stats(functions=functions), flow)(rows(values))[""]


def plain(values: Values) -> dict[str, float]:
    """The same of one column, as the books have it."""
    x = [float(value) for value in values]
    n, mean = len(x), sum(x) / len(x)
    m2, m4 = (sum((value - mean) ** power for value in x) / n for power in (2, 4))
    rms, peak = (sum(value**2 for value in x) / n) ** 0.5, max(map(abs, x))
    return {
        "mean": mean, "std": m2**0.5, "rms": rms, "min": min(x), "max": max(x),
        "peak_to_peak": max(x) - min(x),
        "kurtosis": m4 / m2**2 if len(set(x)) > 1 else 0.0, "crest": peak / rms if rms else 0.0,
        "zero_crossings": sum(a * b < 0 for a, b in pairwise([value for value in x if value])),
        "median": quantile(x, 0.5),
        **{name: quantile(x, int(name[1:]) / 100) for name in ALL if name[0] == "q"},
    }  # fmt: skip


def quantile(x: list[float], share: float) -> float:
    """On the line between the nearest two of the values in order."""
    place = share * (len(x) - 1)
    low, high = sorted(x)[int(place)], sorted(x)[min(int(place) + 1, len(x) - 1)]
    return low + (high - low) * (place - int(place))


@given(hnp.arrays(np.float32, (3, 6, 2), elements=st.floats(-100, 100, width=16)))
def test_every_function_is_what_the_books_say(values: Values) -> None:
    out = stats(values)
    assert out.columns == tuple(f"{column}.{name}" for column in "xy" for name in ALL)
    assert out.values.dtype == np.float32
    for row in range(3):
        wanted = [plain(values[row, :, column])[name] for column in (0, 1) for name in ALL]
        np.testing.assert_allclose(out.values[row], wanted, rtol=1e-5, atol=1e-5)


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 30), st.just(6), st.just(2)), elements=floats), sizes)
def test_statistics_do_not_depend_on_how_rows_are_cut(values: Values, sizes: list[int]) -> None:
    assert_indifferent(lambda: alone(step(Stats(functions=ALL), WINDOWS)), rows(values), sizes)


def test_constants_have_no_spread_and_no_kurtosis() -> None:
    for dtype in (np.float32, np.float64):
        out = stats(np.full((1, 6, 2), 0.1, dtype), ["std", "kurtosis", "crest"])
        np.testing.assert_allclose(out.values[0, :3], [0, 0, 1], atol=1e-7)
    assert not stats(np.zeros((1, 6, 2), np.float32)).values.any()


def test_a_small_spread_on_a_large_mean_is_found() -> None:
    noise = np.random.default_rng(3).normal(size=(1, 1000, 1))
    values = (1e6 + noise).astype(np.float64)
    out = stats(values, ["std"], Flow((1000, 1), "float64", ("x",)))
    assert out.values[0, 0] == pytest.approx(noise.std(), rel=1e-6)


def test_integers_do_not_overflow() -> None:
    out = stats(np.full((1, 6, 2), -128, np.int8), ["rms", "crest", "min"])
    np.testing.assert_array_equal(out.values[0, :3], [128, 1, -128])


def test_nan_stays_in_its_column_and_window() -> None:
    values = np.ones((2, 6, 2), np.float32)
    values[1, 3, 0] = np.nan
    for name in ALL:
        missing = np.isnan(stats(values, [name]).values)
        np.testing.assert_array_equal(missing, [[False, False], [True, False]], name)


def test_many_windows_are_worked_off_in_pieces() -> None:
    values = np.random.default_rng(4).normal(size=(70_000, 6, 2)).astype(np.float32)
    np.testing.assert_allclose(stats(values, ["mean"]).values, values.mean(axis=1), rtol=1e-3, atol=1e-6)


def test_rows_without_a_window_are_refused() -> None:
    with pytest.raises(ValueError, match="needs windows of columns"):
        step(Stats(functions=["mean"]), WINDOWS)(rows(np.zeros((3, 2), np.float32)))
