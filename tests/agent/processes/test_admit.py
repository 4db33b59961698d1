from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edgeflow_agent.deploy.verdict import Verdict
from edgeflow_agent.processes.admit import admit, files_of
from edgeflow_proto.bundle import MANIFEST_FILE, Signature, Tensor, decode_manifest

BEARING = Path(__file__).parents[3] / "examples" / "bearing"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(BEARING, tmp_path / "bundle", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "bundle"


def test_a_good_bundle_gets_a_manifest_that_names_it(folder: Path) -> None:
    verdict = admit(folder, {})
    assert (verdict.name, verdict.problems) == ("bearing-watch", [])
    manifest = decode_manifest((folder / MANIFEST_FILE).read_bytes())
    assert manifest.digest == verdict.digest
    assert set(manifest.files) == set(files_of(folder))
    assert admit(folder, {}) == verdict


def test_a_manifest_that_came_along_keeps_its_digest(folder: Path) -> None:
    made = admit(folder, {})
    path = folder / MANIFEST_FILE
    sent = decode_manifest(path.read_bytes())
    fewer = type(sent)(sent.name, sent.files, {})  # whoever made it could not read models
    path.write_bytes(fewer.encode())
    verdict = admit(folder, {})
    assert verdict.digest == fewer.digest != made.digest


def test_a_manifest_of_other_files_or_another_model_is_refused(folder: Path) -> None:
    admit(folder, {})
    path = folder / MANIFEST_FILE
    sent = decode_manifest(path.read_bytes())
    (folder / "notes.txt").write_text("one more")
    assert "it describes other files" in str(admit(folder, {}).problems[0])
    (folder / "notes.txt").unlink()
    other = Signature((Tensor("x", "float32", (-1, 3)),), (Tensor("y", "float32", (-1, 1)),))
    path.write_bytes(type(sent)(sent.name, sent.files, {"bearing.onnx": other}).encode())
    assert "bearing.onnx is another one here" in str(admit(folder, {}).problems[0])


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("features.py", b"import nothing_like_this\ndef spectrum(w): pass\n", "nothing_like_this"),
        ("features.py", b"raise SystemExit(3)\ndef spectrum(w): pass\n", "SystemExit"),
        ("bearing.onnx", b"not a model", "bearing.onnx"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_the_reason(
    folder: Path, file: str, content: bytes, expected: str
) -> None:
    (folder / file).write_bytes(content)
    problems = admit(folder, {}).problems
    assert problems
    assert expected in "\n".join(map(str, problems))


def test_files_where_the_manifest_lies_are_refused_in_words(folder: Path) -> None:
    (folder / MANIFEST_FILE).mkdir()
    (folder / MANIFEST_FILE / "x").touch()
    assert "not of a folder" in str(admit(folder, {}).problems[0])
    (folder / MANIFEST_FILE / "x").unlink()
    assert "Is a directory" in str(admit(folder, {}).problems[0])


def test_a_manifest_that_is_nested_without_end_is_refused_in_words(folder: Path) -> None:
    (folder / MANIFEST_FILE).write_bytes(b'{"x":' + b"[" * 100_000)
    assert "nested too deeply" in str(admit(folder, {}).problems[0])


def test_what_is_hidden_or_a_cache_changes_nothing(folder: Path) -> None:
    verdict = admit(folder, {})
    for name in (".DS_Store", "__pycache__/x.pyc", "lib/.git/x"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert admit(folder, {}) == verdict


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert "no such file" in str(admit(tmp_path, {}).problems[0])


AUTHORED = """
edgeflow: 1
name: pump
inputs:
  accel: {mqtt: pump/accel, decode: {json: {samples: data}}, fields: [x], rate: 1 kHz}
steps:
  window: {from: accel, window: 8}
  level: {from: window, python: {function: features.level, columns: [rms, peak]}}
outputs:
  all: {from: level, event: pump.level}
"""


def rehearsed(folder: Path, body: str) -> Verdict:
    (folder / "pipeline.yaml").write_text(AUTHORED)
    code = f"import numpy as np\n\ndef level(windows):\n    x = windows[:, :, 0]\n    {body}\n"
    (folder / "features.py").write_text(code)
    return admit(folder, {})


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("return x", "features.level gave rows of shape [8], not [2]"),
        ("return x[:1, :2]", "features.level gave shape [1, 2] for 3 rows"),
        ("return (x * 1j)[:, :2]", "features.level gave complex64, not float32"),
    ],
)
def test_a_step_that_gives_what_it_does_not_declare_is_refused_at_its_place(
    tmp_path: Path, body: str, problem: str
) -> None:
    verdict = rehearsed(tmp_path, body)
    assert [str(found) for found in verdict.problems] == [f"pipeline.yaml:8:3: steps.level: {problem}"]
    assert verdict.digest == ""


def test_a_step_that_cannot_be_set_to_work_is_refused_at_its_place(tmp_path: Path) -> None:
    verdict = rehearsed(tmp_path, "return x\n\nimport nothing_like_this")
    what = "cannot be set to work: features.py:7: ModuleNotFoundError: No module named 'nothing_like_this'"
    assert [str(found) for found in verdict.problems] == [f"pipeline.yaml:8:3: steps.level: {what}"]


def test_a_step_that_raises_on_made_up_rows_is_taken_with_a_warning(tmp_path: Path) -> None:
    verdict = rehearsed(tmp_path, "raise KeyError('sensor')")
    warning = "steps.level: raises on made-up rows: features.py:5: KeyError: 'sensor'"
    assert (verdict.problems, verdict.warnings) == ([], (warning,))
    assert verdict.digest


@pytest.mark.parametrize(
    "body", ["return x[:, :2] / x.sum(axis=1, keepdims=True)", "assert x.any(); return x[:, :2]"]
)
def test_values_that_only_zeros_have_are_nothing_to_warn_of(tmp_path: Path, body: str) -> None:
    verdict = rehearsed(tmp_path, body)
    assert (verdict.problems, verdict.warnings) == ([], ())


def test_python_that_ends_the_process_is_taken_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(AUTHORED)
    (tmp_path / "features.py").write_text("import os\n\ndef level(windows):\n    os._exit(9)\n")
    command = [sys.executable, "-m", "edgeflow_agent.processes.admit", str(tmp_path)]
    done = subprocess.run(command, input=b"{}", capture_output=True, timeout=60, check=False)
    (line,) = done.stdout.splitlines()
    verdict = msgspec.json.decode(line, type=Verdict)
    assert (done.returncode, verdict.name, verdict.problems) == (9, "pump", [])
    assert verdict.warnings[0].startswith("calling its Python with made-up rows ended the trial's process")
