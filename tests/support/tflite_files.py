"""TFLite models small enough to be made on the spot.

Source: tensorflow/compiler/mlir/lite/schema/schema.fbs, version 3.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeflow_proto.bundle import Tensor


def added(path: Path, left: Tensor, right: Tensor, *sums: Tensor, scales: int = 1) -> Path:
    """Write a model that gives ``left + right`` once for each of `sums`; `scales` are those of `left`."""
    flatbuffers = pytest.importorskip("flatbuffers", reason="flatbuffers is not installed (make dev)")
    from ai_edge_litert import schema_py_generated as schema

    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.name, graph.inputs, graph.outputs = "main", [0, 1], list(range(2, 2 + len(sums)))
    graph.tensors = [_tensor(schema, left, scales), *[_tensor(schema, each) for each in (right, *sums)]]
    graph.operators = [_addition(schema, output) for output in graph.outputs]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    code.version = 1
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    model.operatorCodes, model.description = [code], "test"
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _tensor(schema: Any, described: Tensor, scales: int = 1) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = described.name, list(described.shape), 0
    tensor.type = getattr(schema.TensorType, described.dtype.upper())
    if described.scale:
        quantisation = schema.QuantizationParametersT()
        quantisation.scale = [described.scale] * scales
        quantisation.zeroPoint = [described.zero_point] * scales
        quantisation.quantizedDimension = 1
        tensor.quantization = quantisation
    return tensor


def _addition(schema: Any, output: int) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1], [output]
    operator.builtinOptionsType = schema.BuiltinOptions.AddOptions
    operator.builtinOptions = schema.AddOptionsT()
    return operator
