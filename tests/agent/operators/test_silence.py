from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.core.batch import Batch, concatenated
from edgeflow_agent.core.ports import Operator
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.steps.detect import Silence
from edgeflow_proto.pipeline.units import Duration
from tests.support.steps import FIRST, PERIOD_NS, XY, assert_same, cut, keyed, rows, sizes, step

MS = PERIOD_NS
ONE = Flow((2,), "float32", ("x", "y"), inputs=("in",))


def silence(after_ms: int, upstream: Flow = XY) -> Operator:
    return step(Silence(after=Duration(after_ms * MS)), upstream)


def followed(after_ms: int, parts: list[Batch], ticks: bool, end: int) -> dict[str, Batch]:
    """Push rows, with ticks between them or none, anew from its state each time; then let time pass."""
    operator = silence(after_ms)
    came: dict[str, list[Batch]] = {"silent": [], "back": []}
    for part in parts:
        results = [operator.tick(int(part.t[0]))] if ticks else []
        results.append(operator(part))
        for result in results:
            for port, batch in result.items():
                came[port].append(batch.take(np.arange(len(batch))))
        state, operator = operator.state(), silence(after_ms)
        operator.restore(state)
    for port, batch in operator.tick(end).items():
        came[port].append(batch)
    return {port: concatenated(batches) for port, batches in came.items() if batches}


@given(keyed(), st.integers(1, 9), sizes)
def test_silence_is_the_same_however_one_learns_of_it(batch: Batch, after: int, sizes: list[int]) -> None:
    end = int(batch.t[-1]) + 5 * MS
    whole = followed(after, [batch], False, end)
    for parts, ticks in (
        ([*cut(batch, [1])], False),
        ([*cut(batch, sizes)], False),
        ([*cut(batch, [1])], True),
    ):
        assert_same(whole, followed(after, parts, ticks, end))
    fell, back = [], []
    last: dict[int, int] = {}
    for row, (key, t) in enumerate(zip(batch.key.tolist(), batch.t.tolist(), strict=True)):
        if key in last and t - int(batch.t[last[key]]) > after * MS:
            fell.append((int(batch.t[last[key]]) + after * MS, key, last[key]))
            back.append(row)
        last[key] = row
    fell += [(int(batch.t[row]) + after * MS, key, row) for key, row in last.items()
             if int(batch.t[row]) + after * MS < end]  # fmt: skip
    silent = whole.get("silent")
    told = [] if silent is None else [silent.t, silent.key, silent.span[:, 1] - FIRST]
    assert sorted(fell) == list(zip(*[column.tolist() for column in told], strict=True))
    assert back == ([] if "back" not in whole else (whole["back"].span[:, 0] - FIRST).tolist())


def test_an_input_that_never_says_anything_is_silent_once_and_comes_back() -> None:
    operator = silence(5, ONE)
    assert operator.tick(10 * MS) == {}
    assert operator.tick(15 * MS) == {}
    told = operator.tick(15 * MS + 1)["silent"]
    assert (told.t.tolist(), told.span.tolist(), told.values.tolist()) == ([15 * MS], [[-1, -1]], [[0, 0]])
    assert operator.tick(99 * MS) == {}
    came = operator(rows(np.float32([[1, 2]]), t=[100 * MS]))
    assert set(came) == {"back"}
    assert came["back"].values.tolist() == [[1, 2]]
