from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.core.batch import Batch
from edgeflow_agent.operators.values import cast
from edgeflow_proto.pipeline.flow import DTYPES, Flow
from edgeflow_proto.pipeline.kinds.base import StepKind
from edgeflow_proto.pipeline.kinds.steps.values import Cast, Diff, Drop, Fill, Map, Reshape, Scale
from edgeflow_proto.pipeline.units import Duration
from tests.support.steps import FIRST, PERIOD_NS, XY, alone, assert_indifferent, keyed, rows, run, sizes, step

finite = st.floats(-100, 100, width=32)
gaps = st.sampled_from([1.0, 2.0, np.nan])
INTS = Flow((2,), "uint16", ("x", "y"), inputs=("in",))


def one(options: object, values: np.ndarray, upstream: Flow = XY) -> Batch:  # type: ignore[type-arg]
    return run(lambda: alone(step(options, upstream)), [rows(values)])["out"]  # type: ignore[arg-type]


@given(keyed(), sizes)
def test_a_map_is_its_expressions(batch: Batch, sizes: list[int]) -> None:
    options = Map(columns={"sum": "x + y", "ratio": "x / y", "high": "x > y"}, keep=True)
    out = assert_indifferent(lambda: alone(step(options)), batch, sizes)["out"]
    x, y = batch.values.T
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(out.values, np.stack([x, y, x + y, x / y, x > y], axis=1).astype("f4"))
    assert out.columns == ("x", "y", "sum", "ratio", "high")


def test_a_map_of_whole_numbers_does_not_overflow() -> None:
    out = one(Map(columns={"sum": "x + y"}), np.uint16([[65535, 1]]), INTS)
    assert out.values.dtype == np.float32
    assert out.values.tolist() == [[65536]]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (Scale(factor=2, offset=1), [[3, 5]]),
        (Scale(factor=2, columns=["y"]), [[1, 4]]),
        (Scale(offset=-1), [[0, 1]]),
        (Scale(range=[0, 4], to=[100, 200]), [[125, 150]]),
    ],
)
def test_a_scale(options: Scale, wanted: list[list[float]]) -> None:
    assert one(options, np.float32([[1, 2]])).values.tolist() == wanted
    assert one(options, np.uint16([[1, 2]]), INTS).values.tolist() == wanted


@given(keyed(gaps), sizes, st.none() | st.just(["y"]))
def test_fill_by_the_last_value_of_the_key(batch: Batch, sizes: list[int], columns: list[str] | None) -> None:
    options = Fill(value="last", columns=columns)
    out = assert_indifferent(lambda: alone(step(options)), batch, sizes)["out"]
    last: dict[int, list[float]] = {}
    wanted = []
    for key, row in zip(batch.key.tolist(), batch.values.tolist(), strict=True):
        known = last.setdefault(key, [np.nan, np.nan])
        last[key] = [k if np.isnan(v) and (columns is None or place == 1) else v
                     for place, (v, k) in enumerate(zip(row, known, strict=True))]  # fmt: skip
        wanted.append(last[key])
    np.testing.assert_array_equal(out.values, wanted)


def test_fill_by_a_value() -> None:
    nan = np.nan
    assert one(Fill(value=7), np.float32([[nan, 1], [2, nan]])).values.tolist() == [[7, 1], [2, 7]]
    filled = one(Fill(value=0, columns=["x"]), np.float32([[nan, nan]])).values
    np.testing.assert_array_equal(filled, [[0, nan]])


def test_behind_a_gap_nothing_is_known() -> None:
    runtime = alone(step(Fill(value="last")))
    runtime.push("in", rows(np.float32([[1, 2]])))
    runtime.gap("in")
    ((_, out),) = runtime.push("in", rows(np.float32([[np.nan, 3]])))
    np.testing.assert_array_equal(out.values, [[np.nan, 3]])


@pytest.mark.parametrize(
    ("options", "kept"),
    [(Drop(), [0]), (Drop(when="all"), [0, 1, 2]), (Drop(columns=["x"]), [0, 2])],
)
def test_rows_with_nan_are_dropped(options: Drop, kept: list[int]) -> None:
    nan = np.nan
    values = np.float32([[1, 2], [nan, 2], [1, nan], [nan, nan]])
    assert (one(options, values).span[:, 0] - FIRST).tolist() == kept


@given(keyed(finite), sizes, st.none() | st.just(Duration(3 * PERIOD_NS)), st.none() | st.just(["x"]))
def test_differences_are_those_to_the_row_before(
    batch: Batch, sizes: list[int], per: Duration | None, columns: list[str] | None
) -> None:
    options = Diff(per=per, columns=columns)
    out = assert_indifferent(lambda: alone(step(options)), batch, sizes).get("out")
    last: dict[int, int] = {}
    wanted = []
    for row, key in enumerate(batch.key.tolist()):
        if key in last:
            before = last[key]
            change = batch.values[row] - batch.values[before]
            if per is not None:
                with np.errstate(all="ignore"):
                    change = change / np.float32((batch.t[row] - batch.t[before]) / per)
            if columns:
                change = np.float32([change[0], batch.values[row, 1]])
            wanted.append((before, row, change))
        last[key] = row
    assert (0 if out is None else len(out)) == len(wanted)
    if out is not None:
        assert (out.span - FIRST).tolist() == [[before, row] for before, row, _ in wanted]
        np.testing.assert_allclose(out.values, [change for *_, change in wanted], rtol=1e-5, equal_nan=True)


def test_a_counter_is_not_rounded() -> None:
    flow = Flow((1,), "int64", ("x",), inputs=("in",))
    values = np.int64([[2**40], [2**40 + 1]])
    out = run(lambda: alone(step(Diff(), flow)), [rows(values, columns=("x",))])["out"]
    assert (out.values.dtype, out.values.tolist()) == (np.float64, [[1]])


@given(st.lists(st.floats(-1e20, 1e20) | st.sampled_from([np.nan, np.inf, -np.inf, 2.5, -0.5]), min_size=1),
       st.sampled_from([name for name in DTYPES if "int" in name]))  # fmt: skip
def test_a_cast_to_whole_numbers_clips(numbers: list[float], dtype: str) -> None:
    limits = np.iinfo(dtype)
    for number, whole in zip(numbers, cast(np.array(numbers), np.dtype(dtype)).tolist(), strict=True):
        if np.isnan(number):
            assert whole == 0
        elif abs(number) < 2**52:
            assert whole == min(max(round(number), limits.min), limits.max)
        else:
            assert limits.min <= whole <= limits.max
            assert (whole > 0) == (number > 0) or whole == limits.min == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", [name for name in DTYPES if "int" in name])
def test_whole_numbers_are_clipped_too(source: str, dtype: str) -> None:
    ends = np.iinfo(source)
    came = cast(np.array([ends.min, 0, 1, ends.max], source), np.dtype(dtype)).tolist()
    if "int" in dtype:
        limits = np.iinfo(dtype)
        assert came == [max(limits.min, ends.min), 0, 1, min(limits.max, ends.max)]
    else:
        assert came[1:3] == [0, 1]


@given(keyed(), sizes)
def test_rows_of_another_shape_have_the_same_values(batch: Batch, sizes: list[int]) -> None:
    out = assert_indifferent(lambda: alone(step(Reshape(shape=[1, 2], columns=["a", "b"]))), batch, sizes)[
        "out"
    ]
    np.testing.assert_array_equal(out.values[:, 0], batch.values)
    assert out.columns == ("a", "b")


def test_a_cast_step() -> None:
    assert one(Cast(dtype="int8"), np.float32([[1.5, 300]])).values.tolist() == [[2, 127]]


@pytest.mark.parametrize(
    ("options", "value"),
    [(Scale(factor=1e30), 1e30), (Fill(value=1e300), np.nan), (Diff(), np.inf)],
)
def test_what_a_float_cannot_hold_is_infinite_and_nothing_else_is_touched(
    options: StepKind, value: float
) -> None:
    out = one(options, np.float32([[0, 0], [value, 0]])).values
    assert (np.isinf(out[-1, 0]), out[-1, 1]) == (True, 0)


def test_casts_to_floats_and_truths() -> None:
    huge = cast(np.float64([1e300, -1e300, np.nan]), np.dtype(np.float32))
    np.testing.assert_array_equal(huge, np.float32([np.inf, -np.inf, np.nan]))
    assert cast(np.float32([np.nan, 0, 0.3, -1]), np.dtype(bool)).tolist() == [False, False, True, True]
    assert cast(np.int32([0, 2]), np.dtype(bool)).tolist() == [False, True]


def test_behind_a_gap_a_row_is_a_first_one() -> None:
    runtime = alone(step(Diff()))
    runtime.push("in", rows(np.float32([[1, 2]])))
    runtime.gap("in")
    assert not runtime.push("in", rows(np.float32([[5, 6]])))
    ((_, out),) = runtime.push("in", rows(np.float32([[6, 8]])))
    assert out.values.tolist() == [[1, 2]]
