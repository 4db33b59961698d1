"""What a device says of models that do not run as asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.device import Device
from tests.support.onnx_files import linear
from tests.support.processes import eventually

pytestmark = pytest.mark.system

PIPELINE = """
edgeflow: 1
name: still
inputs:
  rows: {http: , fields: [x]}
steps:
  score: {from: rows, model: {file: m.onnx, provider: tensorrt}}
outputs:
  all: {from: score, event: still.all}
"""


def test_another_provider_than_asked_for_is_an_event(device: Device, tmp_path: Path) -> None:
    folder = device.pipelines / "still"
    folder.mkdir()
    linear(folder / "m.onnx", np.eye(1, dtype=np.float32))
    (folder / "pipeline.yaml").write_text(PIPELINE)
    device.start()
    (told,) = eventually(lambda: device.events("still", "edgeflow.step.notice"), "the notice is an event")
    what = "m.onnx is executed by cpu: tensorrt is not here"
    assert told["data"] == {"step": "score", "what": what}
    assert f"still: steps.score: {what}" in device.log
