"""`model`: rows through a model beside the pipeline."""

from __future__ import annotations

import math

import numpy as np

from edgeflow_agent.core.batch import Batch, Values
from edgeflow_agent.core.ports import ModelError, ModelSetup, Operator, StepContext
from edgeflow_proto.bundle import Signature, Tensor
from edgeflow_proto.pipeline.flow import DTYPES
from edgeflow_proto.pipeline.kinds.base import default_columns
from edgeflow_proto.pipeline.kinds.steps import model

MAX_ROWS = 64  # at once through a model; more gain nothing
MAX_ROW_BYTES = 4096  # bigger rows go one by one: they gain nothing either, and take memory


class ModelStep(Operator):
    """``(n, *row)`` → ``(n, *output)`` by a model of one input, the first dimension of all being the batch.

    Rows are reshaped to the model's input. float32 rows of a quantised model are rounded (half to even) and
    clipped to its numbers, rows of its own dtype are fed as they are; quantised results become float32.
    Raises ModelError where model and options do not go together.
    """

    def __init__(self, options: model.Model, context: StepContext) -> None:
        self._model = context.load_model(context.folder / options.file, ModelSetup(options.threads))
        self._options, self._entry = options, context.name
        self._input, self._output = _ends(options, self._model.signature)
        self._name_in, self._names_out = self._input.name, (self._output.name,)
        self._dtype = np.dtype(self._input.dtype)
        self._most = _lot(self._input)
        self._rows_in: tuple[int, ...] = ()  # as they come, as the model takes them, as it gives them
        self._rows_fed: tuple[int, ...] = ()
        self._rows_out: tuple[int, ...] = ()
        self._columns: tuple[str, ...] | None = None

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return what the model makes of the rows; raises ValueError or RuntimeError."""
        values = self._fed(batch.values)
        if len(values) <= self._most:
            result = self._run(values)
        else:
            starts = range(0, len(values), self._most)
            result = np.concatenate([self._run(values[i : i + self._most]) for i in starts])
        return {"": batch.having(self._read(result, len(batch)), self._columns)}

    def _run(self, values: Values) -> Values:
        return self._model.run({self._name_in: values}, self._names_out)[0]

    def _fed(self, values: Values) -> Values:
        """Return rows as the model takes them."""
        if values.shape[1:] != self._rows_in:
            self._rows_fed = _resolved(values.shape[1:], self._input, self._options.file)
            self._rows_in = values.shape[1:]
        values = values.reshape(len(values), *self._rows_fed)
        if values.dtype == self._dtype:
            return values
        if not self._input.scale or values.dtype != np.float32:
            raise ValueError(f"{self._options.file} takes {self._dtype}, but is fed {values.dtype}")
        return quantised(values, self._input)

    def _read(self, result: Values, rows: int) -> Values:
        """Return results as rows, with their columns named."""
        if len(result) != rows:
            raise ValueError(f"{self._options.file} gave {len(result)} rows for {rows}")
        if self._output.scale:
            result = dequantised(result, self._output)
        if result.ndim == 1:
            result = result[:, None]
        if result.shape[1:] != self._rows_out:
            self._name(result.shape[1:])
        return result

    def _name(self, shape: tuple[int, ...]) -> None:
        columns = tuple(self._options.columns or ()) or default_columns(self._entry, shape)
        if columns is not None and len(columns) != shape[-1]:
            raise ValueError(f"{len(columns)} columns named, {self._options.file} gives {shape[-1]}")
        self._columns, self._rows_out = columns, shape


def quantised(values: Values, tensor: Tensor) -> Values:
    """Return float32 values as the integers of a quantised tensor; raises ValueError for NaN."""
    limits = np.iinfo(tensor.dtype)
    scaled = values / np.float32(tensor.scale)
    np.rint(scaled, out=scaled)
    scaled += tensor.zero_point
    np.maximum(scaled, limits.min, out=scaled)
    np.minimum(scaled, limits.max, out=scaled)
    if np.isnan(scaled).any():
        raise ValueError("NaN has no quantised form")
    return scaled.astype(tensor.dtype)


def dequantised(values: Values, tensor: Tensor) -> Values:
    """Return the integers of a quantised tensor as float32."""
    result = values.astype(np.float32)
    result -= tensor.zero_point
    result *= np.float32(tensor.scale)
    return result


def _ends(options: model.Model, signature: Signature) -> tuple[Tensor, Tensor]:
    """Return the input and the output of a model that are used."""
    if len(signature.inputs) != 1:
        raise ModelError(f"{options.file} has {len(signature.inputs)} inputs; one is fed")
    fed, given = signature.inputs[0], options.chosen(signature)
    for tensor in (fed, given):
        if tensor.dtype not in DTYPES:
            raise ModelError(f"{options.file}: {tensor.name} is of type {tensor.dtype}, which rows cannot be")
        if not tensor.shape:
            raise ModelError(f"{options.file}: {tensor.name} is a single value, without a batch dimension")
    if fed.shape[0] not in (-1, 1):
        raise ModelError(f"{options.file} takes {fed.shape[0]} rows at a time; one or any number is possible")
    return fed, given


def _lot(tensor: Tensor) -> int:
    row_bytes = np.dtype(tensor.dtype).itemsize * abs(math.prod(tensor.shape))
    return MAX_ROWS if tensor.shape[0] == -1 and row_bytes <= MAX_ROW_BYTES else 1


def _resolved(row: tuple[int, ...], tensor: Tensor, file: str) -> tuple[int, ...]:
    """Return the form in which rows of a shape are fed: the model's, free dimensions filled in."""
    wanted = tensor.shape[1:]
    if len(row) == len(wanted) and all(size in (-1, own) for size, own in zip(wanted, row, strict=True)):
        return row
    try:
        return np.broadcast_to(np.uint8(0), row).reshape(wanted).shape
    except ValueError:
        raise ValueError(
            f"{file} takes {list(tensor.shape)} {tensor.dtype}, but is fed rows of shape {list(row)}"
        ) from None
