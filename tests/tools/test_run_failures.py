"""`edgeflow run` where a step fails: what is said, and the exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgeflow_tools.cli import edgeflow

PIPELINE = """
edgeflow: 1
name: failing
inputs:
  v: {mqtt: a, rate: 1 Hz}
steps:
  bad: {from: v, python: {function: code.f, columns: [y]}}
outputs:
  o: {from: bad, event: t}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    (tmp_path / "code.py").write_text("def f(rows):\n    raise ValueError('never')\n")
    (tmp_path / "v.csv").write_text("value\n1\n2\n")
    return tmp_path


def run(folder: Path) -> Result:
    return CliRunner().invoke(edgeflow, ["run", str(folder), "--input", f"v={folder / 'v.csv'}"])


def test_rows_that_a_failing_step_dropped_are_not_well(folder: Path) -> None:
    result = run(folder)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "steps.bad: code.py:2: ValueError: never (2 rows dropped)" in result.stderr


def test_a_pipeline_that_stops_at_a_failure_says_where(folder: Path) -> None:
    (folder / "pipeline.yaml").write_text(PIPELINE.replace("[y]}", "[y]}, on_error: stop"))
    result = run(folder)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "code.py:2: ValueError: never; the pipeline stops there" in result.stderr
