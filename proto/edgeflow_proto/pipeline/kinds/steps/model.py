"""The step kind of models."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from edgeflow_proto.bundle import Signature, Tensor, check_file_name
from edgeflow_proto.pipeline.flow import Flow, in_step
from edgeflow_proto.pipeline.kinds.base import (
    Context,
    StepKind,
    check_columns,
    check_format,
    default_columns,
)
from edgeflow_proto.pipeline.kinds.steps.ends import Ends, Wiring, ends, row_size
from edgeflow_proto.pipeline.kinds.steps.shape import MAX_SOURCES
from edgeflow_proto.pipeline.problem import Mistake
from edgeflow_proto.pipeline.units import Duration

MODEL_FORMATS = ("onnx", "tflite")
MAX_LABELS = 65536
MAX_TOP = 1000

ProviderName = Literal["cpu", "cuda", "tensorrt", "xnnpack"]
Way = Literal["raw", "cast", "quantised"]  # how rows become a model's numbers
_FLOATS = ("float32", "float64")


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """What shall execute a model; where it is absent something else does, unless it is `required`."""

    name: ProviderName
    required: bool = False


class Model(StepKind, frozen=True, kw_only=True):
    """A model beside the pipeline: ONNX or TFLite, by ending.

    Rows feed the input named by `input` (by default the one that nothing else feeds), reshaped to it where
    the number of values agrees. `constants` are the values of other inputs, as the model stores them: numbers
    in nested lists, or one number that fills the input. `state` carries outputs over to inputs
    (``{output: input}``), for each key by itself: zero for its first row, and again after a gap.

    Several edges feed the inputs that `from` calls them by: ``from: {image: frames, meta: features}``. They
    are branches of one input, or one join. The model is run for each row of the first, with the last row of
    its key of every other up to it; a row is left out where another edge has none yet, or where that is older
    than `tolerance`.

    `quantise` says how rows become the numbers of an integer model with a scale and zero point: ``raw`` as
    they are, ``model`` by that scale, ``auto`` by whether they are floats. Its results become float32.

    `output` names the output that is the result (by default the only one that is not state), or several,
    flattened and joined in that order. Of one value per class `softmax` makes probabilities, `argmax` the
    number of the greatest (column ``label``), `top` the numbers and values of the greatest few (``label``
    and ``score``, or ``label_1``, ``score_1``, …). `labels` name the classes, in a list or in a file of one a
    line; events show a class by its label. Without `argmax` and `top` they name the columns.
    """

    short: ClassVar[str | None] = "file"
    sources: ClassVar[tuple[int, int]] = (1, MAX_SOURCES)
    file: str
    input: str | None = None
    tolerance: Duration | None = None
    constants: dict[str, Any] | None = None
    state: dict[str, str] | None = None
    quantise: Literal["auto", "raw", "model"] = "auto"
    output: str | list[str] | None = None
    softmax: bool = False
    argmax: bool = False
    top: int | None = None
    labels: str | list[str] | None = None
    columns: list[str] | None = None
    threads: int = 1
    provider: ProviderName | Provider | None = None

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """Rows of the model's output shape without its first (batch) dimension."""
        self._check_options()
        flows = context.upstreams or {"": upstream}
        self._check_sources(flows)
        if self.tolerance is not None:
            upstream = msgspec.structs.replace(upstream, rate=None)
        labels = self._read_labels(context)
        signature = context.signatures.get(self.file)
        if signature is None or "" in context.upstreams:  # or what it reads is not known
            return {"": self._unsigned(upstream, context, labels)}
        used = self.ends(signature, [*flows])
        for flow, fed in zip(flows.values(), used.fed, strict=True):
            self._check_rows(flow, fed)
        return {"": self._result(upstream, used, labels, context.entry)}

    # the options by themselves

    def _check_options(self) -> None:
        check_format(self.file, MODEL_FORMATS, "file")
        _check_beside(self.file, "file")
        if self.columns is not None:
            check_columns(self.columns, "columns")
        if not 1 <= self.threads <= 64:
            raise Mistake("must be between 1 and 64", option="threads")
        if self.top is not None and (self.argmax or not 1 <= self.top <= MAX_TOP):
            what = "argmax chooses already" if self.argmax else f"must be between 1 and {MAX_TOP}"
            raise Mistake(what, option="top")
        if self.outputs and len(set(self.outputs)) < len(self.outputs):
            raise Mistake("name each output once", option="output")

    def _check_sources(self, flows: Mapping[str, Flow]) -> None:
        """Raise Mistake unless the edges read can be told apart and put side by side."""
        if len(flows) == 1:
            if self.tolerance is not None:
                raise Mistake("there is one edge; nothing is put beside its rows", option="tolerance")
            return
        if self.input is not None:
            raise Mistake("'from' says which input each of several edges feeds", option="input")
        known = {label: flow for label, flow in flows.items() if flow.inputs}
        first = next(iter(known), "")
        for label, flow in known.items():
            if not in_step([known[first], flow]):
                what = f"the rows of '{label}' are not in step with those of '{first}'"
                raise Mistake(what, option="from", hint="join them first")

    def _read_labels(self, context: Context) -> tuple[str, ...]:
        """Return the names of the classes, in their order; raises Mistake."""
        labels = self.labels or []
        if isinstance(labels, str):
            _check_beside(labels, "labels")
            content = context.files.read(labels)
            if content is None:
                raise Mistake(f"no file {labels} beside the pipeline", option="labels")
            lines = content.decode("utf-8-sig", "replace").rstrip().splitlines()
            labels = [line.strip() for line in lines]  # an empty one in between is a class without a name
        if self.labels is not None and not 1 <= len(labels) <= MAX_LABELS:
            raise Mistake(f"{len(labels)} labels; 1 to {MAX_LABELS} are possible", option="labels")
        if labels and not self._chooses:
            if self.columns is not None:
                raise Mistake("give labels or columns: both name the columns here", option="labels")
            check_columns(labels, "labels")
        return tuple(labels)

    @property
    def _chooses(self) -> bool:
        return self.argmax or self.top is not None

    @property
    def outputs(self) -> list[str]:
        """The outputs named."""
        return [self.output] if isinstance(self.output, str) else self.output or []

    @property
    def executor(self) -> Provider | None:
        """The provider asked for."""
        return Provider(name=self.provider) if isinstance(self.provider, str) else self.provider

    # the options and the model

    def ends(self, signature: Signature, sources: Sequence[str]) -> Ends:
        """Return which of the model's inputs and outputs are used, and how; raises Mistake.

        `sources` is what the step calls the edges it reads, in the order named.
        """
        if self.quantise == "model" and not any(tensor.scale for tensor in signature.inputs):
            raise Mistake(f"{self.file} is not quantised", option="quantise")
        named = [] if self.input is None else [self.input]
        inputs = named if len(sources) == 1 else sources
        wiring = Wiring(self.file, inputs, self.constants or {}, self.state or {}, self.outputs)
        return ends(wiring, signature)

    def way(self, dtype: str, fed: Tensor) -> Way:
        """Return how rows of a dtype become a model's numbers; raises Mistake where they do not."""
        if fed.scale and (self.quantise == "model" or (self.quantise == "auto" and dtype in _FLOATS)):
            return "quantised"
        if dtype == fed.dtype:
            return "raw"
        if dtype in _FLOATS and fed.dtype in _FLOATS:
            return "cast"
        form = f"{list(fed.shape)} {fed.dtype}"
        raise Mistake(f"{self.file} takes {form}, but is fed {dtype}", option="from")

    def _check_rows(self, upstream: Flow, fed: Tensor) -> None:
        if upstream.shape is not None and not _fits(upstream.shape, fed.shape[1:]):
            form = f"{list(fed.shape)} {fed.dtype}"
            what = f"{self.file} takes {form}, but is fed rows of shape {list(upstream.shape)}"
            raise Mistake(what, option="from")
        if upstream.dtype is not None:
            self.way(upstream.dtype, fed)

    # what comes out

    def _unsigned(self, upstream: Flow, context: Context, labels: tuple[str, ...]) -> Flow:
        if context.files.read(self.file) is None:
            raise Mistake(f"no file {self.file} beside the pipeline", option="file")
        columns = self.columns or (self._choice_columns() if self._chooses else labels)
        shape = (len(columns),) if columns else None
        return upstream.having(shape=shape, dtype=None, columns=tuple(columns) or None, rate=upstream.rate)

    def _result(self, upstream: Flow, used: Ends, labels: tuple[str, ...], entry: str) -> Flow:
        shape, dtype = self._row(used.given)
        if labels:
            shape = _counted(shape, len(labels), "labels")
        if self._chooses:
            return self._choice(upstream, shape, dtype, labels)
        names = tuple(self.columns or labels)
        if names:
            shape = _counted(shape, len(names), "columns")
        if min(shape) < 0:
            return upstream.having(shape=None, dtype=dtype, columns=names or None, rate=upstream.rate)
        columns = names or _default_columns(entry, used.given, shape)
        return upstream.having(shape=shape, dtype=dtype, columns=columns, rate=upstream.rate)

    def _row(self, given: tuple[Tensor, ...]) -> tuple[tuple[int, ...], str]:
        """Return shape and dtype of what the model gives for a row; a size is -1 where only running tells."""
        dtypes = {"float32" if tensor.scale else tensor.dtype for tensor in given}
        if len(dtypes) > 1:
            what = f"they are of different types ({', '.join(sorted(dtypes))}), which one row cannot be"
            raise Mistake(what, option="output")
        (dtype,) = dtypes
        for name in ("softmax", "top"):
            if getattr(self, name) and dtype not in _FLOATS:
                raise Mistake(f"needs floats, the model gives {dtype}", option=name)
        if len(given) > 1:
            return (row_size(given),), dtype
        return tuple(given[0].shape[1:]) or (1,), dtype

    def _choice(self, upstream: Flow, shape: tuple[int, ...], dtype: str, labels: tuple[str, ...]) -> Flow:
        """Return the flow of the greatest classes of each row."""
        option = "argmax" if self.argmax else "top"
        if len(shape) != 1:
            raise Mistake(f"needs one value per class, the model gives rows {list(shape)}", option=option)
        if self.top is not None and 0 <= shape[0] < self.top:
            raise Mistake(f"the model gives {shape[0]} classes", option=option)
        columns = self._choice_columns()
        names = tuple(self.columns or columns)
        if len(names) != len(columns):
            raise Mistake(f"{len(names)} are named, {option} gives {len(columns)}", option="columns")
        kept = "int32" if self.argmax else dtype
        codes = dict.fromkeys(names[::2], labels) if labels else {}
        return upstream.having(
            shape=(len(names),), dtype=kept, columns=names, rate=upstream.rate, codes=codes
        )

    def _choice_columns(self) -> tuple[str, ...]:
        if self.top is None:
            return ("label",)
        if self.top == 1:
            return ("label", "score")
        return tuple(f"{what}_{place}" for place in range(1, self.top + 1) for what in ("label", "score"))


def _check_beside(name: str, option: str) -> None:
    try:
        check_file_name(name)
    except ValueError as error:
        raise Mistake(str(error), option=option) from None


def _fits(row: tuple[int, ...], model: tuple[int, ...]) -> bool:
    fixed = math.prod(size for size in model if size >= 0)
    count = math.prod(row)
    return count == fixed if all(size >= 0 for size in model) else fixed > 0 and count % fixed == 0


def _counted(shape: tuple[int, ...], count: int, option: str) -> tuple[int, ...]:
    """Return a shape whose last size is known to be `count`; raises Mistake when it is another."""
    if shape[-1] not in (-1, count):
        raise Mistake(f"{count} are named, the model gives {shape[-1]}", option=option)
    return (*shape[:-1], count)


def _default_columns(entry: str, given: tuple[Tensor, ...], shape: tuple[int, ...]) -> tuple[str, ...] | None:
    """Name results after their step, or after their outputs where there are several."""
    plain = default_columns(entry, shape)
    if len(given) == 1 or plain is None:
        return plain
    names: list[str] = []
    for tensor in given:
        size = math.prod(tensor.shape[1:])
        names += default_columns(re.sub(r"\W", "_", tensor.name), (size,)) or ()
    try:
        check_columns(names, "columns")
    except Mistake:
        return plain
    return tuple(names)
