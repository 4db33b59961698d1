"""What samples look like in JSON and CBOR: a type that msgspec checks while it reads, and its way to rows.

A sample is an object read by field path, an array in field order, or a number where there is one
field; with a `shape`, nested arrays. Strictness and speed come from the same place: msgspec's typed
decoding knows ``true`` from 1, names what is missing, and skips fields nobody asked for unread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Annotated, Any

import msgspec
import numpy as np

from edgeflow_agent.core.batch import Values
from edgeflow_agent.inputs.decode.base import DecodeError, Samples
from edgeflow_agent.inputs.decode.marks import Marks
from edgeflow_proto.pipeline.kinds.base import Intake

_Tree = dict[str, Any]  # path part → tree, or the type at its end


class Form:
    """The form of a payload. `type` is what msgspec is to read it as."""

    def __init__(self, intake: Intake, samples: str | None, number: Any) -> None:
        """`number` is the type of one value; raises ValueError when two fields cannot both be read."""
        self.dtype = np.dtype(intake.dtype)
        self.row_shape = intake.row_shape
        self.marks = Marks(intake)
        self.marked = bool(self.marks)
        sample, self._values = self._form(intake, number)
        self.type: Any = sample
        self._samples: Callable[[Any], list[Any]] = _alone
        if samples is not None:
            self.type, self._samples = _within(samples, list[sample])  # type: ignore[valid-type]

    def _form(self, intake: Intake, number: Any) -> tuple[Any, Callable[[Any], Any]]:
        if self.marked:
            return _struct_of(self.marks.leaves(number))
        return _tensor(intake, number) if intake.shape else _fields(intake, number)

    def samples(self, payload: Any) -> Samples:
        """Return samples of the intake's dtype; raises DecodeError."""
        if not self.marked:
            return Samples(self.rows(payload))
        found = [self._values(sample) for sample in self._samples(payload)]
        return self.marks.samples([one if isinstance(one, tuple) else (one,) for one in found])

    def rows(self, payload: Any) -> Values:
        """Return ``(n, *row_shape)`` of the intake's dtype; raises DecodeError."""
        samples = self._samples(payload)
        try:
            if samples and isinstance(samples[0], msgspec.Struct):
                samples = [*map(self._values, samples)]
            return self._packed(samples) if len(self.row_shape) == 1 else self._nested(samples)
        except AttributeError:
            raise DecodeError("type", "samples of different forms in one message") from None
        except (TypeError, ValueError):
            raise DecodeError("shape", "samples of different lengths in one message") from None

    def _packed(self, samples: list[Any]) -> Values:
        """Return rows of one axis, which are lists, or bare numbers where there is one column."""
        (width,) = self.row_shape
        if samples and not isinstance(samples[0], (list, tuple)):
            return np.array(samples, self.dtype).reshape(-1, 1)
        for length in set(map(len, samples)) - {width}:
            raise DecodeError("shape", f"a sample of {length} values, not {width}")
        values = chain.from_iterable(samples)
        return np.fromiter(values, self.dtype, width * len(samples)).reshape(-1, width)

    def _nested(self, samples: list[Any]) -> Values:
        rows = np.array(samples, self.dtype)
        if not samples:
            return rows.reshape(0, *self.row_shape)
        if rows.shape[1:] != self.row_shape:
            found, wanted = list(rows.shape[1:]), list(self.row_shape)
            raise DecodeError("shape", f"a sample of shape {found}, not {wanted}")
        return rows


def number_type(dtype: str) -> Any:
    """Return the type of the numbers that `dtype` can hold; floats have no bounds unless they are float32."""
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return bool
    if kind == np.float64:
        return float
    if kind.kind == "f":
        limit = float(np.finfo(kind).max)
        return Annotated[float, msgspec.Meta(ge=-limit, le=limit)]
    limits = np.iinfo(kind)
    return Annotated[int, msgspec.Meta(ge=int(limits.min), le=int(limits.max))]


def refusal(error: msgspec.ValidationError) -> DecodeError:
    """Say by which rule msgspec refused; it tells only in words."""
    text = str(error)
    if "missing required field" in text:
        return DecodeError("missing_field", text)
    if "` <= " in text or "` >= " in text or "out of range" in text:
        return DecodeError("range", text)
    return DecodeError("type", text)


def _alone(payload: Any) -> list[Any]:
    return [payload]


def _tensor(intake: Intake, number: Any) -> tuple[Any, Callable[[Any], Any]]:
    kind = number
    for _ in intake.row_shape:
        kind = list[kind]  # type: ignore[valid-type]
    return kind, tuple


def _fields(intake: Intake, number: Any) -> tuple[Any, Callable[[Any], Any]]:
    paths = intake.paths.values()
    kind, values = _struct(paths, number)
    forms = kind | list[number]
    return (forms | number if len(paths) == 1 else forms), values


def _within(path: str, kind: Any) -> tuple[Any, Callable[[Any], list[Any]]]:
    return _struct([path], kind) if path else (kind, list)


def _struct(paths: Iterable[str], leaf: Any) -> tuple[type[msgspec.Struct], Callable[[Any], Any]]:
    """Return a nested struct with `leaf` at each dotted path, and what takes those values out of it."""
    return _struct_of([(path, leaf) for path in paths])


def _struct_of(leaves: Sequence[tuple[str, Any]]) -> tuple[type[msgspec.Struct], Callable[[Any], Any]]:
    """Return a nested struct with a type at each dotted path, and what takes those values out of it."""
    tree: _Tree = {}
    for path, leaf in leaves:
        _plant(tree, path, leaf)
    return _grown(tree), attrgetter(*(_attribute(tree, path) for path, _ in leaves))


def _plant(tree: _Tree, path: str, leaf: Any) -> None:
    *parents, last = path.split(".")
    for part in parents:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ValueError(f"field '{path}' lies within another field")
    if isinstance(tree.setdefault(last, leaf), dict):
        raise ValueError(f"another field lies within field '{path}'")


def _grown(tree: _Tree) -> type[msgspec.Struct]:
    """Attributes are numbered, because a JSON name need not be a Python one."""
    kinds = [_grown(kind) if isinstance(kind, dict) else kind for kind in tree.values()]
    names = {f"f{i}": name for i, name in enumerate(tree)}
    return msgspec.defstruct("Sample", [*zip(names, kinds, strict=True)], rename=names)


def _attribute(tree: _Tree, path: str) -> str:
    out = []
    for part in path.split("."):
        out.append(f"f{[*tree].index(part)}")
        tree = tree[part] if isinstance(tree[part], dict) else {}
    return ".".join(out)
