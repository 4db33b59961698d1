"""An autoencoder as an ONNX model that gives a score between 0 and 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from examples.training.network import Array, Layer

OPSET, IR_VERSION = 17, 8  # what runtimes of the last years read


def write_scorer(path: Path, layers: list[Layer], mean: Array, std: Array, half: float) -> None:
    """Write ``(n, inputs)`` float32 → ``(n, 1)``: error / (error + half).

    `error` is the mean squared error of the reconstruction of ``(x - mean) / std``; `half` is the one that
    scores 0.5.
    """
    graph = _Graph()
    z = graph.node("Div", graph.node("Sub", "x", graph.constant(mean)), graph.constant(std))
    y = z
    for layer in layers:
        y = graph.node("Gemm", y, graph.constant(layer.weights), graph.constant(layer.bias))
        y = graph.node("Tanh", y) if layer.activation == "tanh" else y
    difference = graph.node("Sub", y, z)
    error = graph.node("ReduceMean", graph.node("Mul", difference, difference), axes=[1], keepdims=1)
    graph.node("Div", error, graph.node("Add", error, graph.constant(np.array([half]))), name="score")
    path.write_bytes(graph.model(len(mean)))


class _Graph:
    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, value: Array) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def node(self, op: str, *inputs: str, name: str = "", **attributes: object) -> str:
        output = name or f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def model(self, inputs: int) -> bytes:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", inputs])
        score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])
        graph = helper.make_graph(self._nodes, "score", [x], [score], self._constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        onnx.checker.check_model(model)
        content: bytes = model.SerializeToString()
        return content
