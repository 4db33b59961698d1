"""Step kinds: what is done with rows between inputs and outputs."""

from __future__ import annotations

import ast
import math
from typing import ClassVar, Literal

import msgspec

from edgeflow_proto.bundle import Signature, Tensor, check_file_name
from edgeflow_proto.pipeline import expression
from edgeflow_proto.pipeline.flow import MAX_COLUMNS, Flow
from edgeflow_proto.pipeline.kinds.base import (
    Context,
    Dtype,
    StepKind,
    check_columns,
    check_format,
    check_shape,
    need_axes,
    need_columns,
)
from edgeflow_proto.pipeline.problem import Mistake, near_miss, shown
from edgeflow_proto.pipeline.units import Extent

Statistic = Literal["mean", "std", "rms", "min", "max", "peak_to_peak", "kurtosis", "crest"]
MODEL_FORMATS = ("onnx", "tflite")


class Window(StepKind, frozen=True, kw_only=True):
    """Overlapping stretches of rows, per key: every `hop` rows, the last `size` of them.

    One row in is one sample; one row out is ``(size, …)``. Windows do not straddle a gap.
    """

    short: ClassVar[str | None] = "size"
    size: int
    hop: int | None = None

    @property
    def step(self) -> int:
        """Rows between the ends of two windows."""
        return self.hop or self.size

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """Rows of shape ``(size, *row)``."""
        for option, value in (("size", self.size), ("hop", self.step)):
            if not 1 <= value <= 1_000_000:
                raise Mistake("must be between 1 and 1000000 rows", option=option)
        shape = None if upstream.shape is None else (self.size, *upstream.shape)
        rate = None if upstream.rate is None else upstream.rate / self.step
        return {"": upstream.having(shape=shape, dtype=upstream.dtype, columns=upstream.columns, rate=rate)}


class Stats(StepKind, frozen=True, kw_only=True):
    """Statistics of each column over a window: ``(size, columns)`` → ``x.mean, x.std, …`` in float32.

    `std` divides by n. `kurtosis` is Pearson's (3 for a normal distribution). `crest` is peak over rms.
    Kurtosis of a constant is 0, and crest of zeros.
    """

    short: ClassVar[str | None] = "functions"
    functions: list[Statistic]

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """One column per input column and function, column by column."""
        if not self.functions or len(set(self.functions)) < len(self.functions):
            raise Mistake("name each function once, and at least one", option="functions")
        need_axes(upstream, 2, "needs windows of columns")
        if upstream.columns is None:
            return {"": upstream.having(shape=None, dtype="float32", columns=None, rate=upstream.rate)}
        if len(upstream.columns) * len(self.functions) > MAX_COLUMNS:
            raise Mistake(f"makes more than {MAX_COLUMNS} columns", option="functions")
        columns = tuple(f"{column}.{name}" for column in upstream.columns for name in self.functions)
        return {
            "": upstream.having(shape=(len(columns),), dtype="float32", columns=columns, rate=upstream.rate)
        }


class Python(StepKind, frozen=True, kw_only=True):
    """A function on arrays from a Python file beside the pipeline: ``(n, *row)`` → ``(n, …)``.

    `function` is ``module.name``. It must give one row per row and keep nothing between calls.
    `columns` name what it gives (or `shape` says its form); without either it is one column with
    the step's name, or known only when it runs.
    """

    short: ClassVar[str | None] = "function"
    function: str
    columns: list[str] | None = None
    shape: tuple[int, ...] | None = None
    dtype: Dtype = "float32"

    @property
    def module(self) -> str:
        """The module's name; its file is ``<module>.py``."""
        return self.function.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The function's name in its module."""
        return self.function.rpartition(".")[2]

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The declared form; the function must be defined in its file."""
        self._check_function(context)
        self._check_form()
        columns = None if self.columns is None else tuple(self.columns)
        shape = (len(columns),) if self.shape is None and columns else self.shape
        return {"": upstream.having(shape=shape, dtype=self.dtype, columns=columns, rate=upstream.rate)}

    def _check_form(self) -> None:
        if self.columns is not None:
            check_columns(self.columns, "columns")
        if self.shape is not None:
            check_shape(self.shape)
        if self.columns is not None and self.shape is not None and self.shape[-1] != len(self.columns):
            what = f"{len(self.columns)} columns do not fit shape {list(self.shape)}"
            raise Mistake(what, option="columns")

    def _check_function(self, context: Context) -> None:
        if not self.module or not all(part.isidentifier() for part in self.function.split(".")):
            what = f"{shown(self.function)} is not a function's name"
            raise Mistake(what, option="function", hint="module.name, as in features.spectrum")
        file = self.module.replace(".", "/") + ".py"
        source = context.files.read(file)
        if source is None:
            raise Mistake(f"no file {file} beside the pipeline", option="function")
        names = _defined(source, file)
        if self.name not in names:
            raise Mistake(
                f"{file} defines no function '{self.name}'",
                option="function",
                hint=near_miss(self.name, names),
            )


def _defined(source: bytes, file: str) -> set[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise Mistake(f"{file}:{line}: {getattr(error, 'msg', error)}", option="function") from None
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


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


def default_columns(entry: str, shape: tuple[int, ...]) -> tuple[str, ...] | None:
    """Name unnamed results after their step: ``score``, or ``score_0, score_1, …``; tensors stay unnamed."""
    if len(shape) != 1 or shape[0] > MAX_COLUMNS:
        return None
    return (entry,) if shape == (1,) else tuple(f"{entry}_{index}" for index in range(shape[0]))


def _fits(row: tuple[int, ...], model: tuple[int, ...]) -> bool:
    fixed = math.prod(size for size in model if size >= 0)
    count = math.prod(row)
    return count == fixed if all(size >= 0 for size in model) else fixed > 0 and count % fixed == 0


class Threshold(StepKind, frozen=True, kw_only=True):
    """A level with hysteresis and minimum duration, per key.

    Raised once the column has been beyond `above` (or below `below`) for `for`; cleared once it has been
    back past `clear` (default: the level itself) for one row. NaN changes nothing. Ports: `raised` and
    `cleared` give the row at which it happened, `state` gives column ``state`` (0 or 1) for each row.
    """

    ports: ClassVar[tuple[str, ...]] = ("raised", "cleared", "state")
    above: float | None = None
    below: float | None = None
    clear: float | None = None
    hold: Extent = msgspec.field(name="for", default=Extent(rows=1))
    column: str | None = None

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """Rows as they came at `raised` and `cleared`; one uint8 column at `state`."""
        self._check_levels()
        need_axes(upstream, 1, "needs rows of columns")
        if self.column is None and upstream.columns is not None and len(upstream.columns) != 1:
            raise Mistake("say which column", option="column", hint=near_miss("", upstream.columns))
        need_columns(upstream, (self.column,) if self.column else (), "column")
        passed = upstream.having(shape=upstream.shape, dtype=upstream.dtype, columns=upstream.columns)
        state = upstream.having(shape=(1,), dtype="uint8", columns=("state",), rate=upstream.rate)
        return {"raised": passed, "cleared": passed, "state": state}

    def _check_levels(self) -> None:
        if (self.above is None) == (self.below is None):
            raise Mistake("give either above or below")
        for option, level in (("above", self.above), ("below", self.below), ("clear", self.clear)):
            if level is not None and math.isnan(level):
                raise Mistake("NaN is no level", option=option)
        if self.clear is not None and self.above is not None and self.clear > self.above:
            raise Mistake(f"must not be above {self.above:g}", option="clear")
        if self.clear is not None and self.below is not None and self.clear < self.below:
            raise Mistake(f"must not be below {self.below:g}", option="clear")


class Select(StepKind, frozen=True, kw_only=True):
    """Some columns, in the order named."""

    short: ClassVar[str | None] = "columns"
    columns: list[str]

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The same rows with the named columns."""
        if not self.columns or len(set(self.columns)) < len(self.columns):
            raise Mistake("name each column once, and at least one", option="columns")
        need_columns(upstream, tuple(self.columns), "columns")
        shape = None if upstream.shape is None else (*upstream.shape[:-1], len(self.columns))
        columns = tuple(self.columns)
        return {"": upstream.having(shape=shape, dtype=upstream.dtype, columns=columns, rate=upstream.rate)}


class Filter(StepKind, frozen=True, kw_only=True):
    """The rows for which an expression over columns holds (`edgeflow_proto.pipeline.expression`)."""

    short: ClassVar[str | None] = "where"
    where: str

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The same rows, fewer of them."""
        try:
            names = expression.columns(expression.parse(self.where))
        except Mistake as mistake:
            raise Mistake(mistake.what, option="where", hint=mistake.hint) from None
        need_axes(upstream, 1, "needs rows of columns")
        need_columns(upstream, tuple(names), "where")
        return {"": upstream.having(shape=upstream.shape, dtype=upstream.dtype, columns=upstream.columns)}
