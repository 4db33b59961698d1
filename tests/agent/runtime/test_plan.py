from __future__ import annotations

from pathlib import Path

import pytest

from edgeflow_agent.models.load import load_model
from edgeflow_agent.operators.load import operators
from edgeflow_agent.runtime.plan import Plan, PlanError, compile_plan
from edgeflow_proto.pipeline.check import graph_of
from tests.support.steps import Folder

TEXT = """edgeflow: 1
name: test
inputs:
  in: {mqtt: plant/accel, fields: [x, y]}
steps:
  last: {from: middle, %s}
  middle: {from: window, stats: [mean]}
  window: {from: in, window: {size: 2}}
outputs:
  out: {from: last, event: {type: t.out}}
"""


def plan(folder: Path, step: str, kinds: list[str]) -> Plan:
    """Compile with the files as they are, but checked without the models' signatures."""
    graph = graph_of(TEXT % step, "test.yaml", Folder(folder), {})
    return compile_plan(graph, folder, operators(kinds), load_model)


def test_steps_follow_what_they_read(tmp_path: Path) -> None:
    made = plan(tmp_path, "select: [x.mean]", ["window", "stats", "select"])
    assert [step.name for step in made.steps["in"]] == ["window", "middle", "last"]
    assert made.outputs == {"in": (("out", "last"),)}
    assert list(made.operators) == ["window", "middle", "last"]


def test_only_what_is_asked_for_is_loaded() -> None:
    assert operators(["window", "unheard-of"]).keys() == {"window"}


def test_a_kind_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"^steps.last: kind 'select' is not installed here"):
        plan(tmp_path, "select: [x.mean]", ["window", "stats"])


def test_a_module_that_cannot_be_imported_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("def f(rows):\n    return rows\n\n1 / 0\n")
    with pytest.raises(PlanError, match=r"^steps.last: code.py:4: ZeroDivisionError: division by zero"):
        plan(tmp_path, "python: code.f", ["window", "stats", "python"])


def test_a_model_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"junk")
    with pytest.raises(PlanError, match=r"^steps.last: m.onnx: "):
        plan(tmp_path, "model: m.onnx", ["window", "stats", "model"])


def test_an_output_the_model_does_not_have_is_named(tmp_path: Path, test_data: Path) -> None:
    model = test_data / "tflite-micro" / "hello_world" / "hello_world_float.tflite"
    (tmp_path / "m.tflite").symlink_to(model)
    with pytest.raises(PlanError, match=r"^steps.last: m.tflite has no output 'y'"):
        plan(tmp_path, "model: {file: m.tflite, output: y}", ["window", "stats", "model"])
