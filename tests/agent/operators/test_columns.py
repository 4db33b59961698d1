from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.core.batch import Batch
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.steps.columns import Filter, Select
from tests.support.steps import XY, alone, assert_indifferent, keyed, rows, sizes, step

DOTTED = Flow((2,), "float32", ("x.mean", "y"))
expressions = st.sampled_from(
    ["x > 0", "x < y", "not (x / y > 1) or isnan(y)", "x % 3 == 0", "-1 < x - y <= 5"]
)


@given(keyed(), expressions, sizes)
def test_filter_does_not_depend_on_how_rows_are_cut(batch: Batch, where: str, sizes: list[int]) -> None:
    assert_indifferent(lambda: alone(step(Filter(where=where))), batch, sizes)


@given(keyed(), sizes)
def test_select_does_not_depend_on_how_rows_are_cut(batch: Batch, sizes: list[int]) -> None:
    came = assert_indifferent(lambda: alone(step(Select(columns=["y"]))), batch, sizes)
    np.testing.assert_array_equal(came["out"].values, batch.values[:, 1:])


def test_select_reorders() -> None:
    out = step(Select(columns=["y", "x"]))(rows(np.array([[1, 2], [3, 4]], np.float32)))[""]
    assert out.columns == ("y", "x")
    assert out.values.tolist() == [[2, 1], [4, 3]]


def test_select_reaches_into_windows() -> None:
    flow = Flow((5, 2), "float32", ("x", "y"))
    out = step(Select(columns=["y"]), flow)(rows(np.arange(20, dtype=np.float32).reshape(2, 5, 2)))[""]
    assert out.values.shape == (2, 5, 1)
    assert out.values[0, :, 0].tolist() == [1, 3, 5, 7, 9]


def test_a_column_that_turns_out_not_to_be_there_is_named() -> None:
    with pytest.raises(ValueError, match="no column 'z'"):
        step(Select(columns=["z"]), Flow())(rows(np.zeros((1, 2), np.float32)))
    with pytest.raises(ValueError, match="no column 'z'"):
        step(Filter(where="z > 1"), Flow())(rows(np.zeros((1, 2), np.float32)))


NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("where", "x", "y", "holds"),
    [
        ("x > 1", 2, 0, True),
        ("x > 1", NAN, 0, False),
        ("x != 1", NAN, 0, False),
        ("x == x", NAN, 0, False),
        ("not x > 1", NAN, 0, True),
        ("isnan(x)", NAN, 0, True),
        ("isfinite(x)", INF, 0, False),
        ("x / y > 1000", 1, 0, True),  # inf
        ("x / y == x / y", 0, 0, False),  # nan
        ("x % y >= 0", 5, 0, False),
        ("log(x) < 0", 0, 0, True),  # -inf
        ("sqrt(x) >= 0", -1, 0, False),
        ("exp(x) > 1e30", 1000, 0, True),
        ("x ** 0.5 >= 0", -1, 0, False),
        ("x % 3 == 2", -1, 0, True),
        ("0 < x < y < 10", 1, 2, True),
        ("0 < x < y < 10", 2, 1, False),
        ("x > 0 and y > 0 or x < -5", -6, 0, True),
        ("(x > 0) + (y > 0) == 2", 1, 1, True),
        ("-(x > 0) < 0", 1, 0, True),
        ("max(x, y) == 3 and min(x, y) == 1", 1, 3, True),
        ("abs(-x) == +x", 4, 0, True),
        ("x", 0.5, 0, True),
        ("x", 0, 0, False),
        ("x", NAN, 0, False),
        ("not x", 0, 0, True),
        ("1 < 2", 0, 0, True),
        ("1 / 0 > 5", 0, 0, True),
        ("x > 0.8", 0.8, 0, False),  # in the column's own precision
        ("x < 1e300", 5, 0, True),
        ("True", 0, 0, True),
        ("floor(x) == -2 and ceil(x) == -1 and round(x) == -2", -1.5, 0, True),
        ("round(x) == 2", 2.5, 0, True),  # half to even
        ("sin(x) ** 2 + cos(x) ** 2 == 1", 0, 0, True),
        ("abs(atan2(y, x) - radians(90)) < 1e-6", 0, 1, True),
        ("abs(log10(x) - 2) < 1e-6", 100, 0, True),
        ("clip(x, -1, 1) == 1", 7, 0, True),
        ("clip(x, -1, 1) <= 1", NAN, 0, False),
        ("where(x > y, x, y) == 3", 1, 3, True),
        ("where(x, 1, 2) == 2", NAN, 0, True),  # a number that is not one does not hold
        ("where(y > 0, x / y, 0) == 0", 1, 0, True),
        ("where(y == 0, x, 1) > 0.8", 0.8, 0, False),  # still in the column's own precision
    ],
)
def test_expressions(where: str, x: float, y: float, holds: bool) -> None:
    out = step(Filter(where=where), XY)(rows(np.array([[x, y]], np.float32)))[""]
    assert len(out) == holds


def test_integers_neither_overflow_nor_refuse() -> None:
    flow = Flow((2,), "uint8", ("x", "y"))
    batch = rows(np.array([[200, 100]], np.uint8))
    for where in ("x + y == 300", "y - x == -100", "x ** -1 == 1 / 200", "x % 0 != 1 or True"):
        assert len(step(Filter(where=where), flow)(batch)[""]) == 1, where


def test_dotted_columns() -> None:
    batch = rows(np.array([[1, 2], [3, 4]], np.float32), columns=("x.mean", "y"))
    out = step(Filter(where="x.mean > 2"), DOTTED)(batch)[""]
    assert out.values.tolist() == [[3, 4]]
    assert out.span[0, 0] == batch.span[1, 0]
