"""Published figures of published models and detectors, through `edgeflow run` on tests/reference."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from shutil import copy
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgeflow_agent.core.batch import Values
from edgeflow_tools.cli import edgeflow
from tests.support.onnx_files import mean_square

PIPELINES = Path(__file__).resolve().parents[1] / "reference"
WORDS = ("Down", "Go", "Left", "No", "Off", "On", "Right", "Stop", "Up", "Yes", "Silence", "Unknown")


def run(folder: Path, name: str, recordings: Mapping[str, Values | Path]) -> Result:
    """Run a pipeline of tests/reference in a folder; arrays are recordings too."""
    arguments = []
    for given, recording in recordings.items():
        path = recording if isinstance(recording, Path) else folder / f"{given}.npy"
        if not isinstance(recording, Path):
            np.save(path, recording)
        arguments += ["--input", f"{given}={path}"]
    file = copy(PIPELINES / f"{name}.yaml", folder)
    return CliRunner().invoke(edgeflow, ["run", str(file), *arguments])


def events(folder: Path, name: str, **recordings: Values | Path) -> list[dict[str, Any]]:
    """Return the events of a run that goes well."""
    result = run(folder, name, recordings)
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def tiny(test_data: Path) -> Path:
    return test_data / "mlperf-tiny"


def test_keyword_spotting_is_what_the_board_published(tmp_path: Path, tiny: Path) -> None:
    with (tiny / "published" / "kws01_first100_NUCLEO_L4R5ZI.csv").open() as stream:
        published = list(csv.DictReader(stream))
    copy(tiny / "models" / "kws_ref_model.tflite", tmp_path)
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    maps = np.stack([np.fromfile(tiny / "inputs" / "kws01" / row["file"], np.int8) for row in published])
    came = events(tmp_path, "keyword-spotting", maps=maps.reshape(-1, 49, 10, 1))
    scores = [[event["data"][word] for word in WORDS] for event in came if event["output"] == "scores"]
    wanted = [[float(row[f"p{index}"]) for index in range(len(WORDS))] for row in published]
    np.testing.assert_allclose(scores, wanted, rtol=0, atol=0.001)
    heard = [event["data"]["label"] for event in came if event["output"] == "words"]
    spoken = [WORDS[int(row["label"])] for row in published]
    assert sum(one == other for one, other in zip(heard, spoken, strict=True)) == 93


# The int8 score was published for other integer kernels; with those here it is 10.2652.
@pytest.mark.parametrize(
    ("model", "score", "tolerance"), [("ad01_fp32", 9.7071, 5e-5), ("ad01_int8", 10.2603, 1e-2)]
)
def test_the_anomaly_score_is_the_published_one(
    tmp_path: Path, tiny: Path, model: str, score: float, tolerance: float
) -> None:
    copy(tiny / "models" / f"{model}.tflite", tmp_path / "ad01.tflite")
    mean_square(tmp_path / "mean_square.onnx", 640)
    frames = np.fromfile(tiny / "inputs" / "normal_id_01_00000000_hist_librosa.bin", "<f4").reshape(-1, 128)
    came = events(tmp_path, "machine-anomaly", frames=frames)
    assert [event["inputspan"] for event in came] == [f"frames:{i}-{i + 4}" for i in range(len(frames) - 4)]
    assert np.mean([event["data"]["score"] for event in came]) == pytest.approx(score, abs=tolerance)


def test_voice_activity_is_what_the_authors_published(tmp_path: Path, test_data: Path) -> None:
    folder = test_data / "silero-vad"
    copy(folder / "silero_vad_16k_op15.onnx", tmp_path)
    came = events(tmp_path, "voice-activity", microphone=folder / "test_first10s.wav")
    heard = [event["data"]["voice"] for event in came]
    published = json.loads((folder / "expected_probs_first312chunks.json").read_text())
    np.testing.assert_allclose(heard, published, rtol=0, atol=1e-4)
    assert (len(heard), sum(chance > 0.5 for chance in heard)) == (312, 201)


@pytest.mark.parametrize(
    ("heard", "word"), [("silence", "silence"), ("noise", "silence"), ("yes", "yes"), ("no", "no")]
)
def test_micro_speech_names_the_word(tmp_path: Path, test_data: Path, heard: str, word: str) -> None:
    folder = test_data / "tflite-micro" / "micro_speech"
    copy(folder / "micro_speech_quantized.tflite", tmp_path)
    features = np.load(folder / "features_tflm_reference.npz")[f"{heard}_1000ms"]
    (event,) = events(tmp_path, "micro-speech", features=features)
    assert event["data"]["label"] == word


def test_every_row_of_the_windowed_gaussian_detector_is_the_published_one(
    tmp_path: Path, test_data: Path
) -> None:
    series = "machine_temperature_system_failure.csv"
    with (test_data / "nab" / "published" / f"windowedGaussian_{series}").open() as stream:
        published = [float(row["anomaly_score"]) for row in csv.DictReader(stream)]
    came = events(tmp_path, "machine-temperature", machine=test_data / "nab" / "data" / series)
    scores = [event["data"]["score"] for event in came]
    assert len(scores) == 22695
    np.testing.assert_allclose(scores, published, rtol=0, atol=1e-9)


@pytest.mark.parametrize("number", [3, 4])
def test_senml_records_have_their_resolved_form(tmp_path: Path, test_data: Path, number: int) -> None:
    folder = test_data / "protocol" / "senml"
    packs = tmp_path / "packs.jsonl"
    packs.write_text(json.dumps(json.loads((folder / f"ex{number}.json").read_text())) + "\n")
    resolved = json.loads((folder / f"ex{number}.gen.resolved.json").read_text())
    came = [(event["subject"], event["data"]["value"]) for event in events(tmp_path, "senml", records=packs)]
    assert sorted(came) == sorted((record["n"], record["v"]) for record in resolved)


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_an_operator_that_is_not_here_is_named(tmp_path: Path, test_data: Path, kind: str) -> None:
    folder = test_data / "tflite-micro" / "micro_speech"
    copy(folder / f"audio_preprocessor_{kind}.tflite", tmp_path / "audio_preprocessor.tflite")
    result = run(tmp_path, "audio-features", {"microphone": np.zeros((16000, 1), np.int16)})
    assert (result.exit_code, result.stdout) == (1, "")
    place = f"{tmp_path / 'audio-features.yaml'}:8:28: steps.features"
    why = "audio_preprocessor.tflite: op SignalWindow is not supported by this runtime"
    assert result.stderr == f"{place}: {why}\n"
