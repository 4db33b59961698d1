"""TFLite models on LiteRT, or on tflite-runtime where only that is installed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgeflow_agent.core.batch import Values
from edgeflow_agent.core.ports import ModelError
from edgeflow_proto.bundle import Signature, Tensor

LOT = 32  # rows worth making room for, which takes as long as some inferences


class TfliteModel:
    """A TFLite model; see `edgeflow_agent.core.ports.Model`.

    Through a model of free batch dimension many rows go in lots, the rest one by one. A model that says its
    batch is free and then fails on two rows counts as one for single rows.
    """

    def __init__(self, path: Path, threads: int) -> None:
        with _quiet():
            self._interpreter = _open(path, threads)
            self._lot = LOT if _batches(self._interpreter) else 1
            if self._lot == 1:  # the attempt may have left anything behind
                self._interpreter = _open(path, threads)
        fed, given = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.signature = Signature(
            tuple(_tensor(detail, self._lot > 1) for detail in fed),
            tuple(_tensor(detail, self._lot > 1) for detail in given),
        )
        self._fed: int = fed[0]["index"]
        self._given: list[int] = [detail["index"] for detail in given]
        self._shape: tuple[int, ...] = ()  # of the rows there is room for

    def run(self, rows: Values, output: int) -> Values:
        """Return one output for rows of the one input; raises RuntimeError or ValueError."""
        if len(rows) == 1:
            return self._invoke(rows, output)
        whole = len(rows) - len(rows) % self._lot
        lots = [rows[start : start + self._lot] for start in range(0, whole, self._lot)]
        singles = [rows[row : row + 1] for row in range(whole, len(rows))]
        return np.concatenate([self._invoke(part, output) for part in lots + singles])

    def _invoke(self, rows: Values, output: int) -> Values:
        if rows.shape != self._shape:
            self._shape = ()
            _make_room(self._interpreter, rows.shape)
            self._shape = rows.shape
        self._interpreter.set_tensor(self._fed, rows)
        self._interpreter.invoke()
        result: Values = self._interpreter.get_tensor(self._given[output])
        return result


def _open(path: Path, threads: int) -> Any:
    """Return an interpreter with room for the model's own shapes; raises ModelError."""
    interpreter = _interpreter_class(path)
    try:
        opened = interpreter(model_path=str(path), num_threads=threads)
        opened.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{path.name}: {_reason(str(error))}") from error
    return opened


def _interpreter_class(path: Path) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError:
            raise ModelError(f"{path.name}: neither ai-edge-litert nor tflite-runtime is installed") from None
    return Interpreter


def _make_room(interpreter: Any, shape: tuple[int, ...]) -> None:
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], shape)
    interpreter.allocate_tensors()


def _batches(interpreter: Any) -> bool:
    """Try whether two rows at a time go through, where the model says so."""
    fed = interpreter.get_input_details()
    if len(fed) != 1 or len(fed[0]["shape"]) == 0 or fed[0]["shape_signature"][0] != -1:
        return False
    try:
        _make_room(interpreter, (2, *fed[0]["shape"][1:]))
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
