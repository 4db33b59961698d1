from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.core.batch import Batch
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.steps.signal import Spectrum
from tests.support.steps import alone, assert_indifferent, rows, run, sizes, step

RATE = 100.0
WINDOWS = ["none", "hann", "hamming", "blackman"]


def flow(size: int) -> Flow:
    return Flow((size, 2), "float32", ("x", "y"), rate=1.0, inputs=("in",), sample_rate=RATE)


def outcome(options: Spectrum, values: np.ndarray) -> Batch:  # type: ignore[type-arg]
    return run(lambda: alone(step(options, flow(values.shape[1]))), [rows(values)])["out"]


@given(st.integers(0, 99), st.integers(1, 20), st.integers(2, 33), sizes)
def test_magnitudes_are_those_of_the_fourier_transform(
    seed: int, count: int, size: int, sizes: list[int]
) -> None:
    values = np.random.default_rng(seed).normal(size=(count, size, 2)).astype(np.float32)
    options = Spectrum(window="none")
    out = assert_indifferent(lambda: alone(step(options, flow(size))), rows(values), sizes)["out"]
    np.testing.assert_allclose(out.values, np.abs(np.fft.rfft(values, axis=1)), rtol=1e-4, atol=1e-4)
    assert out.columns == ("x", "y")


@given(st.integers(0, 99), st.integers(2, 65))
def test_powers_add_up_to_the_mean_square(seed: int, size: int) -> None:
    values = np.random.default_rng(seed).normal(size=(3, size, 2)).astype(np.float32)
    out = outcome(Spectrum(output="power", window="none"), values)
    np.testing.assert_allclose(out.values.sum(axis=1), np.square(values).mean(axis=1), rtol=1e-4)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_tone_is_in_its_band_with_its_power(window: str) -> None:
    t = np.arange(200) / RATE
    values = np.stack([3 * np.sin(2 * np.pi * 12 * t), np.zeros(200)], axis=1)[None].astype(np.float32)
    options = Spectrum(window=window, bands={"low": [0, 5], "mid": [5, 20], "high": [20, 50]})  # type: ignore[arg-type]
    out = outcome(options, values)
    assert out.columns == ("x.low", "x.mid", "x.high", "y.low", "y.mid", "y.high")
    np.testing.assert_allclose(out.values, [[0, 4.5, 0, 0, 0, 0]], atol=0.01)


@pytest.mark.parametrize("window", WINDOWS)
def test_noise_has_its_power_whatever_the_window(window: str) -> None:
    values = np.random.default_rng(1).normal(size=(400, 256, 2)).astype(np.float32)
    out = outcome(Spectrum(output="power", window=window), values)  # type: ignore[arg-type]
    np.testing.assert_allclose(out.values.sum(axis=1).mean(axis=0), [1, 1], rtol=0.02)


def test_a_window_of_unknown_size_is_measured_when_it_comes() -> None:
    unknown = Flow(inputs=("in",), sample_rate=RATE)
    values = np.ones((1, 8, 2), np.float32)
    runtime = alone(step(Spectrum(output="power", window="none"), unknown))
    ((_, out),) = runtime.push("in", rows(values))
    np.testing.assert_allclose(out.values[0, :, 0], [1, 0, 0, 0, 0], atol=1e-6)
    with pytest.raises(ValueError, match="needs windows of 2 rows or more"):
        step(Spectrum(), unknown)(rows(values[:, :1]))


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_no_number_stays_in_its_column_and_window(value: float) -> None:
    values = np.ones((2, 4, 2), np.float32)
    values[1, 2, 0] = value
    finite = np.isfinite(outcome(Spectrum(output="power"), values).values).all(axis=1)
    assert finite.tolist() == [[True, True], [False, True]]
