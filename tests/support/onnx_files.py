"""ONNX models small enough to be made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeflow_agent.core.batch import Values

_OPSET, _IR_VERSION = 17, 8


def linear(path: Path, weights: Values, batch: int | str = "n") -> Path:
    """Write a model ``y = x @ weights``; `batch` is its first dimension, a name for a free one."""
    return _write(path, "MatMul", weights, batch)


def doubled(path: Path, width: int, dtype: str) -> Path:
    """Write a model ``y = x + x`` of another dtype."""
    return _write(path, "Add", np.zeros((width, width), dtype), "n")


def _write(path: Path, op: str, weights: Values, batch: int | str) -> Path:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (make dev)")
    make = onnx.helper
    element = make.np_dtype_to_tensor_dtype(weights.dtype)
    ends = [
        make.make_tensor_value_info(name, element, [batch, size])
        for name, size in zip(("x", "y"), weights.shape, strict=True)
    ]
    second, constants = ("w", [onnx.numpy_helper.from_array(weights, "w")]) if op == "MatMul" else ("x", [])
    graph = make.make_graph([make.make_node(op, ["x", second], ["y"])], "g", ends[:1], ends[1:], constants)
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    path.write_bytes(model.SerializeToString())
    return path
