"""What goes along with a pipeline, and in what form servers refuse it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgeflow_proto.pipeline.load import load
from edgeflow_tools.bundles import bundle
from edgeflow_tools.cli import edgeflow
from edgeflow_tools.client import DEVICE, Server, messages
from edgeflow_tools.pipelines import checked
from edgeflow_tools.terminal import Failure
from tests.support.onnx_files import linear

PIPELINE = """
edgeflow: 1
name: many
inputs:
  rows: {file: rows.csv, fields: [x], rate: 10 Hz}
steps:
  double: {from: rows, python: {function: double.f, columns: [twice]}}
outputs:
  out: {from: double, event: {type: many.out}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "rows.csv": "x\n1\n",
        "double.py": "from help import g\ndef f(x): ...\n",
        "help.py": "",
        "notes.txt": "n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("secret")
    return tmp_path


def test_a_file_takes_along_what_it_names_and_the_python_beside_it(folder: Path) -> None:
    (folder / "many.yaml").write_text(PIPELINE)
    (folder / "another.yaml").write_text(PIPELINE)
    manifest, files = bundle(checked(folder / "many.yaml"))
    assert sorted(files) == sorted(manifest.files) == ["double.py", "help.py", "pipeline.yaml", "rows.csv"]
    assert files["pipeline.yaml"] == PIPELINE.encode()


def test_a_model_takes_its_labels_along(folder: Path) -> None:
    linear(folder / "m.onnx", np.eye(1, dtype=np.float32))
    (folder / "words.txt").write_text("yes\n")
    step = "double: {from: rows, model: {file: m.onnx, argmax: true, labels: words.txt}}"
    named = re.sub("double: .*", step, PIPELINE)
    (folder / "many.yaml").write_text(named)
    assert {"m.onnx", "words.txt"} < bundle(checked(folder / "many.yaml"))[1].keys()
    (folder / "words.txt").unlink()
    (problem,) = checked(folder / "many.yaml").problems
    assert str(problem).endswith("steps.double: labels: no file words.txt beside the pipeline")


def test_a_folder_goes_along_whole_but_for_what_is_hidden(folder: Path) -> None:
    (folder / "pipeline.yaml").write_text(PIPELINE)
    whole = bundle(checked(folder))
    assert sorted(whole[1]) == ["double.py", "help.py", "notes.txt", "pipeline.yaml", "rows.csv"]
    assert bundle(checked(folder / "pipeline.yaml")) == whole


def test_a_pipeline_too_large_to_deploy_still_runs(folder: Path) -> None:
    (folder / "pipeline.yaml").write_text(PIPELINE)
    with (folder / "recording.npy").open("wb") as file:
        file.truncate(2 << 30)
    with pytest.raises(ValueError, match="a bundle holds at most 512 MiB"):
        bundle(checked(folder))
    (folder / "double.py").write_text("def f(x):\n    return 2 * x\n")
    result = CliRunner().invoke(edgeflow, ["run", str(folder)])
    assert result.exit_code == 0
    assert "the events carry no pipeline digest" in result.stderr
    assert '"twice":2.0' in result.stdout


def test_server_sent_events_are_taken_apart() -> None:
    stream = (
        b'retry: 1000\nid: a-1\n\n: here\n\nid: a-2\nevent: event\ndata: {"n":\ndata: 2}\n\ndata: 3\r\n\r\n'
    )
    found = [pair for pair in messages(io.BytesIO(stream), "") if pair[1]]
    assert found == [("a-2", '{"n":\n2}'), ("a-2", "3")]


@pytest.mark.parametrize("url", ["pump-7", "127.0.0.1:7080", "ftp://x"])
def test_an_address_must_be_one(url: str) -> None:
    with pytest.raises(Failure, match="not the address of a device"):
        Server(DEVICE, url)


def test_the_environment_names_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEFLOW_DEVICE", "http://127.0.0.1:1/")
    assert Server(DEVICE).url == "http://127.0.0.1:1"
    assert Server(DEVICE, "http://localhost:2").url == "http://localhost:2"
    monkeypatch.delenv("EDGEFLOW_DEVICE")
    assert Server(DEVICE).url == "http://127.0.0.1:7080"


def test_a_pipeline_in_json_stands_for_its_folder_without_the_tests(folder: Path) -> None:
    document = json.dumps(load(PIPELINE, "many.yaml")[0].data, indent="\t")  # type: ignore[union-attr]
    (folder / "pipeline.json").write_text(document)
    (folder / "tests").mkdir()
    (folder / "tests" / "long.csv").write_text("x\n1\n")
    manifest, files = bundle(checked(folder))
    beside = ["double.py", "help.py", "notes.txt", "pipeline.yaml", "rows.csv"]
    assert sorted(files) == sorted(manifest.files) == beside
    assert files["pipeline.yaml"] == document.encode()
