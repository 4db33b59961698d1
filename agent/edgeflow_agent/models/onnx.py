"""ONNX models on ONNX Runtime's CPU provider."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edgeflow_agent.core.batch import Values
from edgeflow_agent.core.ports import ModelError
from edgeflow_proto.bundle import Signature, Tensor

_FATAL = 4
_BOUND_ROWS = 8  # up to here binding pays; above, computing outweighs the call
_DTYPES = {"float": "float32", "double": "float64"}  # the others have numpy's names


class OnnxModel:
    """An ONNX model; see `edgeflow_agent.core.ports.Model`.

    Inputs and outputs of few rows are bound to buffers once for each number of rows, which saves almost half
    of a tiny model's time. Idle threads sleep; spinning ones would burn a core between two samples.
    """

    def __init__(self, path: Path, threads: int) -> None:
        onnxruntime.set_default_logger_severity(_FATAL)
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), _options(threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ModelError(f"{path.name}: {_reason(error)}") from error
        self.signature = Signature(
            tuple(map(_tensor, self._session.get_inputs())), tuple(map(_tensor, self._session.get_outputs()))
        )
        self._bindings: dict[tuple[tuple[int, ...], int], _Binding] = {}

    def run(self, rows: Values, output: int) -> Values:
        """Return one output for rows of the one input; raises RuntimeError."""
        binding = self._bindings.get((rows.shape, output))
        try:
            return self._unbound(rows, output) if binding is None else binding.run(rows)
        except Exception as error:
            raise RuntimeError(_reason(error)) from error

    def _unbound(self, rows: Values, output: int) -> Values:
        fed, given = self.signature.inputs[0], self.signature.outputs[output]
        result: Values = self._session.run([given.name], {fed.name: rows})[0]
        if len(rows) <= _BOUND_ROWS:
            # Only now is it known what shape comes out, where the model leaves that open.
            binding = _Binding(
                self._session, (fed.name, np.empty_like(rows, order="C")), (given.name, result)
            )
            self._bindings[rows.shape, output] = binding
        return result


class _Binding:
    """Buffers for one number of rows, bound to a session."""

    def __init__(self, session: Any, fed: tuple[str, Values], given: tuple[str, Values]) -> None:
        self._session = session
        self._rows, self._result = fed[1], np.empty_like(given[1])
        self._binding = session.io_binding()
        for bind, name, array in (
            (self._binding.bind_input, fed[0], self._rows),
            (self._binding.bind_output, given[0], self._result),
        ):
            bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def run(self, rows: Values) -> Values:
        self._rows[...] = rows
        self._session.run_with_iobinding(self._binding)
        return self._result.copy()


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL  # what fails is raised, and told once
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _tensor(node: Any) -> Tensor:
    """Describe an input or output; named dimensions are free ones. Other than tensors keep their type."""
    kind = re.fullmatch(r"tensor\((\w+)\)", node.type)
    dtype = _DTYPES.get(kind[1], kind[1]) if kind else node.type
    return Tensor(node.name, dtype, tuple(size if isinstance(size, int) else -1 for size in node.shape or ()))


def _reason(error: Exception) -> str:
    """Return what ONNX Runtime says, without its codes and paths."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error))
    return re.sub(r"^Load model from .* failed: ?", "", text, flags=re.DOTALL).strip()
