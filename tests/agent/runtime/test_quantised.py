"""Published models fed with floats and with whole numbers, through pipelines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeflow_agent.models.load import read_signature
from edgeflow_agent.operators.tensors import dequantised
from tests.support.steps import pipeline, rows, run


def beside(folder: Path, model: Path) -> str:
    (folder / model.name).symlink_to(model)
    return model.name


@pytest.fixture
def tiny(test_data: Path) -> Path:
    return test_data / "mlperf-tiny"


@pytest.mark.parametrize(
    ("plain", "integer", "scale"),
    [
        ("kws_ref_model_float32", "kws_ref_model", 50),
        ("pretrainedResnet", "pretrainedResnet_quant", 255),
        ("vww_96_float", "vww_96_int8", 1),
    ],
)
def test_float_rows_go_through_a_model_and_its_quantised_form_alike(
    tmp_path: Path, tiny: Path, plain: str, integer: str, scale: float
) -> None:
    shape = list(read_signature(tiny / "models" / f"{plain}.tflite").inputs[0].shape[1:])
    frames = np.random.default_rng(3).uniform(0, scale, (3, *shape)).astype(np.float32)
    text = f"""
inputs:
  in: {{mqtt: frames, shape: {shape}}}
steps:
  plain: {{from: in, model: {beside(tmp_path, tiny / "models" / f"{plain}.tflite")}}}
  integer: {{from: in, model: {beside(tmp_path, tiny / "models" / f"{integer}.tflite")}}}
outputs:
  one: {{from: plain, event: seen}}
  two: {{from: integer, event: seen}}
"""
    came = run(lambda: pipeline(tmp_path, text), [rows(frames, columns=None)])
    np.testing.assert_allclose(came["one"].values.sum(axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(came["one"].values, came["two"].values, atol=0.3)


def test_the_streaming_wake_word_model_runs_on_whole_numbers_and_on_floats(
    tmp_path: Path, tiny: Path
) -> None:
    text = f"""
inputs:
  in: {{mqtt: features, shape: [30, 1, 40], dtype: %s}}
steps:
  word: {{from: in, model: {beside(tmp_path, tiny / "models" / "str_ww_ref_model.tflite")}}}
outputs:
  out: {{from: word, event: seen}}
"""
    stored = np.random.default_rng(5).integers(-128, 128, (2, 30, 1, 40)).astype(np.int8)
    raw = run(lambda: pipeline(tmp_path, text % "int8"), [rows(stored, columns=None)])["out"]
    tensor = read_signature(tmp_path / "str_ww_ref_model.tflite").inputs[0]
    real = dequantised(stored, tensor)
    came = run(lambda: pipeline(tmp_path, text % "float32"), [rows(real, columns=None)])["out"]
    np.testing.assert_array_equal(raw.values, came.values)
    np.testing.assert_allclose(raw.values.sum(axis=1), 1, atol=0.02)
