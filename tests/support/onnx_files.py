"""ONNX models small enough to be made on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
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
    make = _maker()
    image, meta, y = (_end(name, batch, size) for name, size in (("image", width), ("meta", 1), ("y", width)))
    nodes = [make.make_node("Mul", ["image", "meta"], ["y"])]
    return _saved(path, make.make_graph(nodes, "g", [image, meta], [y]))


def mean_square(path: Path, width: int) -> Path:
    """Write a model of the mean squared difference of `heard` and `rebuilt`, ``(n, width)`` → ``(n, 1)``."""
    make = _maker()
    nodes = [
        make.make_node("Sub", ["heard", "rebuilt"], ["error"]),
        make.make_node("Mul", ["error", "error"], ["square"]),
        make.make_node("ReduceMean", ["square"], ["mean"], axes=[1]),
    ]
    inputs = [_end(name, "n", width) for name in ("heard", "rebuilt")]
    return _saved(path, make.make_graph(nodes, "g", inputs, [_end("mean", "n", 1)]))


def summing(path: Path, width: int = 2, gain: Sequence[int] = ()) -> Path:
    """Write a model of carried state: ``total = x + sum``, ``y = total * gain``, each ``(1, width)``.

    `gain` is the shape of that input.
    """
    make = _maker()
    ends = {name: _end(name, 1, width) for name in ("x", "sum", "total", "y")} | {"gain": _end("gain", *gain)}
    nodes = [make.make_node("Add", ["x", "sum"], ["total"]), make.make_node("Mul", ["total", "gain"], ["y"])]
    inputs, outputs = [ends["gain"], ends["x"], ends["sum"]], [ends["total"], ends["y"]]
    return _saved(path, make.make_graph(nodes, "g", inputs, outputs))


def _write(path: Path, op: str, weights: Values, batch: int | str) -> Path:
    make = _maker()
    sizes = zip(("x", "y"), weights.shape, strict=True)
    ends = [_end(name, batch, size, dtype=weights.dtype) for name, size in sizes]
    second, constants = ("w", [_stored("w", weights)]) if op == "MatMul" else ("x", [])
    graph = make.make_graph([make.make_node(op, ["x", second], ["y"])], "g", ends[:1], ends[1:], constants)
    return _saved(path, graph)


def _maker() -> Any:
    return pytest.importorskip("onnx", reason="onnx is not installed (make dev)").helper


def _end(name: str, *shape: int | str, dtype: npt.DTypeLike = np.float32) -> Any:
    make = _maker()
    return make.make_tensor_value_info(name, make.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def _stored(name: str, values: Values) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(values, name)


def _saved(path: Path, graph: Any) -> Path:
    from onnx import helper as make

    model = make.make_model(graph, opset_imports=[make.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    path.write_bytes(model.SerializeToString())
    return path
