"""TFLite models on LiteRT, or on tflite-runtime where only that is installed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edgeflow_agent.core.batch import Values
from edgeflow_agent.core.ports import Feeds, ModelError, ModelSetup
from edgeflow_proto.bundle import Signature, Tensor

LOT = 32  # rows worth making room for, which takes as long as some inferences


class TfliteModel:
    """A TFLite model; see `edgeflow_agent.core.ports.Model`.

    Through a model of free batch dimension many rows go in lots, the rest one by one. A model that says its
    batch is free and then fails on two rows counts as one for single rows.
    """

    def __init__(self, path: Path, setup: ModelSetup) -> None:
        with _quiet():
            self._interpreter = _open(path, setup)
            self._lot = LOT if _batches(self._interpreter) else 1
            if self._lot == 1:  # the attempt may have left anything behind
                self._interpreter = _open(path, setup)
        fed, given = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.signature = Signature(
            tuple(_tensor(detail, self._lot > 1) for detail in fed),
            tuple(_tensor(detail, self._lot > 1) for detail in given),
        )
        self.provider = _provider(self._interpreter)
        self._fed: dict[str, int] = {detail["name"]: detail["index"] for detail in fed}
        self._given: dict[str, int] = {detail["name"]: detail["index"] for detail in given}
        self._shapes: list[tuple[int, ...]] = []  # of the inputs there is room for

    def run(self, feeds: Feeds, outputs: Sequence[str]) -> list[Values]:
        """Return the outputs named; raises RuntimeError or ValueError, KeyError for an input not fed."""
        rows = next(iter(feeds.values()))
        if self._lot == 1 or len(rows) == 1:
            return self._invoke(feeds, outputs)
        (name,) = self._fed
        whole = len(rows) - len(rows) % self._lot
        lots = [rows[start : start + self._lot] for start in range(0, whole, self._lot)]
        singles = [rows[row : row + 1] for row in range(whole, len(rows))]
        parts = [self._invoke({name: part}, outputs) for part in lots + singles]
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def _invoke(self, feeds: Feeds, outputs: Sequence[str]) -> list[Values]:
        interpreter = self._interpreter
        shapes = [feeds[name].shape for name in self._fed]
        if shapes != self._shapes:
            self._make_room(shapes)
        for name, index in self._fed.items():
            interpreter.set_tensor(index, feeds[name])
        interpreter.invoke()
        return [interpreter.get_tensor(self._given[name]) for name in outputs]

    def _make_room(self, shapes: list[tuple[int, ...]]) -> None:
        self._shapes = []
        for index, shape in zip(self._fed.values(), shapes, strict=True):
            self._interpreter.resize_tensor_input(index, shape)
        self._interpreter.allocate_tensors()
        self._shapes = shapes


def _open(path: Path, setup: ModelSetup) -> Any:
    """Return an interpreter with room for the model's own shapes; raises ModelError."""
    library = _library(path)
    kernels = library.OpResolverType
    chosen = kernels.BUILTIN_WITHOUT_DEFAULT_DELEGATES if setup.provider == "cpu" else kernels.AUTO
    try:
        opened = library.Interpreter(
            model_path=str(path), num_threads=setup.threads, experimental_op_resolver_type=chosen
        )
        _check_ends(opened)
        opened.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{path.name}: {_reason(str(error))}") from error
    return opened


def _check_ends(interpreter: Any) -> None:
    """Raise ValueError for ends that rows cannot be; to make room for such may abort the process."""
    for details in (interpreter.get_input_details(), interpreter.get_output_details()):
        names = [detail["name"] for detail in details]
        if len(set(names)) < len(names):
            raise ValueError(f"several inputs or outputs have one name: {', '.join(names)}")
        for detail in details:
            scales = len(detail["quantization_parameters"]["scales"])
            if scales > 1:
                raise ValueError(
                    f"{detail['name']} is quantised per channel ({scales} scales), not as a whole"
                )


def _library(path: Path) -> Any:
    for name in ("ai_edge_litert", "tflite_runtime"):
        try:
            return import_module(f"{name}.interpreter")
        except ImportError:
            continue
    raise ModelError(f"{path.name}: neither ai-edge-litert nor tflite-runtime is installed")


def _provider(interpreter: Any) -> str:
    """Return what executes the model. No public call tells; the list of its ops has the delegate in it."""
    delegated = any(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())
    return "xnnpack" if delegated else "cpu"


def _batches(interpreter: Any) -> bool:
    """Try whether two rows at a time go through, where the model says so."""
    fed = interpreter.get_input_details()
    if len(fed) != 1 or len(fed[0]["shape"]) == 0 or fed[0]["shape_signature"][0] != -1:
        return False
    try:
        interpreter.resize_tensor_input(fed[0]["index"], (2, *fed[0]["shape"][1:]))
        interpreter.allocate_tensors()
        interpreter.invoke()
    except (RuntimeError, ValueError):
        return False
    return all(tuple(detail["shape"][:1]) == (2,) for detail in interpreter.get_output_details())


def _tensor(detail: dict[str, Any], free: bool) -> Tensor:
    shape = [int(size) for size in detail["shape_signature"]] or [int(size) for size in detail["shape"]]
    if shape and shape[0] == -1 and not free:
        shape[0] = 1
    scale, zero_point = detail["quantization"]
    dtype = np.dtype(detail["dtype"]).name
    return Tensor(detail["name"], dtype, tuple(shape), float(scale), int(zero_point))


def _reason(text: str) -> str:
    """Return what the interpreter says, an op it lacks by name."""
    missing = re.search(r"unresolved custom op: (\w+)|op for builtin opcode '(\w+)'", text)
    if missing:
        return f"op {missing[1] or missing[2]} is not supported by this runtime"
    return text.partition("\n")[0].strip() or "the runtime refuses it"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the runtime's C++ side prints to descriptor 2 from it; what is wrong is also raised."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
