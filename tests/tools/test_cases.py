"""`edgeflow test`: recordings, the events expected of them, and how differences are told."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgeflow_tools.cases import Case, CaseFile, Expected, Got, Moment
from edgeflow_tools.cli import edgeflow

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PIPELINE = """
edgeflow: 1
name: level
params: {where: x > 2}
inputs:
  x: {mqtt: x, fields: [x, y], rate: 10 Hz}
steps:
  high: {from: x, filter: $where}
  loud: {from: x, python: {function: code.loud, columns: [z]}}
outputs:
  seen: {from: high, event: {type: t}}
  said: {from: loud, event: {type: u}}
  stop: {from: high, mqtt: stop}
"""
CASE = """# A case.
inputs: {x: rows.csv}
outputs: [seen, stop]

# What is expected
expect:
- {output: seen, at: 0.2s, data: {x: 3.0, y: 7.0}}
- {output: seen, at: 0.3s, data: {x: 4.0, y: 8.0}}
# How exact it is
tolerance: {relative: 0.01}
effects: {stop: 2}
"""


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(edgeflow, ["test", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    (tmp_path / "code.py").write_text("def loud(rows):\n    print('loud')\n    return rows[:, :1]\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "rows.csv").write_text("x,y\n1,1\n2,2\n3,7\n4,8\n")
    (tmp_path / "tests" / "high.yaml").write_text(CASE)
    return tmp_path


def test_events_of_a_recording_that_says_when_are_expected_at_that_time(folder: Path) -> None:
    rows = "x,y,time\n1,1,2026-06-01T08:00:00Z\n3,7,2026-06-01T08:00:30.25Z\n4,8,2026-06-01T08:01:00Z\n"
    (folder / "tests" / "rows.csv").write_text(rows)
    assert call(folder, "--update").exit_code == 0
    written = (folder / "tests" / "high.yaml").read_text()
    assert "- {output: seen, at: '2026-06-01T08:00:30.250000Z', data: {x: 3.0, y: 7.0}}" in written
    assert "- {output: seen, at: '2026-06-01T08:01:00Z', data: {x: 4.0, y: 8.0}}" in written
    assert call(folder).exit_code == 0
    wrong = written.replace("2026-06-01T08:01:00Z", "2026-06-31T08:01:00Z")
    (folder / "tests" / "high.yaml").write_text(wrong)
    assert "expect[1].at: not a time: '2026-06-31T08:01:00Z'" in call(folder).stderr


def changed(folder: Path, old: str, new: str) -> Path:
    assert old in CASE
    (folder / "tests" / "high.yaml").write_text(CASE.replace(old, new))
    return folder


@pytest.mark.parametrize("name", ["bearing", "host-watch"])
def test_the_cases_of_the_examples_pass(name: str) -> None:
    result = call(EXAMPLES / name, "--json")
    assert result.exit_code == 0, result.output
    assert [case["result"] for case in json.loads(result.stdout)["cases"]] == ["passed"]


def test_a_case_that_passes_says_so(folder: Path) -> None:
    result = call(folder)
    assert (result.exit_code, result.stdout) == (0, f"passed {folder / 'tests' / 'high.yaml'} (2 events)\n")


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("at: 0.2s", "at: 0.25s",
         ["+ seen at 0.2s {x: 3.0, y: 7.0}", "- seen at 0.25s {x: 3.0, y: 7.0}"]),
        ("x: 4.0, y: 8.0", "x: 4.03, y: 8.09", ["~ seen at 0.3s: y is 8, expected 8.09; ±0.0809 is allowed"]),
        ("x: 4.0, y: 8.0", "x: .nan, y: high", ["~ seen at 0.3s: x is 4, expected nan",
                                                "~ seen at 0.3s: y is 8.0, expected high"]),
        ("x: 4.0, y: 8.0", "x: 4.0, z: 1", ["~ seen at 0.3s: y is not expected",
                                         "~ seen at 0.3s: z is missing"]),
        ("- {output: seen, at: 0.3s, data: {x: 4.0, y: 8.0}}\n", "", ["+ seen at 0.3s {x: 4.0, y: 8.0}"]),
        ("output: seen, at: 0.3s", "output: seen, key: a, at: 0.3s",
         ["+ seen at 0.3s {x: 4.0, y: 8.0}", "- seen at 0.3s of a {x: 4.0, y: 8.0}"]),
        ("stop: 2", "stop: 3", ["~ stop: 2 rows reach it, expected 3"]),
        ("effects: {stop: 2}", "", ["~ stop: 2 rows reach it, expected 0"]),
        ("inputs: ", "params: {where: x > 3}\ninputs: ",
         ["- seen at 0.2s {x: 3.0, y: 7.0}", "~ stop: 1 rows reach it, expected 2"]),
    ],
)  # fmt: skip
def test_differences_are_told_one_a_line(folder: Path, old: str, new: str, lines: list[str]) -> None:
    result = call(changed(folder, old, new))
    assert result.exit_code == 1
    first, *rest = result.stdout.splitlines()
    assert first == f"failed {folder / 'tests' / 'high.yaml'} (2 events)" or "x > 3" in new
    assert sorted(rest) == sorted(f"  {line}" for line in lines)
    (case,) = json.loads(call(folder, "--json").stdout)["cases"]
    assert sorted(case["differences"]) == sorted(lines)


def test_times_may_be_off_by_what_is_said(folder: Path) -> None:
    changed(folder, "at: 0.2s", "at: 0.21s")
    file = folder / "tests" / "high.yaml"
    file.write_text(file.read_text().replace("relative: 0.01", "time: 10ms"))
    assert call(folder).exit_code == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [("x: 3.0, y: 7.0", "x: 5"), ("effects: {stop: 2}\n", ""), ("stop: 2", "stop: 7"),
     (CASE[CASE.index("expect:"):CASE.index("# How")], "expect:\n\n"),
     (CASE[CASE.index("expect:"):CASE.index("# How")], "")],
)  # fmt: skip
def test_update_writes_what_comes_and_leaves_the_rest(folder: Path, old: str, new: str) -> None:
    changed(folder, old, new)
    result = call(folder, "--update")
    assert (result.exit_code, result.stdout.split()[0]) == (0, "written")
    assert call(folder).exit_code == 0
    text = (folder / "tests" / "high.yaml").read_text()
    assert sorted(line for line in text.splitlines() if line) == sorted(
        line for line in CASE.splitlines() if line
    )
    assert text.index("# How exact it is\ntolerance") > 0
    assert call(folder, "--update").stdout.split()[0] == "passed"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("at: 0.2s", "at: 0.2", "7:18: expect[0].at: expected a duration such as 5ms or 10 s, with its unit"),
        (
            "outputs: [seen, stop]",
            "outputs: [sen]",
            "3:1: outputs: the pipeline has no such output 'sen' (did",
        ),
        ("{x: rows.csv}", "{y: rows.csv}", "2:10: inputs: the pipeline has no such input 'y' (known: x)"),
        ("tolerance:", "tolerence:", "10:1: unknown option 'tolerence' (did you mean 'tolerance'?)"),
    ],
)
def test_mistakes_of_a_case_are_told_where_they_are(folder: Path, old: str, new: str, line: str) -> None:
    result = call(changed(folder, old, new))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{folder / 'tests' / 'high.yaml'}:{line}")


def test_what_cannot_be_done_is_said(folder: Path) -> None:
    assert "no case 'hihg' (did you mean 'high'?)" in call(folder, "--case", "hihg").stderr
    (folder / "tests" / "rows.csv").unlink()
    result = call(folder, "--case", "high")
    assert result.exit_code in (1, 2)
    assert "rows.csv" in result.stderr
    (folder / "tests" / "high.yaml").unlink()
    assert call(folder).stderr == f"{folder}: no cases; they are tests/*.yaml beside the pipeline\n"
    assert call(folder).exit_code == 2


def test_a_case_in_one_line_is_not_rewritten(folder: Path) -> None:
    (folder / "tests" / "high.yaml").write_text('{"inputs": {"x": "rows.csv"}, "expect": []}')
    result = call(folder, "--update")
    assert result.exit_code == 2
    assert "--update needs each key of the case on a line of its own" in result.stderr


def test_a_step_that_fails_fails_the_case(folder: Path) -> None:
    (folder / "code.py").write_text("def loud(rows): return rows / 'a'\n")
    result = call(folder)
    assert result.exit_code == 1
    assert "steps.loud: " in result.stderr


@pytest.mark.parametrize(
    ("expected", "got", "same"),
    [([1.0, math.nan], [1.0, math.nan], True), ([1.0, 2.0], [1.0], False), ([[1], [2]], [[1], [3]], False),
     ("yes", "yes", True), (True, True, True), (None, None, True), (math.inf, math.inf, True),
     (math.inf, 1.0, False), (1, 1.00005, True), (0, 1e-7, True), (0, 1e-5, False), ("1", 1, False)],
)  # fmt: skip
def test_values_of_every_form_are_compared(tmp_path: Path, expected: Any, got: Any, same: bool) -> None:
    (tmp_path / "c.yaml").write_text("inputs: {}\n")
    file = CaseFile(tmp_path / "c.yaml")
    file.case = Case(expect=[Expected(output="o", at=Moment(1), data={"v": expected})])
    found = file.differences(Got([Expected(output="o", at=Moment(1), data={"v": got})], {}))
    assert (found == []) is same
