from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from edgeflow_agent.core.batch import Batch
from edgeflow_agent.runtime.run import Runtime
from tests.support.onnx_files import linear
from tests.support.steps import (
    FIRST,
    assert_indifferent,
    assert_same,
    cut,
    floats,
    joined,
    keyed,
    pipeline,
    rows,
    run,
    sizes,
)

WHOLE = """
inputs:
  in: {mqtt: "plant/{machine}/accel", key: machine, fields: [x, y], rate: 100 Hz}
steps:
  near: {from: in, filter: "abs(x) < 90 and isfinite(y)"}
  window: {from: near, window: {size: 4, hop: 2}}
  stats: {from: window, stats: [mean, std, max]}
  own: {from: window, python: code.spread}
  score: {from: stats, model: m.onnx}
  alarm: {from: score, threshold: {above: 10, clear: 0, for: 2 rows, column: score_0}}
  some: {from: alarm.state, select: [state]}
outputs:
  raised: {from: alarm.raised, event: {type: t.raised}}
  cleared: {from: alarm.cleared, event: {type: t.cleared}}
  state: {from: some, event: {type: t.state}}
  spread: {from: own, event: {type: t.own}}
"""
CODE = "def spread(rows):\n    return rows.max(axis=(1, 2)) - rows.min(axis=(1, 2))\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "code.py").write_text(CODE)
    linear(tmp_path / "m.onnx", np.float32([[1, 0], [0, 1], [0, 0], [0, 0], [1, 0], [0, 1]]))
    return tmp_path


@given(batch=keyed(floats, most=120), sizes=sizes)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_pipeline_does_not_depend_on_how_rows_are_cut(folder: Path, batch: Batch, sizes: list[int]) -> None:
    assert_indifferent(lambda: pipeline(folder, WHOLE), batch, sizes)


BRANCHED = """
inputs:
  in: {mqtt: plant/accel, fields: [x, y], rate: 100 Hz}
steps:
  long: {from: in, window: {size: 7, hop: 3}}
  short: {from: in, window: {size: 5, hop: 2, pad: start}}
  stats: {from: long, stats: [mean]}
  peak: {from: short, stats: [max]}
outputs:
  mean: {from: stats, event: {type: t.mean}}
  max: {from: peak, event: {type: t.max}}
"""


@given(batch=keyed(floats, most=80), sizes=sizes)
def test_rows_may_wait_until_there_are_enough_of_them(batch: Batch, sizes: list[int]) -> None:
    batch = Batch(batch.values, batch.t, batch.key * 0, batch.span, batch.columns)
    runtime, came = pipeline(Path("nowhere"), BRANCHED), dict[str, list[Batch]]()
    position = head = 0
    for part in cut(batch, sizes):
        head += len(part)
        if head - position >= runtime.due("in"):
            for name, rows in runtime.push("in", batch.take(slice(position, head))):
                came.setdefault(name, []).append(rows.take(np.arange(len(rows))))
            position = head
    assert head - position < runtime.due("in")
    whole = run(lambda: pipeline(Path("nowhere"), BRANCHED), [batch])
    assert_same(whole, {name: joined(batches) for name, batches in came.items()})


def test_what_is_read_itself_does_not_wait() -> None:
    text = BRANCHED + "  all: {from: in, event: {type: t.all}}\n"
    assert pipeline(Path("nowhere"), text).due("in") == 1


class Notes:
    """An observer that writes everything down."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.failures: list[tuple[str, str, int]] = []

    def ran(self, step: str, rows: int, ns: int) -> None:
        self.calls.append((step, rows))

    def failed(self, step: str, error: Exception, rows: Batch) -> None:
        self.failures.append((step, str(error), len(rows)))


FLAWED = """
inputs:
  in: {mqtt: plant/accel, fields: [x, y]}
steps:
  flawed: {from: in, python: flawed.f}
  window: {from: in, window: {size: 2}}
  stats: {from: window, stats: [mean]}
outputs:
  made: {from: flawed, event: {type: t.flawed}}
  means: {from: stats, event: {type: t.stats}}
"""
RAISES_ON_ONE = """
def f(rows):
    if (rows[:, 0] == 1).any():
        raise OverflowError("one")
    return rows * 10
"""


def flawed(folder: Path, code: str, text: str = FLAWED) -> tuple[Runtime, Notes]:
    notes = Notes()
    (folder / "flawed.py").write_text(code)
    return pipeline(folder, text, notes), notes


def test_outputs_come_in_the_order_of_the_graph_and_empty_ones_not_at_all(tmp_path: Path) -> None:
    runtime, notes = flawed(tmp_path, "def f(rows):\n    return rows\n")
    one, two = cut(rows(np.ones((2, 2), np.float32)), [1])
    assert [name for name, _ in runtime.push("in", one)] == ["made"]
    assert [name for name, _ in runtime.push("in", two)] == ["made", "means"]
    assert notes.calls == [("flawed", 1), ("window", 1), ("flawed", 1), ("window", 1), ("stats", 1)]
    assert runtime.push("in", rows(np.ones((0, 2), np.float32))) == []


def test_only_the_rows_a_stateless_step_fails_on_are_dropped(tmp_path: Path) -> None:
    runtime, notes = flawed(tmp_path, RAISES_ON_ONE)
    values = np.float32([[0, 0], [1, 0], [2, 0], [1, 0], [4, 0]])
    came = run(lambda: runtime, [rows(values)])
    assert came["made"].values[:, 0].tolist() == [0, 20, 40]
    assert (came["made"].span[:, 0] - FIRST).tolist() == [0, 2, 4]
    assert came["means"].values[:, 0].tolist() == [0.5, 1.5]
    assert notes.failures == [("flawed", "flawed.py:4: OverflowError: one", 2)]


LOGS_ITS_OWN = """
seen = []
def f(rows):
    try:
        {}["its own"]
    except KeyError as error:
        seen.append(error.__context__)
    raise OverflowError("ours")
class Remembers:
    def __call__(self, rows):
        raise OverflowError("ours")
    def gap(self):
        try:
            {}["its own"]
        except KeyError as error:
            seen.append(error.__context__)
"""


@pytest.mark.parametrize("name", ["f", "Remembers"])
def test_what_an_authors_code_raises_has_nothing_to_do_with_what_it_raised_before(
    tmp_path: Path, name: str
) -> None:
    runtime, notes = flawed(tmp_path, LOGS_ITS_OWN, FLAWED.replace("flawed.f}", f"flawed.{name}}}"))
    seen = sys.modules["flawed"].seen
    runtime.push("in", rows(np.zeros((3, 2), np.float32)))
    assert [count for _, _, count in notes.failures] == [3]
    assert seen
    assert not any(seen)


def test_a_step_that_always_fails_harms_no_other(tmp_path: Path) -> None:
    runtime, notes = flawed(tmp_path, "def f(rows):\n    return rows[0, 5]\n")
    for count in (1, 3):
        assert [name for name, _ in runtime.push("in", rows(np.ones((count, 2), np.float32)))][-1:] != [
            "flawed"
        ]
    assert [(step, count) for step, _, count in notes.failures] == [("flawed", 1), ("flawed", 3)]


def test_without_an_observer_failures_are_survived_too(tmp_path: Path) -> None:
    runtime, _ = flawed(tmp_path, RAISES_ON_ONE)
    silent = Runtime(runtime.plan)
    assert silent.push("in", rows(np.ones((1, 2), np.float32))) == []


def test_a_step_that_remembers_drops_the_batch_it_fails_on_and_begins_anew(tmp_path: Path) -> None:
    runtime, notes = flawed(tmp_path, "def f(rows):\n    return rows\n")
    good = rows(np.zeros((1, 2), np.float32))
    runtime.push("in", good)
    runtime.push("in", rows(np.zeros((3, 2, 2), np.float32)))
    assert ("window", "rows changed from [2] float32 to [2, 2] float32", 3) in notes.failures
    assert [name for name, _ in runtime.push("in", good)] == ["made"]
    assert [name for name, _ in runtime.push("in", good)] == ["made", "means"]


def test_a_gap_reaches_the_steps_behind_that_input_alone(tmp_path: Path) -> None:
    text = """
inputs:
  in: {mqtt: plant/a, fields: [x, y]}
  other: {mqtt: plant/b, fields: [x, y]}
steps:
  one: {from: in, window: {size: 2}}
  one_mean: {from: one, stats: [mean]}
  two: {from: other, window: {size: 2}}
  two_mean: {from: two, stats: [mean]}
outputs:
  a: {from: one_mean, event: {type: t.a}}
  b: {from: two_mean, event: {type: t.b}}
"""
    runtime = pipeline(tmp_path, text)
    batch = rows(np.zeros((1, 2), np.float32))
    for name in ("in", "other"):
        runtime.push(name, batch)
    runtime.gap("in")
    assert runtime.push("in", batch) == []
    assert [name for name, _ in runtime.push("other", batch)] == ["b"]


def test_the_clock_is_the_one_handed_in(tmp_path: Path) -> None:
    times: list[int] = []

    class Timed(Notes):
        def ran(self, step: str, rows: int, ns: int) -> None:
            times.append(ns)

    plan = flawed(tmp_path, "def f(rows):\n    return rows\n")[0].plan
    ticks = iter(range(0, 1000, 7))
    Runtime(plan, Timed(), lambda: next(ticks)).push("in", rows(np.zeros((1, 2), np.float32)))
    assert times == [7, 7]


def test_what_is_no_state_of_this_pipeline_is_refused(folder: Path, tmp_path: Path) -> None:
    runtime = pipeline(folder, WHOLE)
    other, _ = flawed(tmp_path, "def f(rows):\n    return rows\n")
    for state, why in (
        (b"", "not a state"),
        (b"\xc1", "not a state"),
        (other.state(), "of another pipeline"),
    ):
        with pytest.raises(ValueError, match=why):
            runtime.restore(state)
