"""The examples check, run, and were trained as their README says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from shutil import copy, copytree, ignore_patterns
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgeflow_agent.models.load import load_model
from edgeflow_tools.cli import edgeflow
from edgeflow_tools.sim.bearing import as_sent
from edgeflow_tools.sim.vibration import RATE, Bearing, vibration
from examples.simulation import cold_chain, energy_meter
from tests.support.models import through

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RECORDING = EXAMPLES / "recordings" / "press-7.npy"
NAMES = ("bearing", "cold-chain", "energy-meter", "host-watch", "keyword-spotting", "voice-activity")
MODELS = {
    "keyword-spotting": "mlperf-tiny/models/kws_ref_model.tflite",
    "voice-activity": "silero-vad/silero_vad_16k_op15.onnx",
}
FAULT_AT = 8 * RATE


def run(*arguments: str | Path) -> list[dict[str, Any]]:
    result = CliRunner().invoke(edgeflow, ["run", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def example(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """Return the folder of an example; where its model is not carried here, a copy with that model."""

    def folder(name: str) -> Path:
        if name not in MODELS:
            return EXAMPLES / name
        copytree(EXAMPLES, tmp_path / "examples", ignore=ignore_patterns("*.onnx", "*.tflite"))
        copy(request.getfixturevalue("test_data") / MODELS[name], tmp_path / "examples" / name)
        return tmp_path / "examples" / name

    return folder


@pytest.mark.parametrize("name", NAMES)
def test_it_has_no_mistakes(name: str, example: Callable[[str], Path]) -> None:
    result = CliRunner().invoke(edgeflow, ["check", str(example(name))])
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_its_cases_pass(name: str, example: Callable[[str], Path]) -> None:
    result = CliRunner().invoke(edgeflow, ["test", str(example(name)), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_its_readme_names_every_event(name: str) -> None:
    readme = (EXAMPLES / name / "README.md").read_text()
    types = re.findall(r"event: {type: ([\w.]+)", (EXAMPLES / name / "pipeline.yaml").read_text())
    assert types
    assert [type_ for type_ in types if type_ not in readme] == []


@pytest.mark.parametrize(
    ("recording", "simulation"), [("cold-chain", cold_chain), ("energy-meter", energy_meter)]
)
def test_a_simulated_recording_is_what_its_script_writes(recording: str, simulation: ModuleType) -> None:
    written = (EXAMPLES / "recordings" / f"{recording}.csv").read_text()
    assert written == "\n".join(simulation.lines()) + "\n"


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_not_carried_is_missed(name: str, tmp_path: Path) -> None:
    copytree(EXAMPLES / name, tmp_path / name, ignore=ignore_patterns("*.onnx", "*.tflite"))
    result = CliRunner().invoke(edgeflow, ["check", str(tmp_path / name)])
    assert result.exit_code == 1
    assert f"no file {Path(MODELS[name]).name} beside the pipeline" in result.output


def test_the_damage_in_the_recording_is_found_soon_and_nothing_before() -> None:
    events = run(EXAMPLES / "bearing", "--input", f"accel={RECORDING}")
    (alarm,) = [event for event in events if event["type"] == "bearing.anomaly"]
    last = int(alarm["inputspan"].rpartition("-")[2])
    assert FAULT_AT < last < FAULT_AT + 2 * RATE
    health = [event["data"]["score.mean"] for event in events if event["type"] == "bearing.health"]
    assert len(health) == 38
    assert max(health[:14]) < 0.5 < 0.8 < min(health[-10:])


def test_the_recording_is_what_the_simulator_gives() -> None:
    np.testing.assert_array_equal(np.load(RECORDING), as_sent(vibration(20 * RATE, Bearing(), 1, FAULT_AT)))


def host(cpu: float, slope: float, path: Path) -> list[dict[str, Any]]:
    """Return what host-watch says of 15 s in which memory grows from 50 by `slope` percent a second."""
    rows = np.arange(60)
    columns = np.clip(np.stack((cpu + rows % 3, 50 + slope * rows / 4), axis=1), 0, 100).astype(np.float32)
    np.save(path / "host.npy", columns)
    return run(EXAMPLES / "host-watch", "--input", f"machine={path / 'host.npy'}")


@pytest.mark.parametrize(
    ("cpu", "slope", "warning"), [(20, 0, None), (98, 0, "host.saturated"), (20, 1, "host.leak")]
)
def test_a_machine_is_told_apart(cpu: float, slope: float, warning: str | None, tmp_path: Path) -> None:
    events = host(cpu, slope, tmp_path)
    assert [event["type"] for event in events if event["type"] != "host.state"] == [warning] * (
        warning is not None
    )
    assert len([event for event in events if event["type"] == "host.state"]) == 6


def test_the_onnx_file_computes_what_was_trained(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed (make dev)")
    from examples.training import network, onnx_file

    rng = np.random.default_rng(1)
    layers = network.make([6, 4, 6], "tanh", rng)
    mean, std, x = rng.normal(0, 1, 6), rng.uniform(1, 2, 6), rng.normal(0, 3, (5, 6))
    onnx_file.write_scorer(tmp_path / "m.onnx", layers, mean, std, 0.5)
    z = (x - mean) / std
    error = np.square(network.forward(layers, z) - z).mean(axis=1, keepdims=True)
    given = through(load_model(tmp_path / "m.onnx"), x.astype(np.float32))
    np.testing.assert_allclose(given, error / (error + 0.5), rtol=1e-5)


def test_the_tflite_file_computes_what_was_trained(tmp_path: Path) -> None:
    pytest.importorskip("flatbuffers", reason="flatbuffers is not installed (make dev)")
    from examples.training import host, network, tflite_file

    rng = np.random.default_rng(1)
    layers = network.make([8, 5, 3], "relu", rng)
    mean, std, x = rng.normal(0, 1, 8), rng.uniform(1, 2, 8), rng.normal(0, 3, (5, 8))
    folded = host.folded(layers, mean, std)
    tflite_file.write_classifier(tmp_path / "m.tflite", folded)
    given = through(load_model(tmp_path / "m.tflite"), x.astype(np.float32))
    np.testing.assert_allclose(
        given, host.softmax(network.forward(layers, (x - mean) / std)), rtol=1e-4, atol=1e-6
    )


def test_training_finds_a_network_that_fits_and_always_the_same() -> None:
    from examples.training import network

    def trained() -> tuple[list[network.Layer], float]:
        rng = np.random.default_rng(2)
        x = rng.uniform(-1, 1, (500, 2))
        target = x[:, :1] * x[:, 1:]  # not linear
        layers = network.make([2, 8, 1], "tanh", rng)
        network.train(layers, x, target, lambda y, wanted: 2 * (y - wanted), 600, rng)
        return layers, float(np.square(network.forward(layers, x) - target).mean())

    (first, error), (second, _) = trained(), trained()
    assert error < 1e-3
    np.testing.assert_array_equal(first[0].weights, second[0].weights)
