"""Pipeline files for tests of the contract, and what lies beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeflow_proto.bundle import Signature, Tensor
from edgeflow_proto.pipeline.check import check
from edgeflow_proto.pipeline.graph import Graph

BEARING = """\
edgeflow: 1
name: bearing-watch
description: Watches a bearing
params:
  limit: {default: 0.8, min: 0, max: 1}     # may differ per device
inputs:
  accel:
    mqtt: plant/{machine}/accel             # a capture is also a key
    key: machine
    decode: {json: {samples: data}}
    fields: {x: acc.x, y: acc.y, z: acc.z}
    rate: 1 kHz
steps:
  window:   {from: accel, window: {size: 256, hop: 64}}
  features: {from: window, python: features.spectrum}        # features.py lies beside this file
  score:    {from: features, model: bearing.onnx}
  alarm:    {from: score, threshold: {above: $limit, clear: 0.6, for: 3 rows}}
outputs:
  anomaly:  {from: alarm.raised, event: {type: bearing.anomaly, severity: warning, data: [score]}}
  stop:
    from: alarm.raised
    mqtt: {topic: "plant/{machine}/stop", payload: {cmd: stop}, qos: 1, max_age: 2s}
"""

BESIDE = {
    "features.py": b"class Kept:\n    ...\n\n\ndef spectrum(windows):\n    return windows\n",
    "broken.py": b"x = 1\ndef f(:\n",
    "bearing.onnx": b"", "windows.onnx": b"", "split.onnx": b"", "pair.onnx": b"", "integer.tflite": b"",
    "unread.tflite": b"", "voice.onnx": b"", "wake.tflite": b"", "batch.onnx": b"", "planes.onnx": b"",
    "words.txt": b"yes\nno\n\n", "empty.txt": b"\n",
}  # fmt: skip


def tensor(name: str, *shape: int, dtype: str = "float32") -> Tensor:
    return Tensor(name, dtype, shape)


SIGNATURES = {
    "bearing.onnx": Signature((tensor("in", -1, 12),), (tensor("score", -1, 1),)),
    "windows.onnx": Signature((tensor("in", -1, 256, 3),), (tensor("out", -1, 2),)),
    "split.onnx": Signature((tensor("in", -1, 3),), (tensor("mean", -1, 3), tensor("spread", -1, 1))),
    "pair.onnx": Signature((tensor("left", -1, 3), tensor("right", -1, 3)), (tensor("out", -1, 1),)),
    "voice.onnx": Signature(
        (
            tensor("input", -1, 3),
            tensor("state", 2, -1, 4),
            tensor("sr", dtype="int64"),
            tensor("gain", 1, 2),
        ),
        (tensor("output", -1, 1), tensor("stateN", -1, -1, -1), tensor("note", dtype="string")),
    ),
    "wake.tflite": Signature(
        (Tensor("x", "int8", (1, 3), 0.5, -3), Tensor("old", "int8", (1, 2), 0.5, 1)),
        (
            Tensor("y", "int8", (1, 3), 0.25),
            Tensor("new", "int8", (1, 2), 0.5, 2),
            tensor("n", 1, dtype="int64"),
        ),
    ),
    "batch.onnx": Signature((tensor("in", 8, 3),), (tensor("out", 8, 3),)),
    "planes.onnx": Signature((tensor("in", -1, 3),), (tensor("out", -1, 4, 3),)),
    "integer.tflite": Signature((tensor("in", 1, 3, dtype="int16"),), (tensor("out", 1, 1),)),
}


class Beside:
    """The files beside a pipeline, in memory."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def read(self, name: str) -> bytes | None:
        return self._files.get(name)


def problems_of(text: str | bytes, params: Mapping[str, Any] | None = None) -> list[str]:
    """Return the lines `edgeflow check` would print for a file named ``p.yaml``."""
    graph, problems = check(text, "p.yaml", Beside(BESIDE), SIGNATURES, params)
    assert (graph is None) == bool(problems)
    return [str(problem) for problem in problems]


def graph_in_memory(text: str | bytes, params: Mapping[str, Any] | None = None) -> Graph:
    """Return the graph of a file that must be fine."""
    graph, problems = check(text, "p.yaml", Beside(BESIDE), SIGNATURES, params)
    assert problems == []
    assert graph is not None
    return graph
