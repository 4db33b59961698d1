"""The ends of a model: which of its inputs is fed by what, and which of its outputs are used."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from edgeflow_proto.bundle import Signature, Tensor
from edgeflow_proto.pipeline.flow import DTYPES
from edgeflow_proto.pipeline.problem import Mistake, near_miss, shown

_INTEGER = {  # limits by dtype
    f"{sign}int{bits}": (-(1 << bits - 1), (1 << bits - 1) - 1) if sign == "" else (0, (1 << bits) - 1)
    for bits in (8, 16, 32, 64)
    for sign in ("", "u")
}
_LARGEST = {"float32": 3.4028234e38, "float64": 1.7976931348623157e308}


class Ends(msgspec.Struct, frozen=True):
    """`fed` are the inputs that rows feed, in the order of the step's sources.

    `state` are pairs of an output and the input that it becomes for the next row of the same key.
    """

    fed: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    state: tuple[tuple[Tensor, Tensor], ...]
    given: tuple[Tensor, ...]


class Wiring(msgspec.Struct, frozen=True):
    """What a step says about the ends of its model; `inputs` (that rows feed) and `outputs` may be open."""

    file: str
    inputs: Sequence[str]
    constants: Mapping[str, Any]
    state: Mapping[str, str]
    outputs: Sequence[str]


def ends(wiring: Wiring, signature: Signature) -> Ends:
    """Return the ends of a model as they are used; raises Mistake where model and step do not agree."""
    return _Connector(wiring, signature).ends()


class _Connector:
    def __init__(self, wiring: Wiring, signature: Signature) -> None:
        self.wiring, self.file = wiring, wiring.file
        self.inputs = {tensor.name: tensor for tensor in signature.inputs}
        self.outputs = {tensor.name: tensor for tensor in signature.outputs}
        self.taken = {*wiring.constants, *wiring.state.values()}

    def ends(self) -> Ends:
        constants, state = tuple(self.constants()), tuple(self.state())
        fed, given = self.fed(), self.given()
        for tensor in (*fed, *given):
            self.check_rows(tensor)
        for tensor in fed:
            if tensor.shape[0] not in (-1, 1):
                what = f"{self.file} takes {tensor.shape[0]} rows at a time; one or any number is possible"
                raise Mistake(what, option="file")
        return Ends(fed, constants, state, given)

    def constants(self) -> Iterator[Tensor]:
        for name, value in self.wiring.constants.items():
            tensor = self.known(name, self.inputs, "input", "constants")
            try:
                check_constant(value, tensor)
            except ValueError as error:
                raise Mistake(f"{name} {error}", option="constants") from None
            yield tensor

    def state(self) -> Iterator[tuple[Tensor, Tensor]]:
        state = self.wiring.state
        for name, target in state.items():
            source = self.known(name, self.outputs, "output", "state")
            sink = self.known(target, self.inputs, "input", "state")
            if target in self.wiring.constants:
                raise Mistake(f"'{target}' is a constant", option="state")
            check_carried(source, sink)
            yield source, sink
        if len({*state.values()}) < len(state):
            raise Mistake("an input takes one output", option="state")

    def fed(self) -> tuple[Tensor, ...]:
        """Return the inputs that rows feed: those named, or the only one that nothing else feeds."""
        option = "input" if len(self.wiring.inputs) == 1 else "from"
        for name in self.wiring.inputs:
            if self.known(name, self.inputs, "input", option).name in self.taken:
                raise Mistake(f"'{name}' is a constant or state", option=option)
        free = [name for name in self.inputs if name not in self.taken]
        if not free:
            raise Mistake(f"constants and state feed all inputs of {self.file}; rows need one", option="file")
        if len(free) > 1 and not self.wiring.inputs:
            what = f"{self.file} has {len(free)} inputs ({', '.join(free)}); one is fed"
            raise Mistake(what, option="file", hint="constants, state and other edges feed others")
        fed = self.wiring.inputs or free
        for name in free:
            if name not in fed:
                what = f"nothing feeds '{name}' of {self.file}"
                raise Mistake(what, option="from", hint="a constant, state or another edge may")
        return tuple(self.inputs[name] for name in fed)

    def given(self) -> tuple[Tensor, ...]:
        """Return the outputs named, or the only one that is not state."""
        named = [self.known(name, self.outputs, "output", "output") for name in self.wiring.outputs]
        free = [tensor for name, tensor in self.outputs.items() if name not in self.wiring.state]
        if named or len(free) == 1:
            return tuple(named or free)
        what = f"{self.file} has {len(free)} outputs" if free else "all outputs are state"
        raise Mistake(f"{what}; say which", option="output", hint=_names(free or self.outputs.values()))

    def check_rows(self, tensor: Tensor) -> None:
        """Raise Mistake for a tensor that rows cannot be."""
        what = ""
        if tensor.dtype not in DTYPES:
            what = f"is of type {tensor.dtype}, which rows cannot be"
        elif not tensor.shape:
            what = "is a single value, without a batch dimension"
        if what:
            raise Mistake(f"{self.file}: {tensor.name} {what}", option="file")

    def known(self, name: str, tensors: Mapping[str, Tensor], what: str, option: str) -> Tensor:
        if name not in tensors:
            raise Mistake(f"{self.file} has no {what} '{name}'", option=option, hint=near_miss(name, tensors))
        return tensors[name]


def check_carried(source: Tensor, sink: Tensor) -> None:
    """Raise Mistake unless an output can become an input as it is."""
    alike = len(source.shape) == len(sink.shape) and all(
        out == into or min(out, into) < 0 for out, into in zip(source.shape, sink.shape, strict=True)
    )
    scales = (source.dtype, source.scale, source.zero_point) == (sink.dtype, sink.scale, sink.zero_point)
    if not alike or not scales or sink.dtype not in DTYPES:
        what = f"{source.name} is {described(source)}, but {sink.name} is {described(sink)}"
        hint = "also in scale and zero point they must be alike" if alike else ""
        raise Mistake(what, option="state", hint=hint)


def check_constant(value: Any, tensor: Tensor) -> None:
    """Raise ValueError unless numbers in nested lists are those of a tensor; one number fills any shape."""
    if tensor.dtype not in DTYPES:
        raise ValueError(f"is of type {tensor.dtype}, which a constant cannot be")
    shape = _shape(value)
    fits = len(shape) == len(tensor.shape) and all(
        wanted in (-1, size) for size, wanted in zip(shape, tensor.shape, strict=True)
    )
    if shape and not fits:
        raise ValueError(f"is {described(tensor)}, not of shape {list(shape)}")
    for number in _numbers(value):
        if not _is_a(number, tensor.dtype):
            raise ValueError(f"is {described(tensor)}, which {shown(number)} is not")


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        return ()
    shapes = {_shape(element) for element in value}
    if len(shapes) != 1:
        raise ValueError("has lists in a list that are not alike, or empty")
    return (len(value), *shapes.pop())


def _numbers(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for element in value:
            yield from _numbers(element)
    else:
        yield value


def _is_a(number: Any, dtype: str) -> bool:
    if isinstance(number, bool) or dtype == "bool":
        return isinstance(number, bool) and dtype == "bool"
    if dtype in _INTEGER:
        return isinstance(number, int) and _INTEGER[dtype][0] <= number <= _INTEGER[dtype][1]
    if isinstance(number, float) and not math.isfinite(number):
        return True
    return isinstance(number, int | float) and abs(number) <= _LARGEST[dtype]


def described(tensor: Tensor) -> str:
    """Return a tensor's form in words."""
    return f"{list(tensor.shape)} {tensor.dtype}" if tensor.shape else f"one {tensor.dtype}"


def row_size(tensors: Iterable[Tensor]) -> int:
    """Return how many values tensors have per row, -1 where only running tells."""
    rows = [tensor.shape[1:] for tensor in tensors]
    return -1 if any(size < 0 for row in rows for size in row) else sum(map(math.prod, rows))


def _names(tensors: Iterable[Tensor]) -> str:
    return ", ".join(tensor.name for tensor in tensors)
