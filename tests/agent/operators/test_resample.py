from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.core.batch import Batch
from edgeflow_agent.runtime.run import Runtime
from edgeflow_proto.pipeline.kinds.steps.shape import Resample
from edgeflow_proto.pipeline.units import Duration, Frequency
from tests.support.steps import FIRST, PERIOD_NS, alone, assert_indifferent, keyed, rows, run, sizes, step

MS = PERIOD_NS
methods = st.sampled_from(["linear", "previous", "mean"])
finite = st.floats(-100, 100, width=32)


def resample(method: str, period_ms: int, max_gap_ms: int | None = None) -> Resample:
    gap = None if max_gap_ms is None else Duration(max_gap_ms * MS)
    return Resample(rate=Frequency(1000 / period_ms), method=method, max_gap=gap)  # type: ignore[arg-type]


def plain(own: Batch, options: Resample) -> list[tuple[int, list[float], int, int]]:
    """Return time, values, first and last row of what one key's rows make, as one would write it down."""
    period, made = options.period_ns, []
    t, values, row = own.t.tolist(), own.values.astype(float), own.span[:, 0].tolist()
    for i, now in enumerate(t):
        if i == 0 or now - t[i - 1] > options.max_gap_ns:
            evens = [now] if now % period == 0 and (i == 0 or now > t[i - 1]) else []
        else:
            evens = list(range((t[i - 1] // period + 1) * period, now + 1, period))
        for even in evens:
            before = i if even == now else i - 1
            share = 0 if even == now else (even - t[i - 1]) / (now - t[i - 1])
            line = values[before] if share == 0 else values[i - 1] * (1 - share) + values[i] * share
            made.append(
                (even, list(line if options.method == "linear" else values[before]), row[before], row[i])
            )
    return made


def plain_mean(own: Batch, options: Resample) -> list[tuple[int, list[float], int, int]]:
    period, row = options.period_ns, own.span[:, 0].tolist()
    bins = [-(-t // period) * period for t in own.t.tolist()]
    made = []
    for even in sorted(set(bins))[:-1]:
        members = [i for i, b in enumerate(bins) if b == even]
        mean = list(own.values[members].astype(float).mean(axis=0))
        made.append((even, mean, row[members[0]], row[members[-1] + 1]))
    return made


@given(keyed(finite), methods, st.integers(1, 7), st.none() | st.integers(1, 9), sizes)
def test_rows_come_at_even_times_however_they_are_cut(
    batch: Batch, method: str, period: int, max_gap: int | None, sizes: list[int]
) -> None:
    options = resample(method, period, max_gap)
    came = assert_indifferent(lambda: alone(step(options)), batch, sizes).get("out")
    count = 0
    for key in np.unique(batch.key):
        own = batch.take(batch.key == key)
        wanted = (plain_mean if method == "mean" else plain)(own, options)
        count += len(wanted)
        if wanted:
            assert came is not None
            mine = came.take(came.key == key)
            assert mine.t.tolist() == [t for t, *_ in wanted]
            assert mine.span.tolist() == [[first, last] for *_, first, last in wanted]
            np.testing.assert_allclose(
                mine.values, [values for _, values, *_ in wanted], rtol=1e-5, atol=1e-4
            )
    assert (0 if came is None else len(came)) == count


@pytest.mark.parametrize("method", ["linear", "previous", "mean"])
def test_nothing_is_made_up_across_a_gap(method: str) -> None:
    runtime: Runtime = alone(step(resample(method, 2)))
    samples = rows(np.arange(8, dtype=np.float32).reshape(4, 2), t=np.array([1, 3, 9, 11]) * MS)
    before = runtime.push("in", samples.take(slice(0, 2)))
    runtime.gap("in")
    after = runtime.push("in", samples.take(slice(2, 4)))
    times = [batch.t.tolist() for _, batch in (*before, *after)]
    assert times == ([[2 * MS], [10 * MS]])


def test_a_far_row_is_not_reached_by_a_line() -> None:
    samples = rows(np.float32([[0, 0], [1, 1]]), t=np.array([0, 100]) * MS)
    out = run(lambda: alone(step(resample("linear", 5))), [samples])["out"]
    assert out.t.tolist() == [0, 100 * MS]
    assert (out.span - FIRST).tolist() == [[0, 0], [1, 1]]
