from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.core.batch import Batch
from edgeflow_agent.runtime.run import Runtime
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.steps.shape import Batch as Lots
from edgeflow_proto.pipeline.kinds.steps.shape import Window
from edgeflow_proto.pipeline.units import Extent
from tests.support.steps import (
    FIRST,
    alone,
    assert_indifferent,
    assert_same,
    cut,
    joined,
    keyed,
    rows,
    run,
    sizes,
    step,
)

shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))


def plain(batch: Batch, size: int, hop: int) -> list[tuple[int, list[int]]]:
    """Return key and rows of each window, as one would write it down."""
    seen: dict[int, list[int]] = {}
    windows = []
    for row, key in enumerate(batch.key.tolist()):
        own = seen.setdefault(key, [])
        own.append(row)
        if len(own) >= size and (len(own) - size) % hop == 0:
            windows.append((key, own[-size:]))
    return windows


@given(keyed(), shapes, sizes)
def test_windows_are_the_plain_ones_however_rows_are_cut(
    batch: Batch, shape: tuple[int, int], sizes: list[int]
) -> None:
    size, hop = shape

    def make() -> Runtime:
        return alone(step(Window(size=Extent(size), hop=Extent(hop))))

    came = assert_indifferent(make, batch, sizes)
    windows = plain(batch, size, hop)
    assert bool(came) == bool(windows)
    if came:
        out = came["out"]
        index = np.array([members for _, members in windows])
        np.testing.assert_array_equal(out.values, batch.values[index])
        np.testing.assert_array_equal(out.key, [key for key, _ in windows])
        np.testing.assert_array_equal(out.t, batch.t[index[:, -1]])
        np.testing.assert_array_equal(out.span, FIRST + index[:, [0, -1]])
        assert out.columns == ("x", "y")


def test_windows_of_windows_span_all_their_input_rows() -> None:
    inner = run(
        lambda: alone(step(Window(size=Extent(4), hop=Extent(2)))), [rows(np.zeros((20, 2), np.float32))]
    )["out"]
    outer = run(lambda: alone(step(Window(size=Extent(3), hop=Extent(1)))), cut(inner, [2]))["out"]
    assert outer.values.shape[1:] == (3, 4, 2)
    np.testing.assert_array_equal(outer.span[:2] - FIRST, [[0, 7], [2, 9]])


def test_one_key_is_seen_without_a_copy() -> None:
    window = step(Window(size=Extent(4), hop=Extent(1)))
    (out,) = (window(part)[""] for part in cut(rows(np.zeros((10, 2), np.float32)), [10]))
    assert not out.values.flags.owndata
    assert not out.values.flags.writeable
    assert out.values.strides[0] == out.values.strides[1]


def test_no_window_straddles_a_gap() -> None:
    runtime = alone(step(Window(size=Extent(4), hop=Extent(2))))
    batch = rows(np.arange(24, dtype=np.float32).reshape(12, 2))
    first, second = cut(batch, [5, 7])
    assert [len(out) for _, out in runtime.push("in", first)] == [1]
    runtime.gap("in")
    ((_, out),) = runtime.push("in", second)
    np.testing.assert_array_equal(out.span - FIRST, [[5, 8], [7, 10]])


def test_a_burst_does_not_keep_its_memory() -> None:
    window = step(Window(size=Extent(8), hop=Extent(8)))
    batch = rows(np.zeros((100_000, 2), np.float32))
    window(batch)
    for part in cut(rows(np.zeros((2000, 2), np.float32)), [100]):
        window(part)
    (stretch,) = window._stretches.values()  # type: ignore[attr-defined]
    assert stretch._rows.nbytes <= 1 << 16


def test_rows_that_change_their_form_are_refused() -> None:
    window = step(Window(size=Extent(4)))
    window(rows(np.zeros((2, 2), np.float32)))
    with pytest.raises(ValueError, match=r"from \[2\] float32 to \[2\] float64"):
        window(rows(np.zeros((2, 2))))


def test_tensors_are_windowed_too() -> None:
    values = np.random.default_rng(1).integers(0, 255, (40, 3, 4), np.uint8)
    batch = rows(values, columns=None)
    out = run(lambda: alone(step(Window(size=Extent(5), hop=Extent(3)))), cut(batch, [7]))["out"]
    np.testing.assert_array_equal(out.values, [values[i : i + 5] for i in range(0, 36, 3)])
    assert_same({"out": out}, {"out": joined([out])})


@given(keyed(), st.integers(1, 6), st.integers(1, 6), sizes)
def test_padded_windows_are_those_of_rows_with_zeros_before_them(
    batch: Batch, size: int, hop: int, sizes: list[int]
) -> None:
    hop = min(hop, size)
    options = Window(size=Extent(size), hop=Extent(hop), pad="start")
    out = assert_indifferent(lambda: alone(step(options)), batch, sizes).get("out")
    for key in np.unique(batch.key):
        own = batch.take(batch.key == key)
        padded = np.concatenate([np.zeros((size - hop, 2), np.float32), own.values])
        wanted = [padded[end - size : end] for end in range(size, len(padded) + 1, hop)]
        came = [] if out is None else out.values[out.key == key].tolist()
        np.testing.assert_array_equal([window.tolist() for window in wanted], came)


def test_a_padded_window_spans_no_row_before_the_first() -> None:
    options = Window(size=Extent(4), hop=Extent(2), pad="start")
    out = run(lambda: alone(step(options)), [rows(np.ones((4, 2), np.float32))])["out"]
    assert (out.span - FIRST).tolist() == [[0, 1], [0, 3]]
    assert out.values[:, :, 0].tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]]


def test_a_duration_is_as_many_rows_as_the_rate_says() -> None:
    upstream = Flow((1,), "float32", ("x",), rate=8.0, inputs=("in",))
    assert Window(size=Extent(ns=500_000_000)).rows(8.0) == (4, 4)
    assert step(Window(size=Extent(ns=500_000_000)), upstream) is not None


@given(keyed(), st.integers(1, 6), sizes)
def test_a_batch_holds_rows_of_all_keys(batch: Batch, size: int, sizes: list[int]) -> None:
    out = assert_indifferent(lambda: alone(step(Lots(size=size))), batch, sizes).get("out")
    count = len(batch) // size
    assert (0 if out is None else len(out)) == count
    if out is not None:
        np.testing.assert_array_equal(out.values, batch.values[: count * size].reshape(count, size, 2))
        np.testing.assert_array_equal(out.key, batch.key[size - 1 :: size])
        np.testing.assert_array_equal(out.span[:, 0], batch.span[: count * size : size, 0])
