"""Rows as the numbers of a model's inputs, and what a model gives as rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeflow_agent.core.batch import Values
from edgeflow_agent.operators import classes
from edgeflow_proto.bundle import Tensor
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.base import default_columns
from edgeflow_proto.pipeline.kinds.steps.model import Model, Way

Columns = tuple[str, ...] | None


class Fed:
    """``(n, *row)`` → ``(n, *input)`` of the model's dtype; raises ValueError where rows cannot be that."""

    def __init__(self, options: Model, tensor: Tensor) -> None:
        self._options, self._tensor = options, tensor
        self._dtype = np.dtype(tensor.dtype)
        self._form: tuple[Any, ...] = ()  # shape and dtype of rows as they come, known to be possible
        self._shape: tuple[int, ...] | None = None  # as the model takes them, where that is another
        self._way: Way = "raw"

    def __call__(self, values: Values) -> Values:
        """Return rows as the model takes them, where possible without a copy."""
        if (values.shape[1:], values.dtype) != self._form:
            self._meet(values)
        if self._way == "quantised":
            values = quantised(values, self._tensor)
        elif self._way == "cast":
            values = values.astype(self._dtype)
        return values if self._shape is None else values.reshape(len(values), *self._shape)

    def _meet(self, values: Values) -> None:
        self._way = self._options.way(values.dtype.name, self._tensor)
        shape = _resolved(values.shape[1:], self._tensor, self._options.file)
        self._shape = None if shape == values.shape[1:] else shape
        self._form = (values.shape[1:], values.dtype)


class Given:
    """Outputs ``(n, …)`` → rows and their columns, as the step's options and its flow say."""

    def __init__(self, options: Model, tensors: tuple[Tensor, ...], flow: Flow, entry: str) -> None:
        self._options, self._tensors, self._entry = options, tensors, entry
        self._named, self._columns = flow.columns, flow.columns
        self._shape: tuple[int, ...] = ()  # of the rows that `_columns` are right for
        chosen = options.softmax or options.argmax or options.top is not None
        self._as_it_is = len(tensors) == 1 and not tensors[0].scale and not chosen

    def __call__(self, results: list[Values], rows: int) -> tuple[Values, Columns]:
        """Return rows and columns; raises ValueError where the model does not give what it should."""
        values = results[0] if self._as_it_is and results[0].ndim > 1 else self._joined(results)
        if len(values) != rows:
            raise ValueError(f"{self._options.file} gave {len(values)} rows for {rows}")
        if not self._as_it_is:
            values = self._chosen(values)
        if values.shape[1:] != self._shape:
            self._name(values.shape[1:])
        return values, self._columns

    def _joined(self, results: list[Values]) -> Values:
        real = [
            dequantised(result, tensor) if tensor.scale else result
            for result, tensor in zip(results, self._tensors, strict=True)
        ]
        if len(real) > 1:
            return np.concatenate([result.reshape(len(result), -1) for result in real], axis=1)
        return real[0] if real[0].ndim > 1 else real[0][:, None]

    def _chosen(self, values: Values) -> Values:
        options = self._options
        if options.softmax:
            values = classes.softmax(values)
        if options.argmax:
            return classes.argmax(values)
        return values if options.top is None else classes.top(values, options.top)

    def _name(self, shape: tuple[int, ...]) -> None:
        columns = self._named or default_columns(self._entry, shape)
        if columns is not None and len(columns) != shape[-1]:
            raise ValueError(f"{len(columns)} columns named, {self._options.file} gives {shape[-1]}")
        self._columns, self._shape = columns, shape


def quantised(values: Values, tensor: Tensor) -> Values:
    """Return real numbers as the integers of a quantised tensor; raises ValueError for NaN.

    They are rounded half to even and clipped to what the integers can be.
    """
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


def constant(value: Any, tensor: Tensor) -> Values:
    """Return numbers in nested lists as a tensor, which a single number fills."""
    return (
        np.full(_least(tensor), value, tensor.dtype) if np.ndim(value) == 0 else np.array(value, tensor.dtype)
    )


def zeros(tensor: Tensor) -> Values:
    """Return a tensor of zeros; of a quantised one, of the integers that stand for zero."""
    return np.full(_least(tensor), tensor.zero_point, tensor.dtype)


def _least(tensor: Tensor) -> list[int]:
    return [1 if size < 0 else size for size in tensor.shape]


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
