"""Published figures of published models, through pipelines."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from edgeflow_agent.runtime.run import Runtime
from tests.support.steps import cut, pipeline, rows, run

FRAMES = """
inputs:
  in: {mqtt: mel, shape: [128]}
steps:
  window: {from: in, window: {size: 5, hop: 1}}
  model: {from: window, model: %s}
  alarm: {from: scale, threshold: {above: 1000, column: v}}
  scale: {from: model, python: {function: code.first, columns: [v]}}
outputs:
  out: {from: alarm.raised, event: {type: t.out}}
"""


def beside(folder: Path, model: Path) -> str:
    (folder / model.name).symlink_to(model)
    return model.name


@pytest.fixture
def tiny(test_data: Path) -> Path:
    return test_data / "mlperf-tiny"


def test_keyword_spotting_is_what_the_board_published(tmp_path: Path, tiny: Path) -> None:
    with (tiny / "published" / "kws01_first100_NUCLEO_L4R5ZI.csv").open() as stream:
        published = list(csv.DictReader(stream))
    maps = np.stack([np.fromfile(tiny / "inputs" / "kws01" / row["file"], np.int8) for row in published])
    text = f"""
inputs:
  in: {{mqtt: mfcc, shape: [490], dtype: int8}}
steps:
  score: {{from: in, model: {beside(tmp_path, tiny / "models" / "kws_ref_model.tflite")}}}
outputs:
  out: {{from: score, event: {{type: t.word}}}}
"""
    came = run(lambda: pipeline(tmp_path, text), cut(rows(maps, columns=None), [7, 1, 60]))["out"]
    assert came.columns == tuple(f"score_{index}" for index in range(12))
    wanted = np.array([[float(row[f"p{index}"]) for index in range(12)] for row in published])
    assert np.abs(came.values - wanted).max() <= 0.001
    assert (came.values.argmax(axis=1) == [int(row["label"]) for row in published]).sum() == 93


# The published int8 figure is of other integer kernels: with these it is 10.2652.
@pytest.mark.parametrize(
    ("model", "score", "tolerance"), [("ad01_fp32", 9.7071, 1e-4), ("ad01_int8", 10.2603, 1e-2)]
)
def test_the_anomaly_score_is_the_published_one(
    tmp_path: Path, tiny: Path, model: str, score: float, tolerance: float
) -> None:
    frames = np.fromfile(tiny / "inputs" / "normal_id_01_00000000_hist_librosa.bin", "<f4").reshape(-1, 128)
    (tmp_path / "code.py").write_text("def first(rows):\n    return rows[:, 0]\n")
    text = FRAMES % beside(tmp_path, tiny / "models" / f"{model}.tflite")

    def make() -> Runtime:
        return pipeline(tmp_path, text, taps=["window", "model"])

    came = run(make, cut(rows(frames, columns=None), [50, 1, 3]))
    windows = came["window"].values.reshape(-1, 640)
    errors = np.square(windows - came["model"].values).mean(axis=1, dtype=np.float64)
    assert errors.mean() == pytest.approx(score, abs=tolerance)
    np.testing.assert_array_equal(came["model"].span, came["window"].span)


@pytest.mark.parametrize("heard", ["silence", "noise", "yes", "no"])
def test_micro_speech_names_the_word(tmp_path: Path, test_data: Path, heard: str) -> None:
    folder = test_data / "tflite-micro" / "micro_speech"
    features = np.load(folder / "features_tflm_reference.npz")[f"{heard}_1000ms"]
    columns = ["silence", "unknown", "yes", "no"]
    name = beside(tmp_path, folder / "micro_speech_quantized.tflite")
    text = f"""
inputs:
  in: {{mqtt: features, shape: [40], dtype: int8}}
steps:
  second: {{from: in, window: 49}}
  word: {{from: second, model: {{file: {name}, columns: {columns}}}}}
outputs:
  out: {{from: word, event: {{type: t.word}}}}
"""
    came = run(lambda: pipeline(tmp_path, text), [rows(features, columns=None)])["out"]
    named = (came.columns or ())[int(came.values[0].argmax())]
    assert named == {"noise": "silence"}.get(heard, heard)
