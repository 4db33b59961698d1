"""ONNX models small enough to be made on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def product(path: Path, width: int, batch: int | str = "n") -> Path:
    """Write a model ``y = image * meta`` of two inputs, ``(batch, width)`` and ``(batch, 1)``."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (make dev)")
    make, one = onnx.helper, onnx.TensorProto.FLOAT
    image, meta, y = (
        make.make_tensor_value_info(name, one, [batch, size])
        for name, size in (("image", width), ("meta", 1), ("y", width))
    )
    nodes = [make.make_node("Mul", ["image", "meta"], ["y"])]
    return _saved(path, make.make_graph(nodes, "g", [image, meta], [y]))


def summing(path: Path, width: int = 2, gain: Sequence[int] = ()) -> Path:
    """Write a model of carried state: ``total = x + sum``, ``y = total * gain``, each ``(1, width)``.

    `gain` is the shape of that input.
    """
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (make dev)")
    make, one = onnx.helper, onnx.TensorProto.FLOAT
    ends = {name: make.make_tensor_value_info(name, one, [1, width]) for name in ("x", "sum", "total", "y")}
    ends["gain"] = make.make_tensor_value_info("gain", one, [*gain])
    nodes = [make.make_node("Add", ["x", "sum"], ["total"]), make.make_node("Mul", ["total", "gain"], ["y"])]
    inputs, outputs = [ends["gain"], ends["x"], ends["sum"]], [ends["total"], ends["y"]]
    return _saved(path, make.make_graph(nodes, "g", inputs, outputs))


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
    return _saved(path, graph)


def _saved(path: Path, graph: Any) -> Path:
    from onnx import helper as make

    model = make.make_model(graph, opset_imports=[make.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    path.write_bytes(model.SerializeToString())
    return path
