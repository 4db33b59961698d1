"""Events: the block they are stored and sent in, and the CloudEvents form others meet.

A block holds the events of one output in the order they happened, in columns: CBOR (RFC 8949) with
little-endian byte strings, so that a thousand events cost one encode. Its key in the journal is the
sequence number of its first event; the others follow without a hole.
Source: CloudEvents 1.0.2, with the JSON event format.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import cbor2
import msgspec

from edgeflow_proto.arrays import CODES, numbers
from edgeflow_proto.cbor import check_written_out

ClockQuality = Literal["synchronised", "relay", "corrected", "unsynchronised", "payload"]

AGENT = "_agent"  # stands as the pipeline of what a device says of itself: a name no pipeline can have
SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/cloudevents+json"
CBOR_CONTENT_TYPE = "application/cloudevents+cbor"
BLOCK_VERSION = 1
MAX_BLOCK_EVENTS = 4096
MAX_AXES = 8
_PORTION = 128  # events
ROW_BITS = 40  # an input row's number = ring generation << 40 | row

_ID = re.compile(r"([0-9a-zA-Z]{1,64})-([0-9]{1,19})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Column(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One value per event and place: `shape` is that of one value, ``()`` for a number.

    `words` are what whole numbers among them stand for, as far as they occur.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes
    words: dict[int, str] = {}


class Clock(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the times of a block become wall time: ``wall = t + offset_ns``, as known when it was made.

    `quality` says by what: the kernel's synchronised clock, the relay's, what was learnt later
    (``corrected``, by `edgeflow_proto.timeline`), or nothing; or that the samples carried their times
    (``payload``). `uncertainty_ns` is how far it may be off, if that is known.
    """

    boot_id: str
    offset_ns: int
    quality: ClockQuality
    uncertainty_ns: int | None = None


class Block(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Events of one output.

    `t` is int64 ``(n,)``, CLOCK_BOOTTIME ns of each event; `spans` is int64
    ``(n, 2·inputs)``, the first and last row of each of `inputs` behind it, -1 where there is none (both
    empty for events that come from no rows); `keys` holds each
    distinct subject once and `key` uint32 ``(n,)`` points into it (both empty where there is none).
    `data` are measured columns, `fixed` values that all events of the block share.
    """

    version: int = BLOCK_VERSION
    output: str
    type: str
    severity: str
    count: int
    clock: Clock
    t: bytes
    pipeline_digest: str = ""
    models: dict[str, str] = {}  # step → SHA-256 of the model's file
    inputs: tuple[str, ...] = ()
    spans: bytes = b""
    keys: tuple[str, ...] = ()
    key: bytes = b""
    data: tuple[Column, ...] = ()
    fixed: dict[str, Any] = {}
    decided_ns: int = 0  # CLOCK_BOOTTIME when the batch that made the newest event was done

    def encode(self) -> bytes:
        """Return the block as CBOR."""
        return cbor2.dumps(msgspec.to_builtins(self, builtin_types=(bytes,)))


def decode_block(data: bytes) -> Block:
    """Read a block; raises ValueError when it is damaged, made to harm, or of another version."""
    try:
        content = cbor2.loads(data)
        check_written_out(content, data)
        block = msgspec.convert(content, Block)
    except Exception as error:  # the decoder runs into whatever a damaged tag makes of it
        raise ValueError(f"not an event block: {error}") from None
    if block.version != BLOCK_VERSION:
        raise ValueError(f"block version {block.version} is not known")
    _check_lengths(block)
    _check_values(block)
    return block


def _check_lengths(block: Block) -> None:
    n = block.count
    fits = 0 < n <= MAX_BLOCK_EVENTS and len(block.t) == 8 * n
    fits = fits and len(block.spans) in (0, 16 * n * len(block.inputs))
    fits = fits and len(block.key) == (4 * n if block.keys else 0)
    if not fits or not all(_column_fits(column, n) for column in block.data):
        raise ValueError(f"the columns of a block of {n} events do not have its length")


def _column_fits(column: Column, n: int) -> bool:
    code, shape = CODES.get(column.dtype), column.shape
    if code is None or len(shape) > MAX_AXES or any(size < 1 for size in shape):
        return False
    return len(column.data) == n * math.prod(shape) * array(code).itemsize


def _check_values(block: Block) -> None:
    if block.keys and max(numbers(block.key, "I")) >= len(block.keys):
        raise ValueError("a block's events have keys that it does not hold")
    try:
        msgspec.json.encode(block.fixed)
    except Exception as error:
        raise ValueError(f"a block's fixed values are no JSON: {error}") from None


class Event(msgspec.Struct, frozen=True):
    """One event. `spans` are ``(first, last)`` row by input, of those whose rows are behind it."""

    id: str
    source: str
    type: str
    time: str
    subject: str | None
    data: dict[str, Any]
    severity: str
    output: str
    sequence: int
    journal: str
    pipeline: str
    pipeline_digest: str
    models: dict[str, str]
    clock: Clock
    t: int
    spans: dict[str, tuple[int, int]]
    decided_ns: int

    def to_json(self) -> dict[str, Any]:
        """Return the CloudEvents JSON form; extension names are lower case as section 3.1 asks."""
        out: dict[str, Any] = {
            "specversion": SPEC_VERSION, "id": self.id, "source": self.source, "type": self.type,
            "time": self.time, "datacontenttype": "application/json", "severity": self.severity,
            "output": self.output, "sequence": f"{self.sequence:020d}", "bootid": self.clock.boot_id,
            "clockquality": self.clock.quality, "monotonicns": str(self.t), "data": self.data,
        }  # fmt: skip
        optional = {
            "subject": self.subject,
            "pipelinedigest": self.pipeline_digest,
            "modeldigest": " ".join(f"{step}={digest}" for step, digest in self.models.items()),
            "inputspan": " ".join(f"{name}:{first}-{last}" for name, (first, last) in self.spans.items()),
            "decidedns": str(self.decided_ns) if self.decided_ns else None,
            "timeuncertaintyns": _uncertainty(self.clock),
        }
        return out | {name: value for name, value in optional.items() if value}

    def to_cbor(self) -> bytes:
        """Return the same attributes as CBOR."""
        return cbor2.dumps(self.to_json())


def _uncertainty(clock: Clock) -> str | None:
    return None if clock.uncertainty_ns is None else str(clock.uncertainty_ns)


def source(device: str, pipeline: str) -> str:
    """Return the CloudEvents source of a pipeline, or of the device itself by the name `AGENT`."""
    return f"/devices/{device}/pipelines/{pipeline}"


def event_id(journal: str, sequence: int) -> str:
    """Return the id of an event: unique because a journal's id is random and its numbers never repeat."""
    return f"{journal}-{sequence}"


def identity(text: str) -> tuple[str, int]:
    """Take an event id apart into journal and sequence; raises ValueError."""
    match = _ID.fullmatch(text)
    if match is None:
        raise ValueError(f"not an event id: {text[:100]!r}")
    return match[1], int(match[2])


def wall_time(ns: int) -> str:
    """Return RFC 3339 in UTC with microseconds for nanoseconds since 1970; clamped to years 1 to 9999."""
    try:
        moment = _EPOCH + timedelta(microseconds=ns // 1000)
    except OverflowError:
        moment = datetime.max.replace(tzinfo=UTC) if ns > 0 else datetime.min.replace(tzinfo=UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def instant(text: str) -> int:
    """Return a time in RFC 3339 as ns since 1970, to microseconds; raises ValueError, without a zone too."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time without a zone: {text[:40]!r} (2025-01-31T12:00:00Z)")
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def events(
    block: Block, first: int, journal: str, device: str, pipeline: str, skip: int = 0
) -> Iterator[Event]:
    """Yield the events of a block whose first has sequence number `first`, but for the first `skip`.

    Whoever takes a few of thousands pays for few: a block is taken apart in portions.
    """
    times = numbers(block.t, "q")
    spans = numbers(block.spans, "q")
    keys = numbers(block.key, "I")
    for i, data in _rows(block, skip):
        t = times[i]
        yield Event(
            id=event_id(journal, first + i), source=source(device, pipeline), type=block.type,
            time=wall_time(t + block.clock.offset_ns), subject=block.keys[keys[i]] if block.keys else None,
            data=data | block.fixed, severity=block.severity,
            output=block.output, sequence=first + i, journal=journal, pipeline=pipeline,
            pipeline_digest=block.pipeline_digest, models=block.models, clock=block.clock, t=t,
            spans=dict(_spans(block.inputs, spans, i)), decided_ns=block.decided_ns,
        )  # fmt: skip


def _rows(block: Block, skip: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the measured values of each event behind the first `skip`."""
    for start in range(skip, block.count, _PORTION):
        stop = min(block.count, start + _PORTION)
        columns = [(column.name, _cells(column, start, stop)) for column in block.data]
        for i in range(start, stop):
            yield i, {name: cells[i - start] for name, cells in columns}


def _spans(inputs: tuple[str, ...], spans: array[Any], event: int) -> Iterator[tuple[str, tuple[int, int]]]:
    for place, name in enumerate(inputs if spans else ()):
        first, last = spans[2 * (event * len(inputs) + place) :][:2]
        if last >= 0:
            yield name, (first, last)


def _cells(column: Column, start: int, stop: int) -> list[Any]:
    """Split a column into one JSON value per event; JSON has no word for NaN and infinities: null."""
    width = math.prod(column.shape)
    size = width * array(CODES[column.dtype]).itemsize
    values = [_finite(v) for v in numbers(column.data[start * size : stop * size], CODES[column.dtype])]
    if column.words:
        values = [column.words.get(v, v) for v in values]
    if column.dtype == "bool":
        values = [bool(v) for v in values]
    return [_nested(values, i * width, column.shape) for i in range(stop - start)]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _nested(values: list[Any], start: int, shape: tuple[int, ...]) -> Any:
    if not shape:
        return values[start]
    step = math.prod(shape[1:])
    return [_nested(values, start + i * step, shape[1:]) for i in range(shape[0])]
