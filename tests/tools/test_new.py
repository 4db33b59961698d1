"""`edgeflow new`: what it makes passes check and run as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from edgeflow_proto.pipeline.load import load
from edgeflow_tools.cli import edgeflow


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(edgeflow, [*map(str, arguments)])


def test_the_starter_passes_check_and_run(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "pump-7"
    made = json.loads(call("new", folder, "--json").stdout)
    assert made["name"] == "pump-7"
    assert sorted(str(path) for path in folder.rglob("*") if path.is_file()) == sorted(made["files"])
    assert call("check", folder).output == ""
    run = call("run", folder, "--input", f"accel={folder / 'recording.csv'}")
    assert run.exit_code == 0
    events = [json.loads(line) for line in run.stdout.splitlines()]
    assert [event["type"] for event in events] == ["pump-7.raised", "pump-7.cleared"]
    assert [event["time"][17:19] for event in events] == ["04", "07"]


def test_the_commands_of_its_readme_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call("new", tmp_path / "pump")
    monkeypatch.chdir(tmp_path / "pump")
    lines = [line.partition("#")[0].split() for line in Path("README.md").read_text().splitlines()]
    commands = [
        words[1:] for words in lines if words[:1] == ["edgeflow"] and words[1] in ("check", "run", "test")
    ]
    assert len(commands) == 4
    assert [call(*command).exit_code for command in commands] == [0, 0, 0, 0]


def test_two_starters_are_alike(tmp_path: Path) -> None:
    for name in ("a", "b"):
        call("new", tmp_path / name / "pump")
    first, second = (sorted((tmp_path / name / "pump").rglob("*.*")) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize("name", ["Pump", "7up", "pump_7", "a" * 64])
def test_a_name_must_be_a_pipelines(tmp_path: Path, name: str) -> None:
    result = call("new", tmp_path / name)
    assert result.exit_code == 2
    assert "is not a pipeline name" in result.stderr
    assert not (tmp_path / name).exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "pump").mkdir()
    result = call("new", tmp_path / "pump")
    assert (result.exit_code, result.stderr) == (2, f"{tmp_path / 'pump'} is there already\n")
    assert [*(tmp_path / "pump").iterdir()] == []


def test_the_schema_beside_it_is_that_of_its_first_line_and_knows_it(tmp_path: Path) -> None:
    call("new", tmp_path / "pump")
    text = (tmp_path / "pump" / "pipeline.yaml").read_text()
    name = text.partition("\n")[0].removeprefix("# yaml-language-server: $schema=")
    schema = json.loads((tmp_path / "pump" / name).read_text())
    assert schema == json.loads(call("schema").stdout) == json.loads(call("schema", "--json").stdout)
    source, _ = load(text, "pipeline.yaml")
    assert source is not None
    Draft202012Validator(schema).validate(source.data)
