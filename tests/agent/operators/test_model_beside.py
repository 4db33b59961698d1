"""Models of several inputs, each fed by an edge of its own: no cut of the rows may change what comes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeflow_agent.core.batch import Batch
from edgeflow_agent.runtime.run import Runtime
from edgeflow_proto.bundle import Tensor
from tests.support.onnx_files import product, summing
from tests.support.steps import FIRST, assert_indifferent, keyed, pipeline, rows, sizes
from tests.support.tflite_files import added

HEAD = """
inputs:
  in: {mqtt: "plant/{machine}/accel", key: machine, fields: [x, y]}
steps:
  some: {from: in, filter: x > 0}
"""
TAIL = """
outputs:
  out: {from: score, event: seen}
"""
FRAMES = """
  image: {from: in, window: {size: 2, hop: 1}}
  level: {from: some, select: [y]}
  score: {from: {meta: level, image: image}, model: {file: m.onnx, %s}}
"""
PAIR = """
  score: {from: {a: in, b: some}, model: m.tflite}
"""
CARRIED = """
  score: {from: {x: in, gain: some}, model: {file: m.onnx, state: {total: sum}}}
"""
finite = st.floats(-100, 100, width=32, allow_subnormal=False)  # XNNPACK takes those for zero
brief = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)


@dataclass
class Told:
    """An observer that notes the rows a step failed on."""

    failures: list[tuple[str, str, list[int]]] = field(default_factory=list)

    def ran(self, step: str, rows: int, ns: int) -> None:
        pass

    def failed(self, step: str, error: Exception, rows: Batch) -> None:
        numbers = (rows.span[:, 1] - FIRST).tolist()
        self.failures.append((step, f"{type(error).__name__}: {error}", numbers))


def runtime(folder: Path, steps: str) -> Runtime:
    return pipeline(folder, HEAD + steps + TAIL)


def came(folder: Path, steps: str, batch: Batch, sizes: list[int]) -> Batch | None:
    return assert_indifferent(lambda: runtime(folder, steps), batch, sizes).get("out")


def raised(batch: Batch, row: int) -> int | None:
    """The last row of the same key up to one, whose x is above zero."""
    same = np.flatnonzero((batch.key[: row + 1] == batch.key[row]) & (batch.values[: row + 1, 0] > 0))
    return int(same[-1]) if len(same) else None


def expected(batch: Batch) -> list[tuple[int, int]]:
    """Every row that has a partner, and that."""
    pairs = [(row, raised(batch, row)) for row in range(len(batch))]
    return [(row, partner) for row, partner in pairs if partner is not None]


@pytest.mark.parametrize("free", ["n", 1])
@given(batch=keyed(finite), sizes=sizes)
@brief
def test_each_row_goes_with_the_last_of_the_other_edge(
    tmp_path: Path, free: str | int, batch: Batch, sizes: list[int]
) -> None:
    product(tmp_path / "m.onnx", 4, free)
    out = came(tmp_path, FRAMES % "", batch, sizes)
    wanted = []
    for row in np.flatnonzero(batch.values[:, 0] > 0).tolist():
        before = np.flatnonzero(batch.key[: row + 1] == batch.key[row])
        if len(before) > 1:
            wanted.append((row, before[-2:]))
    assert (0 if out is None else len(out)) == len(wanted)
    for index, (row, window) in enumerate(wanted):
        assert out is not None
        image = batch.values[window].ravel()
        np.testing.assert_allclose(out.values[index], image * batch.values[row, 1], rtol=1e-5)
        assert (out.span[index] - FIRST).tolist() == [window[0], row]
        assert (out.t[index], out.key[index]) == (batch.t[row], batch.key[row])


@given(batch=keyed(finite), sizes=sizes)
@brief
def test_a_tflite_model_takes_two_edges(tmp_path: Path, batch: Batch, sizes: list[int]) -> None:
    a, b, total = (Tensor(name, "float32", (1, 2)) for name in ("a", "b", "total"))
    added(tmp_path / "m.tflite", a, b, total)
    out = came(tmp_path, PAIR, batch, sizes)
    pairs = expected(batch)
    assert (0 if out is None else len(out)) == len(pairs)
    if out is not None:
        wanted = [batch.values[row] + batch.values[partner] for row, partner in pairs]
        np.testing.assert_allclose(out.values, wanted, rtol=1e-5)
        assert (out.span - FIRST).tolist() == [[partner, row] for row, partner in pairs]


@given(batch=keyed(st.integers(-50, 50).map(float)), sizes=sizes)
@brief
def test_state_is_carried_beside_them(tmp_path: Path, batch: Batch, sizes: list[int]) -> None:
    summing(tmp_path / "m.onnx", gain=(1, 2))
    out = came(tmp_path, CARRIED, batch, sizes)
    totals: dict[int, np.ndarray[tuple[int], np.dtype[np.float32]]] = {}
    wanted = []
    for row, partner in expected(batch):
        key = int(batch.key[row])
        totals[key] = totals.get(key, np.zeros(2, np.float32)) + batch.values[row]
        wanted.append(totals[key] * batch.values[partner])
    assert (0 if out is None else len(out)) == len(wanted)
    if out is not None:
        np.testing.assert_array_equal(out.values, wanted)


@given(batch=keyed(), sizes=sizes)
@brief
def test_only_rows_that_a_model_fails_on_are_lost(tmp_path: Path, batch: Batch, sizes: list[int]) -> None:
    a, b, total = (Tensor(name, "int8", (1, 2), 1.0) for name in ("a", "b", "total"))
    added(tmp_path / "m.tflite", a, b, total)
    out = came(tmp_path, PAIR, batch, sizes)
    sound = ~np.isnan(batch.values).any(axis=1)
    wanted = [[partner, row] for row, partner in expected(batch) if sound[row] and sound[partner]]
    assert (0 if out is None else len(out)) == len(wanted)
    if out is not None:
        assert (out.span - FIRST).tolist() == wanted


def test_rows_that_a_model_fails_on_are_told_each_once(tmp_path: Path) -> None:
    a, b, total = (Tensor(name, "int8", (1, 2), 1.0) for name in ("a", "b", "total"))
    added(tmp_path / "m.tflite", a, b, total)
    told = Told()
    values = np.float32([[1, 2], [0, np.nan], [0, 3], [np.nan, 4], [2, 5]])
    pipeline(tmp_path, HEAD + PAIR + TAIL, told).push("in", rows(values))
    assert told.failures == [("score", "ValueError: NaN has no quantised form", [1, 3])]


def test_after_a_gap_state_begins_anew(tmp_path: Path) -> None:
    summing(tmp_path / "m.onnx", gain=(1, 2))
    working = runtime(tmp_path, CARRIED)
    one = rows(np.ones((1, 2), np.float32))
    assert [working.push("in", one)[0][1].values.tolist() for _ in range(2)] == [[[1, 1]], [[2, 2]]]
    working.gap("in")
    assert working.push("in", one)[0][1].values.tolist() == [[1, 1]]


def test_rows_wait_for_no_time(tmp_path: Path) -> None:
    product(tmp_path / "m.onnx", 4)
    assert not runtime(tmp_path, FRAMES % "").plan.ticks


def test_a_partner_may_not_be_older_than_the_tolerance(tmp_path: Path) -> None:
    added(tmp_path / "m.tflite", *(Tensor(name, "float32", (1, 2)) for name in ("a", "b", "total")))
    steps = PAIR.replace("m.tflite", "{file: m.tflite, tolerance: 2ms}")
    # One row a millisecond; the fourth has its partner three before it.
    values = np.float32([[1, 5], [0, 0], [0, 1], [0, 2], [1, 7]])
    ((_, out),) = runtime(tmp_path, steps).push("in", rows(values))
    assert (out.span[:, 1] - FIRST).tolist() == [0, 1, 2, 4]
