from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.core.batch import Batch
from edgeflow_agent.runtime.run import Runtime
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.steps.detect import Threshold
from edgeflow_proto.pipeline.units import Extent
from tests.support.steps import FIRST, PERIOD_NS, alone, assert_indifferent, keyed, rows, run, sizes, step

ONE = Flow((1,), "float32", ("x",), inputs=("in",))
levels = st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, np.nan])
holds = st.integers(1, 4).map(lambda n: Extent(rows=n)) | st.integers(1, 9).map(
    lambda n: Extent(ns=n * PERIOD_NS)
)
options = st.tuples(st.sampled_from([1.0, 2.0, 3.0]), st.sampled_from([0.0, 1.0]), holds, st.booleans())


def threshold(option: tuple[float, float, Extent, bool]) -> Threshold:
    level, slack, hold, rising = option
    if rising:
        return Threshold(above=level, clear=level - slack, hold=hold, column="x")
    return Threshold(below=level, clear=level + slack, hold=hold, column="x")


def plain(batch: Batch, option: Threshold) -> tuple[list[int], list[int], list[int]]:
    """Return rows raised, rows cleared and the state after each, by going through all of the past anew."""
    sign, level = (1, option.above) if option.above is not None else (-1, option.below)
    level, clear = sign * (level or 0.0), sign * (option.clear or 0.0)
    raised, cleared, state = [], [], []
    up: dict[int, bool] = {}
    lasting: dict[int, list[int]] = {}
    for row, (key, value) in enumerate(
        zip(batch.key.tolist(), (sign * batch.values[:, 0]).tolist(), strict=True)
    ):
        run = lasting.setdefault(key, [])
        if up.get(key):
            if value <= clear:
                up[key] = False
                cleared.append(row)
        elif value > level:
            run.append(row)
            lasted = int(batch.t[row] - batch.t[run[0]])
            if len(run) >= option.hold.rows if option.hold.rows else lasted >= (option.hold.ns or 0):
                up[key], lasting[key] = True, []
                raised.append(row)
        elif value <= level:
            lasting[key] = []
        state.append(int(up.get(key, False)))
    return raised, cleared, state


@given(keyed(levels), options, sizes)
def test_changes_are_the_plain_ones_however_rows_are_cut(
    batch: Batch, option: tuple[float, float, Extent, bool], sizes: list[int]
) -> None:
    kind = threshold(option)

    def make() -> Runtime:
        return alone(step(kind))

    came = assert_indifferent(make, batch, sizes)
    raised, cleared, state = plain(batch, kind)
    np.testing.assert_array_equal(came["state"].values[:, 0], state)
    assert came["state"].columns == ("state",)
    for port, wanted in (("raised", raised), ("cleared", cleared)):
        assert (port in came) == bool(wanted)
        if wanted:
            np.testing.assert_array_equal(came[port].span[:, 0] - FIRST, wanted)
            np.testing.assert_array_equal(came[port].values, batch.values[wanted])


def column(*values: float, dtype: str = "float32") -> Batch:
    return rows(np.array(values, dtype)[:, None], columns=("x",))


def test_the_only_column_needs_no_name() -> None:
    came = run(lambda: alone(step(Threshold(above=0.5), ONE)), [column(0, 1, 1, 0)])
    assert came["raised"].span.tolist() == [[FIRST + 1, FIRST + 1]]
    assert came["cleared"].span.tolist() == [[FIRST + 3, FIRST + 3]]


def test_several_columns_need_one() -> None:
    with pytest.raises(ValueError, match="say which column"):
        step(Threshold(above=0.5), Flow())(rows(np.zeros((1, 2), np.float32)))


def test_the_level_itself_is_not_past_it_in_the_columns_own_precision() -> None:
    came = run(lambda: alone(step(Threshold(above=0.8), ONE)), [column(0.8, 0.9, 0.8)])
    assert came["raised"].span[:, 0].tolist() == [FIRST + 1]
    assert came["cleared"].span[:, 0].tolist() == [FIRST + 2]


def test_integers_are_compared_as_they_are() -> None:
    came = run(
        lambda: alone(step(Threshold(below=-0.5), Flow((1,), "int8", ("x",)))),
        [column(0, -1, 1, dtype="int8")],
    )
    assert came["state"].values[:, 0].tolist() == [0, 1, 0]


def test_a_gap_breaks_what_lasts_and_clears_nothing() -> None:
    runtime = alone(step(Threshold(above=0.5, hold=Extent(rows=3)), ONE))
    runtime.push("in", column(1, 1))
    runtime.gap("in")
    assert [name for name, _ in runtime.push("in", column(1, 1))] == ["state"]
    assert [name for name, _ in runtime.push("in", column(1))] == ["raised", "state"]
    runtime.gap("in")
    ((_, state),) = runtime.push("in", column(0.6))
    assert state.values.tolist() == [[1]]


@given(keyed(levels), st.sampled_from([None, (1.5, 2.5)]), sizes)
def test_outside_a_range_is_raised_and_back_inside_cleared(
    batch: Batch, clear: tuple[float, float] | None, sizes: list[int]
) -> None:
    options = Threshold(outside=[1.0, 3.0], clear=list(clear) if clear else None, column="x")
    came = assert_indifferent(lambda: alone(step(options)), batch, sizes)
    low, high = clear or (1.0, 3.0)
    up: dict[int, bool] = {}
    wanted: dict[str, list[int]] = {"raised": [], "cleared": []}
    for row, (key, x) in enumerate(zip(batch.key.tolist(), batch.values[:, 0].tolist(), strict=True)):
        if not up.get(key) and (x < 1 or x > 3):
            up[key] = True
            wanted["raised"].append(row)
        elif up.get(key) and low <= x <= high:
            up[key] = False
            wanted["cleared"].append(row)
    for port, found in wanted.items():
        assert found == ((came[port].span[:, 0] - FIRST).tolist() if port in came else [])
