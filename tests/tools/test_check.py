"""`edgeflow check`: every mistake of a file at once, where it stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgeflow_tools.cli import edgeflow

GOOD = """
edgeflow: 1
name: fine
inputs:
  accel: {mqtt: plant/accel, fields: [x]}
steps:
  window: {from: accel, window: 8}
outputs:
  out: {from: window, event: {type: fine.out}}
"""
WRONG = """
edgeflow: 1
name: wrong
inputs:
  accel: {mqtt: plant/accel, feilds: [x]}
steps:
  score: {from: accel, model: broken.tflite}
  other: {from: scoer, window: 8}
outputs:
  out: {from: score, event: {type: t.out}}
"""


def check(*arguments: str | Path) -> Result:
    return CliRunner().invoke(edgeflow, ["check", *map(str, arguments)])


def test_a_file_without_mistakes_gives_nothing(tmp_path: Path) -> None:
    file = tmp_path / "fine.yaml"
    file.write_text(GOOD)
    result = check(file)
    assert (result.exit_code, result.output) == (0, "")
    assert json.loads(check(file, "--json").stdout) == {"problems": []}


def test_every_mistake_is_told_at_once_with_its_place_and_a_hint(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(WRONG)
    (tmp_path / "broken.tflite").write_bytes(b"no model")
    result = check(file)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert f"{file}:5:30: inputs.accel: unknown option 'feilds' (did you mean 'fields'?)" in lines
    assert f"{file}:8:11: steps.other: no input or step 'scoer' (did you mean 'score'?)" in lines
    assert [line for line in lines if line.startswith(f"{file}:7:24: steps.score: broken.tflite: ")]
    assert lines == sorted(lines, key=lambda line: int(line.removeprefix(str(file)).split(":")[1]))


def test_problems_are_the_same_as_json(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(WRONG)
    plain, told = check(file), json.loads(check(file, "--json").stdout)["problems"]
    assert len(told) == len(plain.stdout.splitlines())
    place = {"file": str(file), "line": 8, "col": 11, "where": "steps.other"}
    assert any(place.items() <= problem.items() for problem in told)


def test_several_files_and_folders_are_checked(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "pipeline.yaml").write_text(WRONG)
    (tmp_path / "fine.yaml").write_text(GOOD)
    result = check(tmp_path / "fine.yaml", tmp_path / "folder")
    assert result.exit_code == 1
    assert all(line.startswith(f"{tmp_path}/folder/pipeline.yaml:") for line in result.stdout.splitlines())


@pytest.mark.parametrize("name", ["absent.yaml", "empty"])
def test_what_is_no_pipeline_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    result = check(tmp_path / name)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1


def test_a_model_of_the_wrong_form_is_found(tmp_path: Path, test_data: Path) -> None:
    (tmp_path / "kws.tflite").symlink_to(test_data / "mlperf-tiny" / "models" / "kws_ref_model.tflite")
    file = tmp_path / "words.yaml"
    text = GOOD.replace("window: 8", "model: kws.tflite").replace("fields: [x]", "shape: [480], dtype: int8")
    file.write_text(text)
    result = check(file)
    assert result.exit_code == 1
    assert "steps.window: " in result.stdout
    assert "but is fed rows of shape [480]" in result.stdout


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (
            "accel: {mqtt: plant/accel, broker: hall, fields: [x]}",
            "5:30: inputs.accel: unknown option 'broker' (inside mqtt: {…, broker: …})",
        ),
        (
            "accel: {mqtt: plant/accel, feilds: [x]}",
            "5:30: inputs.accel: unknown option 'feilds' (did you mean 'fields'?)",
        ),
    ],
)
def test_an_option_of_the_kind_itself_is_shown_its_place(tmp_path: Path, wrong: str, line: str) -> None:
    file = tmp_path / "fine.yaml"
    file.write_text(GOOD.replace("accel: {mqtt: plant/accel, fields: [x]}", wrong))
    result = check(file)
    assert result.exit_code == 1
    assert f"{file}:{line}" in result.stdout.splitlines()


def test_what_is_no_pipeline_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "features.py").write_text("x = 1\n")
    result = check(tmp_path / "features.py")
    assert result.exit_code == 2
    assert result.stderr == f"{tmp_path / 'features.py'}: not a pipeline file (.yaml, .yml, .json)\n"


def test_mistakes_of_a_pipeline_in_json_are_told_by_line_too(tmp_path: Path) -> None:
    data = {
        "$schema": "pipeline.schema.json", "edgeflow": 1, "name": "p",
        "inputs": {"accel": {"mqtt": "a", "rate": "1 kHz"}},
        "outputs": {"out": {"from": "acell", "event": {"type": "t"}}},
    }  # fmt: skip
    (tmp_path / "pipeline.json").write_text(json.dumps(data, indent="\t"))
    lines = check(tmp_path).stdout.splitlines()
    assert f"{tmp_path / 'pipeline.json'}:13:4: outputs.out: no input or step 'acell'" in lines[-1]
    assert len(lines) == 1
