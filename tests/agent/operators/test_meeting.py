"""`join` and `merge` against the plain thing, through whole pipelines: no timing may change what comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.core.batch import Batch, concatenated
from edgeflow_agent.runtime.run import Runtime
from tests.support.steps import (
    FIRST,
    PERIOD_NS,
    assert_indifferent,
    assert_same,
    cut,
    keyed,
    pipeline,
    rows,
    sizes,
)

NOWHERE = Path("nowhere")
BRANCHES = """
inputs:
  in: {mqtt: "plant/{machine}/accel", key: machine, fields: [x, y]}
steps:
  some: {from: in, filter: x > 0}
  slow: {from: some, select: [y]}
  both: {from: {row: in, last: slow}, join: {tolerance: 3ms, missing: nan}}
outputs:
  out: {from: both, event: t.out}
"""
TWO = """
inputs:
  fast: {mqtt: "plant/{machine}/accel", key: machine, fields: [x, y]}
  slow: {mqtt: plant/temp, fields: [degrees]}
steps:
  both: {from: [fast, slow], join: 4ms}
outputs:
  out: {from: both, event: t.out}
"""
REJOINED = """
inputs:
  fast: {mqtt: "plant/{machine}/accel", key: machine, fields: [x, y]}
  slow: {mqtt: plant/temp, fields: [degrees]}
steps:
  both: {from: [fast, slow], join: 4ms}
  warm: {from: both, filter: y > 0}
  last: {from: warm, select: [degrees]}
  again: {from: {row: both, last: last}, join: {tolerance: 1 h, missing: nan}}
outputs:
  out: {from: again, event: t.out}
"""
MERGED = """
inputs:
  a: {mqtt: plant/a, fields: [x, y]}
  b: {mqtt: plant/b, fields: [x, y]}
steps:
  all: {from: [a, b], merge: {}}
outputs:
  out: {from: all, event: t.out}
"""
SPLIT = """
inputs:
  in: {mqtt: plant/a, fields: [x, y]}
steps:
  high: {from: in, filter: x > 0}
  low: {from: in, filter: x <= 0}
  odd: {from: low, filter: y != 0}
  all: {from: [odd, high], merge: {}}
outputs:
  out: {from: all, event: t.out}
"""
MS = PERIOD_NS
finite = st.floats(-100, 100, width=32)


def runtime(text: str) -> Runtime:
    return pipeline(NOWHERE, text)


@given(keyed(finite), sizes)
def test_branches_of_one_input_are_joined_row_by_row(batch: Batch, sizes: list[int]) -> None:
    out = assert_indifferent(lambda: runtime(BRANCHES), batch, sizes)["out"]
    assert out.columns == ("row.x", "row.y", "last.y")
    last: dict[int, tuple[int, float, int]] = {}
    for row, key in enumerate(batch.key.tolist()):
        x, y = batch.values[row].tolist()
        if x > 0:
            last[key] = (int(batch.t[row]), y, row)
        t, beside, before = last.get(key, (-(10**12), np.nan, row))
        known = int(batch.t[row]) - t <= 3 * MS
        np.testing.assert_equal(float(out.values[row, 2]), beside if known else np.nan)
        assert (out.span[row] - FIRST).tolist() == [before if known else row, row]


def moments(numbers: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.cumsum(numbers) * MS


@st.composite
def two(draw: st.DrawFn) -> tuple[Batch, Batch]:
    """Rows of two inputs, each in the order of time."""
    fast = draw(keyed(finite, most=30))
    steps = draw(st.lists(st.integers(0, 6), min_size=1, max_size=15))
    degrees = np.arange(len(steps), dtype=np.float32)[:, None]
    return fast, rows(degrees, t=moments(steps), columns=("degrees",))


def played(
    text: str, parts: dict[str, Batch], order: Sequence[int], sizes: list[int], *, restarts: bool = False
) -> Batch | None:
    """Push rows of two inputs in parts, in any order, and let time pass at the end."""
    names = list(parts)
    queues: list[Iterator[Batch]] = [cut(batch, sizes) for batch in parts.values()]
    working, came = runtime(text), []
    left = [0, 1]
    for turn in range(1000):
        if not left:
            break
        choice = left[order[turn % len(order)] % len(left)]
        part = next(queues[choice], None)
        if part is None:
            left.remove(choice)
            continue
        came += [batch.take(np.arange(len(batch))) for _, batch in working.push(names[choice], part)]
        if restarts:
            state, working = working.state(), runtime(text)
            working.restore(state)
    came += [batch for _, batch in working.tick(10**15)]
    return concatenated(came) if came else None


orders = st.lists(st.integers(0, 1), min_size=1, max_size=8)


@given(two(), orders, sizes)
def test_two_inputs_are_joined_by_time_whichever_comes_first(
    inputs: tuple[Batch, Batch], order: list[int], sizes: list[int]
) -> None:
    fast, slow = inputs
    parts = {"fast": fast, "slow": slow}
    out = played(TWO, parts, order, sizes)
    wanted = []
    for row, t in enumerate(fast.t.tolist()):
        before = np.flatnonzero(slow.t <= t)
        if len(before) and t - int(slow.t[before[-1]]) <= 4 * MS:
            wanted.append((row, int(before[-1])))
    assert (0 if out is None else len(out)) == len(wanted)
    if out is not None and wanted:
        assert out.values[:, 2].tolist() == [slow.values[other, 0] for _, other in wanted]
        assert (out.span - FIRST).tolist() == [[row, row, other, other] for row, other in wanted]
        assert out.key.tolist() == [int(fast.key[row]) for row, _ in wanted]
        for other_order, restarts in (([0], False), ([1], False), (order, True)):
            again = played(TWO, parts, other_order, sizes, restarts=restarts)
            assert again is not None
            assert_same({"out": out}, {"out": again})


@given(two(), orders, sizes)
def test_branches_of_a_join_are_joined_row_by_row(
    inputs: tuple[Batch, Batch], order: list[int], sizes: list[int]
) -> None:
    parts = dict(zip(("fast", "slow"), inputs, strict=True))
    both, out = played(TWO, parts, order, sizes), played(REJOINED, parts, order, sizes)
    again = played(REJOINED, parts, [0], [1], restarts=True)
    assert (both is None, both is None) == (out is None, again is None)
    if both is None or out is None or again is None:
        return
    assert_same({"out": out}, {"out": again})
    np.testing.assert_array_equal(out.values[:, :3], both.values)
    last: dict[int, float] = {}
    for row, key in enumerate(both.key.tolist()):
        if both.values[row, 1] > 0:
            last[key] = float(both.values[row, 2])
        np.testing.assert_equal(float(out.values[row, 3]), last.get(key, np.nan))


def test_branches_of_a_join_wait_for_no_time() -> None:
    operators = runtime(REJOINED).plan.operators
    assert (operators["both"].ticks, operators["again"].ticks) == (True, False)


def test_a_row_waits_until_the_other_input_has_come_past_it() -> None:
    working = runtime(TWO)
    one = rows(np.zeros((1, 2), np.float32), t=[5 * MS])
    degrees = rows(np.float32([[20]]), t=[5 * MS], columns=("degrees",))
    assert working.push("slow", degrees) == []
    assert working.push("fast", one) == []
    assert working.tick(5 * MS) == []
    ((_, out),) = working.tick(5 * MS + 1)
    assert out.values.tolist() == [[0, 0, 20]]


@given(keyed(finite, most=30), keyed(finite, most=30), orders, sizes)
def test_two_inputs_are_merged_by_time(one: Batch, two: Batch, order: list[int], sizes: list[int]) -> None:
    a, b = (Batch(part.values, part.t, part.key * 0, part.span, part.columns) for part in (one, two))
    out = played(MERGED, {"a": a, "b": b}, order, sizes)
    again = played(MERGED, {"a": a, "b": b}, [0], [1], restarts=True)
    assert out is not None
    assert again is not None
    assert_same({"out": out}, {"out": again})
    wanted = sorted([(t, 0, row) for row, t in enumerate(a.t.tolist())]
                    + [(t, 1, row) for row, t in enumerate(b.t.tolist())])  # fmt: skip
    spans = [[row, row, -1 - FIRST, -1 - FIRST] if which == 0 else [-1 - FIRST, -1 - FIRST, row, row]
             for _, which, row in wanted]  # fmt: skip
    assert (out.span - FIRST).tolist() == spans


@given(keyed(finite), sizes)
def test_branches_are_merged_into_the_order_of_their_input(batch: Batch, sizes: list[int]) -> None:
    out = assert_indifferent(lambda: runtime(SPLIT), batch, sizes).get("out")
    x, y = batch.values.T
    kept = batch.take((x > 0) | (y != 0))
    assert (0 if out is None else len(out)) == len(kept)
    if out is not None:
        assert_same({"out": kept}, {"out": out})


@pytest.mark.parametrize("text", [TWO, MERGED])
def test_nothing_comes_of_time_alone(text: str) -> None:
    assert runtime(text).plan.ticks
    assert runtime(text).tick(10**12) == []
