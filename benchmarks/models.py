"""Models the benchmarks run: dense layers with random weights, written as ONNX."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

AUTOENCODER = (640, 64, 8, 64, 640)  # 84k parameters
PERCEPTRON = (64, 32, 1)


def make_dense(path: Path, layers: tuple[int, ...]) -> Path:
    """Write a model of dense layers, each with a rectifier, of free batch dimension."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes: list[Any] = []
    weights: list[Any] = []
    edge = "x"
    for index, (wide, high) in enumerate(pairwise(layers)):
        weights.append(numpy_helper.from_array(rng.normal(0, 0.1, (wide, high)).astype("f4"), f"w{index}"))
        weights.append(numpy_helper.from_array(np.zeros(high, "f4"), f"b{index}"))
        nodes.append(helper.make_node("Gemm", [edge, f"w{index}", f"b{index}"], [f"g{index}"]))
        nodes.append(helper.make_node("Relu", [f"g{index}"], [f"r{index}"]))
        edge = f"r{index}"
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, layers[0]])
    target = helper.make_tensor_value_info(edge, TensorProto.FLOAT, [None, layers[-1]])
    graph = helper.make_graph(nodes, "dense", [source], [target], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


class Folder:
    """The files of a folder, as the contract's checks see them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or ``None`` when there is no such file."""
        file = self._path / name
        return file.read_bytes() if file.is_file() else None
