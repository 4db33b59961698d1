"""A classifier as a TFLite model, put together from its schema, so that no TensorFlow is needed.

Source: tensorflow/compiler/mlir/lite/schema/schema.fbs, version 3.
"""

from __future__ import annotations

from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from examples.training.network import Array, Layer

FILE_IDENTIFIER = b"TFL3"
_FUSED = {
    "linear": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "tanh": schema.ActivationFunctionType.TANH,
}
_FULLY_CONNECTED, _SOFTMAX = 0, 1  # places in the model's list of ops


def write_classifier(path: Path, layers: list[Layer]) -> None:
    """Write ``(1, inputs)`` float32 → ``(1, classes)``: the layers and then softmax."""
    graph = _Graph()
    edge = first = graph.tensor("x", (1, layers[0].weights.shape[0]))
    for index, layer in enumerate(layers):
        weights = graph.constant(f"weights{index}", layer.weights.T)
        bias = graph.constant(f"bias{index}", layer.bias)
        output = graph.tensor(f"layer{index}", (1, len(layer.bias)))
        graph.dense([edge, weights, bias], output, layer.activation)
        edge = output
    last = graph.tensor("probabilities", (1, len(layers[-1].bias)))
    graph.softmax(edge, last)
    path.write_bytes(graph.model(first, last))


class _Graph:
    def __init__(self) -> None:
        self._tensors: list[schema.TensorT] = []
        self._buffers = [schema.BufferT()]  # the first is the empty one
        self._operators: list[schema.OperatorT] = []

    def tensor(self, name: str, shape: tuple[int, ...], buffer: int = 0) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, list(shape), buffer
        tensor.type = schema.TensorType.FLOAT32
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def constant(self, name: str, value: Array) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(value, "<f4").tobytes(), np.uint8)
        self._buffers.append(buffer)
        return self.tensor(name, value.shape, len(self._buffers) - 1)

    def dense(self, inputs: list[int], output: int, activation: str) -> None:
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = _FUSED[activation]
        kind = schema.BuiltinOptions.FullyConnectedOptions
        self._operator(_FULLY_CONNECTED, inputs, output, kind, options)

    def softmax(self, source: int, output: int) -> None:
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        self._operator(_SOFTMAX, [source], output, schema.BuiltinOptions.SoftmaxOptions, options)

    def _operator(self, op: int, inputs: list[int], output: int, kind: int, options: object) -> None:
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = op, inputs, [output]
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        self._operators.append(operator)

    def model(self, first: int, last: int) -> bytes:
        graph = schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self._tensors, self._operators
        graph.inputs, graph.outputs = [first], [last]
        model = schema.ModelT()
        model.version, model.subgraphs, model.buffers = 3, [graph], self._buffers
        model.description = "edgeflow example"
        builtins = schema.BuiltinOperator
        model.operatorCodes = [_code(builtins.FULLY_CONNECTED), _code(builtins.SOFTMAX)]
        builder = flatbuffers.Builder(4096)
        builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
        return bytes(builder.Output())


def _code(op: int) -> schema.OperatorCodeT:
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = op, op, 1
    return code
