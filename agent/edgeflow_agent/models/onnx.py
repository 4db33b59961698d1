"""ONNX models on ONNX Runtime."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edgeflow_agent.core.batch import Values
from edgeflow_agent.core.ports import Feeds, ModelError, ModelSetup
from edgeflow_proto.bundle import Signature, Tensor

_FATAL = 4
_BOUND_ROWS = 32  # up to here binding pays; above, computing outweighs the call
_BOUND_FORMS = 32  # at most, where shapes vary
_DTYPES = {"float": "float32", "double": "float64"}  # the others have numpy's names
_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}


class OnnxModel:
    """An ONNX model; see `edgeflow_agent.core.ports.Model`. Executed by the CPU unless said otherwise.

    Inputs and outputs of few rows are bound to buffers once for each form they have, which saves almost half
    of a tiny model's time. Idle threads sleep; spinning ones would burn a core between two samples.
    """

    def __init__(self, path: Path, setup: ModelSetup) -> None:
        onnxruntime.set_default_logger_severity(_FATAL)
        try:
            with redirect_stdout(sys.stderr):  # where it tells of a provider that does not start
                self._session = onnxruntime.InferenceSession(
                    str(path), _options(setup.threads), providers=_providers(setup.provider)
                )
        except Exception as error:
            raise ModelError(f"{path.name}: {_reason(error)}") from error
        fed, given = self._session.get_inputs(), self._session.get_outputs()
        self.signature = Signature(tuple(map(_tensor, fed)), tuple(map(_tensor, given)))
        self.provider = _plain(self._session.get_providers()[0])
        self._names = [node.name for node in fed]
        self._bindings: dict[tuple[Any, ...], _Binding] = {}

    def run(self, feeds: Feeds, outputs: Sequence[str]) -> list[Values]:
        """Return the outputs named; raises RuntimeError, or KeyError for an input that is not fed."""
        arrays = [feeds[name] for name in self._names]
        form = (*outputs, *[array.shape for array in arrays])
        binding = self._bindings.get(form)
        try:
            if binding is not None:
                return binding.run(arrays)
            results: list[Values] = self._session.run(list(outputs), dict(feeds))
        except Exception as error:
            raise RuntimeError(_reason(error)) from error
        if len(self._bindings) < _BOUND_FORMS and arrays[0].shape[:1] <= (_BOUND_ROWS,):
            # Only now is it known what shapes come out, where the model leaves them open.
            self._bindings[form] = _Binding(
                self._session,
                dict(zip(self._names, arrays, strict=True)),
                dict(zip(outputs, results, strict=True)),
            )
        return results


class _Binding:
    """Buffers for inputs and outputs of one form, bound to a session."""

    def __init__(self, session: Any, fed: Feeds, given: Feeds) -> None:
        self._run, self._binding = session.run_with_iobinding, session.io_binding()
        self._fed = [np.empty_like(array, order="C") for array in fed.values()]
        self._given = [np.empty_like(array, order="C") for array in given.values()]
        for bind, names, arrays in (
            (self._binding.bind_input, fed, self._fed),
            (self._binding.bind_output, given, self._given),
        ):
            for name, array in zip(names, arrays, strict=True):
                bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def run(self, arrays: list[Values]) -> list[Values]:
        for buffer, array in zip(self._fed, arrays, strict=True):
            buffer[...] = array
        self._run(self._binding)
        return [buffer.copy() for buffer in self._given]


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL  # what fails is raised, and told once
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _providers(wanted: str | None) -> list[str]:
    """Return what shall execute a model, best first, as far as it was built in; the CPU always is."""
    ranking = ("tensorrt", "cuda", "cpu") if wanted == "tensorrt" else (wanted or "cpu", "cpu")
    built_in = onnxruntime.get_available_providers()
    return [name for name in dict.fromkeys(_PROVIDERS[each] for each in ranking) if name in built_in]


def _plain(provider: str) -> str:
    """Return a provider as pipelines name it."""
    return next((name for name, known in _PROVIDERS.items() if known == provider), provider)


def _tensor(node: Any) -> Tensor:
    """Describe an input or output; named dimensions are free ones. Other than tensors keep their type."""
    kind = re.fullmatch(r"tensor\((\w+)\)", node.type)
    dtype = _DTYPES.get(kind[1], kind[1]) if kind else node.type
    return Tensor(node.name, dtype, tuple(size if isinstance(size, int) else -1 for size in node.shape or ()))


def _reason(error: Exception) -> str:
    """Return what ONNX Runtime says, without its codes and paths."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error))
    return re.sub(r"^Load model from .* failed: ?", "", text, flags=re.DOTALL).strip()
