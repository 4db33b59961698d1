"""The examples of docs/pipelines.md: one for each kind, each without a mistake, each step at work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeflow_agent.core.batch import Batch, numbered
from edgeflow_agent.operators.load import operators
from edgeflow_agent.runtime.plan import compile_plan
from edgeflow_agent.runtime.run import Runtime
from edgeflow_proto.pipeline.check import graph_of
from edgeflow_proto.pipeline.graph import Graph, InputNode
from edgeflow_proto.pipeline.kinds.base import Role, kinds
from tests.support.onnx_files import linear
from tests.support.steps import Folder, loaded

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
ROLES: tuple[Role, ...] = ("input", "decoder", "step", "output")
FILES = sorted(EXAMPLES.glob("*.yaml"))
ROWS, SECONDS = 4000, 40
CODE = """
import numpy as np

def spectrum(windows):
    return np.abs(np.fft.rfft(windows, axis=1))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lies beside the examples."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "features.py").write_text(CODE)
    linear(folder / "press.onnx", np.ones((3, 1), np.float32))
    return folder


def graph(file: Path, folder: Path) -> Graph:
    return graph_of(file.read_bytes(), file.name, Folder(folder), Folder(folder).signatures())


def test_every_kind_has_an_example() -> None:
    own = {f"{role}-{name}" for role in ROLES for name, kind in kinds(role).items()
           if kind.__module__.startswith("edgeflow_proto.")}  # fmt: skip
    assert {file.stem for file in FILES} == own


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_has_no_mistake_and_is_of_its_kind(file: Path, folder: Path) -> None:
    checked = graph(file, folder)
    role, _, kind = file.stem.partition("-")
    nodes = {"input": checked.inputs, "step": checked.steps, "output": checked.outputs}
    if role == "decoder":
        assert isinstance(checked.inputs["example"].intake.decode, kinds("decoder")[kind])
    else:
        assert nodes[role]["example"].kind == kind


class Strict:
    """An observer that lets nothing pass."""

    def ran(self, step: str, rows: int, ns: int) -> None:
        pass

    def failed(self, step: str, error: Exception, rows: Batch) -> None:
        raise error


def made_up(node: InputNode, first: int, seed: int) -> Batch:
    """Return rows of a slow swing with noise, of two keys where there are any."""
    rng = np.random.default_rng(seed)
    swing = 100 * np.sin(np.arange(ROWS) / 300).reshape(-1, *(1,) * len(node.intake.row_shape))
    values = (swing + rng.normal(0, 2, (ROWS, *node.intake.row_shape))).astype(node.intake.dtype)
    t = np.arange(ROWS) * (SECONDS * 10**9 // ROWS)
    key = (np.arange(ROWS) % 2 if node.intake.key else np.zeros(ROWS)).astype(np.uint32)
    return numbered(values, t, key, first, node.intake.columns)


@pytest.mark.parametrize("file", [f for f in FILES if f.stem.startswith("step-")], ids=lambda f: f.stem)
def test_an_example_of_a_step_gives_rows(file: Path, folder: Path) -> None:
    checked = graph(file, folder)
    found = operators({node.kind for node in checked.steps.values()})
    runtime = Runtime(compile_plan(checked, folder, found, loaded), Strict())
    came = [output for seed, node in enumerate(checked.inputs.values())
            for output in runtime.push(node.name, made_up(node, 0, seed))]  # fmt: skip
    came += runtime.tick(10**9 * 10**6)
    assert {name for name, batch in came if len(batch)} == set(checked.outputs)


def test_the_reference_is_what_the_kinds_say() -> None:
    check = [sys.executable, str(ROOT / ".ci" / "reference.py"), "--check"]
    assert subprocess.run(check, check=False).returncode == 0
