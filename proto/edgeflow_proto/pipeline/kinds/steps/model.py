"""The step kind of models."""

from __future__ import annotations

import math
from typing import ClassVar

from edgeflow_proto.bundle import Signature, Tensor, check_file_name
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.base import (
    Context,
    StepKind,
    check_columns,
    check_format,
    default_columns,
)
from edgeflow_proto.pipeline.problem import Mistake, near_miss

MODEL_FORMATS = ("onnx", "tflite")


class Model(StepKind, frozen=True, kw_only=True):
    """A model beside the pipeline: ONNX or TFLite, by ending; one input.

    Rows are reshaped to the model's input where the number of values agrees. Integer models are fed raw
    by rows of their own dtype, and through their scale and zero point by float32 rows; quantised results
    come out as float32. `output` chooses one of several results.
    """

    short: ClassVar[str | None] = "file"
    file: str
    output: str | None = None
    columns: list[str] | None = None
    threads: int = 1

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """Rows of the model's output shape without its first (batch) dimension."""
        self._check_options()
        signature = context.signatures.get(self.file)
        if signature is None:
            return self._unsigned(upstream, context)
        self._check_input(upstream, signature)
        return {"": self._result(upstream, self.chosen(signature), context.entry)}

    def _check_options(self) -> None:
        check_format(self.file, MODEL_FORMATS, "file")
        try:
            check_file_name(self.file)
        except ValueError as error:
            raise Mistake(str(error), option="file") from None
        if self.columns is not None:
            check_columns(self.columns, "columns")
        if not 1 <= self.threads <= 64:
            raise Mistake("must be between 1 and 64", option="threads")

    def _unsigned(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        if context.files.read(self.file) is None:
            raise Mistake(f"no file {self.file} beside the pipeline", option="file")
        columns = None if self.columns is None else tuple(self.columns)
        shape = None if columns is None else (len(columns),)
        return {"": upstream.having(shape=shape, dtype=None, columns=columns, rate=upstream.rate)}

    def _check_input(self, upstream: Flow, signature: Signature) -> None:
        if len(signature.inputs) != 1:
            names = ", ".join(tensor.name for tensor in signature.inputs)
            raise Mistake(
                f"{self.file} has {len(signature.inputs)} inputs ({names}); one is fed", option="file"
            )
        tensor = signature.inputs[0]
        form = f"{list(tensor.shape)} {tensor.dtype}"
        if upstream.shape is not None and not _fits(upstream.shape, tensor.shape[1:]):
            raise Mistake(
                f"{self.file} takes {form}, but is fed rows of shape {list(upstream.shape)}", option="from"
            )
        quantised = tensor.scale != 0 and upstream.dtype == "float32"
        if upstream.dtype is not None and upstream.dtype != tensor.dtype and not quantised:
            raise Mistake(f"{self.file} takes {form}, but is fed {upstream.dtype}", option="from")

    def chosen(self, signature: Signature) -> Tensor:
        """Return the output tensor this step gives; raises Mistake when there is no such one."""
        names = [tensor.name for tensor in signature.outputs]
        if self.output is None and len(names) > 1:
            raise Mistake(
                f"{self.file} has {len(names)} outputs; say which", option="output", hint=", ".join(names)
            )
        if self.output is not None and self.output not in names:
            raise Mistake(
                f"{self.file} has no output '{self.output}'",
                option="output",
                hint=near_miss(self.output, names),
            )
        return signature.outputs[names.index(self.output) if self.output else 0]

    def _result(self, upstream: Flow, tensor: Tensor, entry: str) -> Flow:
        dtype = "float32" if tensor.scale else tensor.dtype
        shape = tuple(tensor.shape[1:]) or (1,)
        if any(size < 0 for size in shape):
            return upstream.having(shape=None, dtype=dtype, columns=None, rate=upstream.rate)
        columns = tuple(self.columns) if self.columns is not None else default_columns(entry, shape)
        if columns is not None and len(columns) != shape[-1]:
            raise Mistake(f"{len(columns)} are named, the model gives {shape[-1]}", option="columns")
        return upstream.having(shape=shape, dtype=dtype, columns=columns, rate=upstream.rate)


def _fits(row: tuple[int, ...], model: tuple[int, ...]) -> bool:
    fixed = math.prod(size for size in model if size >= 0)
    count = math.prod(row)
    return count == fixed if all(size >= 0 for size in model) else fixed > 0 and count % fixed == 0
