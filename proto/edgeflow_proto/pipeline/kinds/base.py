"""How a kind of input, step, output or decoder is specified.

A kind is a frozen struct: its fields are its options, types and defaults included. What it makes
of the rows that reach it is a rule (`flows`), so that a file is checked where no runtime is.
Kinds are found by entry point (groups `GROUPS`), the built-in ones like anyone else's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import ClassVar, Literal, Protocol

import msgspec

from edgeflow_proto.bundle import Signature
from edgeflow_proto.installed import points
from edgeflow_proto.pipeline.flow import DTYPES, MAX_COLUMNS, Flow
from edgeflow_proto.pipeline.problem import Mistake, near_miss, shown
from edgeflow_proto.pipeline.units import Duration, Extent, Frequency

Role = Literal["input", "step", "output", "decoder"]
Dtype = Literal[DTYPES]  # type: ignore[valid-type]
COLUMN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

GROUPS: dict[Role, str] = {
    "input": "edgeflow.kinds.inputs",
    "step": "edgeflow.kinds.steps",
    "output": "edgeflow.kinds.outputs",
    "decoder": "edgeflow.kinds.decoders",
}


class Files(Protocol):
    """The files beside a pipeline."""

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or ``None`` when there is no such file."""


class Context(msgspec.Struct, frozen=True):
    """What a rule may look at besides its options: its own name, the bundle, and all that reaches it.

    `upstreams` are the flows of all sources by what the step calls them, in the order named.
    """

    entry: str
    pipeline: str
    files: Files
    signatures: Mapping[str, Signature]
    upstreams: Mapping[str, Flow] = {}


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every kind. `short` is the option that ``kind: value`` sets.

    `expression` is the option whose texts are expressions: parameters stand for their values inside them.
    """

    short: ClassVar[str | None] = None
    expression: ClassVar[str | None] = None


class DecoderKind(Kind, frozen=True, kw_only=True):
    """How one payload becomes samples."""


class TimeField(msgspec.Struct, frozen=True, kw_only=True):
    """Where a sample carries its time, and how: numbers of `unit` since 1970, or ``iso`` texts (RFC 3339)."""

    field: str
    unit: Literal["s", "ms", "us", "ns", "iso"] = "s"


class Around(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows around an event: from `before` the first of its rows to `after` the last of them."""

    before: Extent | None = None
    after: Extent | None = None


class Intake(msgspec.Struct, frozen=True, kw_only=True):
    """Options every input has. Without `fields` or `shape` a sample is one number, column ``value``.

    `key` names a capture of the source or, where it captures nothing, a field of the samples. `codes` are the
    texts that a column may hold, which become their numbers. `time` is a field of the samples; without it a
    sample's time is its arrival. A sample whose time is before one that came earlier is `late`: dropped and
    counted, or kept with that one's time. `record` keeps rows on disk, to look at and to replay: all of them,
    or those around each event that the pipeline's event outputs put in its journal.
    """

    fields: dict[str, str] | list[str] | None = None
    shape: tuple[int, ...] | None = None
    dtype: Dtype = "float32"
    rate: Frequency | None = None
    key: str | None = None
    max_keys: int = 256
    codes: dict[str, list[str]] = {}
    time: TimeField | str | None = None
    late: Literal["drop", "keep"] = "drop"
    buffer: Extent | None = None
    gaps: Literal["reset", "bridge"] = "reset"
    record: Literal["off", "all"] | Around = "off"
    decode: DecoderKind | None = None
    _fielded: bool = False  # set by the check: the key is a field of the samples, not a capture

    @property
    def key_field(self) -> str | None:
        """The field that holds a sample's key, if one does."""
        return self.key if self._fielded else None

    @property
    def paths(self) -> dict[str, str]:
        """Column name → dotted path inside a sample."""
        if isinstance(self.fields, dict):
            return self.fields
        return {name: name for name in self.fields or ("value",)}

    @property
    def clock(self) -> TimeField | None:
        """Where a sample carries its time, if it does."""
        return TimeField(field=self.time) if isinstance(self.time, str) else self.time

    def before(self, rate: float) -> int:
        """Rows that were there before an event's and are recorded with them, where rows come at `rate`."""
        around = self.record if isinstance(self.record, Around) else Around()
        return 0 if around.before is None else around.before.count(rate)

    def recorded(self, columns: Collection[str]) -> Intake:
        """Return how a recording with these columns is read, which tells what no topic and no clock can.

        A column called as the key is the rows' key, and a column ``time`` their arrival (RFC 3339, as the
        file output writes it), unless it is one of the fields.
        """
        if self.shape is not None:
            return self
        keyed = self._fielded or (self.key in columns and self.key not in self.paths)
        timed = self.time is None and "time" in columns and "time" not in self.paths.values()
        time = TimeField(field="time", unit="iso") if timed else self.time
        return msgspec.structs.replace(self, _fielded=keyed, time=time)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row in the ring."""
        return self.shape if self.shape is not None else (len(self.paths),)

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of the last axis; ``None`` for a tensor."""
        return None if self.shape is not None and self.fields is None else tuple(self.paths)


class InputKind(Kind, frozen=True, kw_only=True):
    """A source of rows. `decodes` says whether payloads reach it that a decoder must read."""

    decodes: ClassVar[bool] = False
    lossless: ClassVar[bool] = False  # the writer waits for the reader

    def adjust(self, intake: Intake) -> Intake:
        """Return the intake with what this kind knows by itself; raises Mistake."""
        return intake

    def captures(self) -> frozenset[str]:
        """Names that `key` may refer to besides a field."""
        return frozenset()


class Handling(msgspec.Struct, frozen=True, kw_only=True):
    """Options every step has: what becomes of rows it raises on, and how long one call of it may take."""

    on_error: Literal["drop", "dead-letter", "stop"] = "drop"
    latency_budget: Duration | None = None


class StepKind(Kind, frozen=True, kw_only=True):
    """A step. `sources` is how many edges it reads, at least and at most."""

    fixed_ports: ClassVar[tuple[str, ...]] = ()
    mixes_keys: ClassVar[bool] = False  # a row that it gives is made of rows of several keys
    sources: ClassVar[tuple[int, int]] = (1, 1)

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """Return the flow of each port (``""`` for the unnamed one); raises Mistake."""
        raise NotImplementedError

    @property
    def ports(self) -> tuple[str, ...]:
        """Its named results, which may depend on its options; one unnamed result when empty."""
        return self.fixed_ports

    def history(self, rate: float | None) -> int:
        """Rows of one key it looks at together, where rows come at `rate`: rings have room for them."""
        return 1


class OutputKind(Kind, frozen=True, kw_only=True):
    """An end of the graph. `effect` says whether `io` carries it out."""

    effect: ClassVar[bool] = True

    def check(self, upstream: Flow, context: Context) -> None:
        """Raise Mistake when the rows that reach it cannot be used."""


@cache
def kinds(role: Role) -> dict[str, type[Kind]]:
    """Return every installed kind of a role, by name."""
    return {name: point.load() for name, point in points(GROUPS[role]).items()}


def need_columns(flow: Flow, names: tuple[str, ...], option: str) -> None:
    """Raise Mistake unless every name is a column of the flow (where its columns are known)."""
    if flow.shape is not None and flow.columns is None:
        raise Mistake("the rows it reads have no named columns", option=option)
    for name in names if flow.columns is not None else ():
        if name not in (flow.columns or ()):
            raise Mistake(f"no column '{name}'", option=option, hint=near_miss(name, flow.columns or ()))


def need_axes(flow: Flow, count: int, what: str) -> None:
    """Raise Mistake unless rows have `count` axes (where their shape is known)."""
    if flow.shape is not None and len(flow.shape) != count:
        raise Mistake(f"{what}, but its rows have shape {list(flow.shape)}", option="from")


def check_columns(names: Sequence[str], option: str) -> None:
    """Raise Mistake unless `names` are one or more column names, each there once."""
    for name in names:
        if not COLUMN.fullmatch(name):
            what = f"{shown(name)} is not a column name"
            raise Mistake(what, option=option, hint="letters, digits, _ and .")
    if not names or len(set(names)) < len(names):
        raise Mistake("name each column once, and at least one", option=option)
    if len(names) > MAX_COLUMNS:
        raise Mistake(f"{len(names)} columns, at most {MAX_COLUMNS}", option=option)


def check_shape(shape: tuple[int, ...]) -> None:
    """Raise Mistake unless `shape` is that of a row: at least one axis, each of at least one value."""
    if not shape or min(shape) < 1:
        raise Mistake("sizes are 1 or more, and there is at least one", option="shape")


def check_format(name: str, known: Sequence[str], option: str) -> None:
    """Raise Mistake unless a file's name ends in one of the `known` formats."""
    head, _, ending = name.rpartition(".")
    if not head or ending not in known:
        hint = f"known: {', '.join(known)}"
        raise Mistake(f"cannot tell the format of {shown(name)}", option=option, hint=hint)


def default_columns(entry: str, shape: tuple[int, ...]) -> tuple[str, ...] | None:
    """Name unnamed results after their step: ``score``, or ``score_0, score_1, …``; tensors stay unnamed."""
    if len(shape) != 1 or shape[0] > MAX_COLUMNS:
        return None
    return (entry,) if shape == (1,) else tuple(f"{entry}_{index}" for index in range(shape[0]))
