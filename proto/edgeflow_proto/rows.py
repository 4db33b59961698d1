"""Rows of one input as they are recorded: what a pipeline was given, so that it can be given it again.

A block holds rows that followed each other, in columns: CBOR (RFC 8949) with little-endian byte strings. A
recording is a sequence of them in the order in which they were written. Sent, they are a CBOR sequence
(RFC 8742) of byte strings, each of which holds one block.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import IO, Literal

import cbor2
import msgspec

from edgeflow_proto.cbor import check_written_out
from edgeflow_proto.event import MAX_AXES, ROW_BITS, Clock
from edgeflow_proto.pipeline.flow import ITEM_BYTES

CONTENT_TYPE = "application/cbor-seq"
ROWS_VERSION = 1
MAX_BLOCK_ROWS = 1 << 16
SKIPPED = "skipped"
_MOST = 64 << 20  # bytes of a block that was sent
_BYTE_STRING, _SHORT, _LONGEST = 2, 24, 27  # major type; what says that the size takes 1, and 8, more bytes
_STATE = cbor2.dumps("state")


class Rows(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Rows of one input.

    `first` is the number of the first (``ring generation << 40 | row``), the others follow without a hole;
    `t` is int64 ``(count,)``, CLOCK_BOOTTIME ns of each, or ns since 1970 where the samples carry their times
    (``payload``); `clock` is as known when they were written, at `written_ns` (CLOCK_BOOTTIME).
    `values` are ``(count, *shape)`` of `dtype`, `columns` name their last axis. `keys` holds each distinct
    key once, `numbers` are those that its ring and the steps know them by, and `key` uint32 ``(count,)``
    points into both (all empty where the input has none). `gaps` says why rows are missing before the row at
    that place; `SKIPPED` that this row itself was not run, because the pipeline died on it.

    `digest` is that of the pipeline that ran them. `next` are the numbers of the rows that come next, of each
    input, once this block and those written with it are; `state` is what the steps remembered there, if that
    was written down.
    """

    version: int = ROWS_VERSION
    input: str
    first: int
    count: int
    clock: Clock
    t: bytes
    shape: tuple[int, ...]
    dtype: str
    values: bytes
    domain: Literal["arrival", "payload"] = "arrival"
    columns: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    key: bytes = b""
    gaps: dict[int, str] = {}
    digest: str = ""
    next: dict[str, int] = {}
    written_ns: int = 0
    state: bytes = b""

    def encode(self) -> bytes:
        """Return the block as CBOR."""
        return cbor2.dumps(msgspec.to_builtins(self, builtin_types=(bytes,)))

    def sent(self) -> bytes:
        """Return the block as an item of a CBOR sequence."""
        return cbor2.dumps(self.encode())

    @property
    def generation(self) -> int:
        """The generation of the ring they came from."""
        return self.first >> ROW_BITS

    @property
    def end(self) -> int:
        """The number of the row behind the last."""
        return self.first + self.count


def stateful(data: bytes) -> bool:
    """Say whether a block may say what the steps remembered, without taking it apart; `False` is certain."""
    return _STATE in data


def decode_rows(data: bytes) -> Rows:
    """Read a block; raises ValueError when it is damaged, made to harm, or of another version."""
    try:
        content = cbor2.loads(data)
        check_written_out(content, data)
        rows = msgspec.convert(content, Rows)
    except Exception as error:  # the decoder runs into whatever a damaged tag makes of it
        raise ValueError(f"not a block of rows: {error}") from None
    if rows.version != ROWS_VERSION:
        raise ValueError(f"version {rows.version} of a block of rows is not known")
    if not (0 < rows.count <= MAX_BLOCK_ROWS and _numbered(rows)):
        raise ValueError(f"no rows can be numbered {rows.first} with {rows.count - 1} behind it")
    if not _fits(rows):
        raise ValueError(f"the columns of a block of {rows.count} rows do not have its length")
    return rows


def _numbered(rows: Rows) -> bool:
    """Whether all rows are of one ring."""
    return 0 <= rows.first < rows.end < 1 << 63 and rows.generation == (rows.end - 1) >> ROW_BITS


def _fits(rows: Rows) -> bool:
    n, shape = rows.count, rows.shape
    if rows.dtype not in ITEM_BYTES or not 0 < len(shape) <= MAX_AXES or min(shape) < 1:
        return False
    fits = len(rows.t) == 8 * n and len(rows.key) == (4 * n if rows.keys else 0)
    fits = fits and len(rows.values) == n * math.prod(shape) * ITEM_BYTES[rows.dtype]
    fits = fits and len(rows.columns) in (0, shape[-1]) and all(0 <= place < n for place in rows.gaps)
    fits = fits and len(rows.numbers) == len(rows.keys) and min(rows.numbers, default=0) >= 0
    return fits and (not rows.keys or max(struct.unpack(f"<{n}I", rows.key)) < len(rows.keys))


def sequence(file: IO[bytes]) -> Iterator[Rows]:
    """Read blocks that were sent; raises ValueError where the sequence is none, or ends within a block.

    Source: RFC 8742; RFC 8949, section 3 (the head of a byte string).
    """
    while head := file.read(1):
        kind, small = head[0] >> 5, head[0] & 31
        if kind != _BYTE_STRING or small > _LONGEST:
            raise ValueError("not a sequence of blocks of rows")
        size = small if small < _SHORT else int.from_bytes(_exactly(file, 1 << (small - _SHORT)), "big")
        if size > _MOST:
            raise ValueError(f"a block of {size} bytes is none")
        yield decode_rows(_exactly(file, size))


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise ValueError("the sequence of blocks ends within one")
    return data


def within(rows: Rows, first: int, last: int) -> Rows | None:
    """Return the rows of a block that are numbered from `first` to `last`, ``None`` when there are none."""
    start, stop = max(0, first - rows.first), min(rows.count, last + 1 - rows.first)
    if start >= stop:
        return None
    if (start, stop) == (0, rows.count):
        return rows
    width = len(rows.values) // rows.count
    return msgspec.structs.replace(
        rows, first=rows.first + start, count=stop - start, t=rows.t[8 * start : 8 * stop],
        values=rows.values[width * start : width * stop], key=rows.key[4 * start : 4 * stop],
        gaps={place - start: why for place, why in rows.gaps.items() if start <= place < stop},
        next={}, state=b"",
    )  # fmt: skip


def of_key(blocks: Iterable[Rows], key: str | None) -> Iterator[Rows]:
    """Yield the rows of a key: a block for each stretch of them that no other key's row is in.

    Of an input without keys, and without a `key`, all rows are yielded.
    """
    for rows in blocks:
        if key is None or not rows.keys:
            yield rows
        elif key in rows.keys:
            yield from _stretches(rows, rows.keys.index(key))


def _stretches(rows: Rows, key: int) -> Iterator[Rows]:
    first = rows.first
    named = {"keys": rows.keys[key : key + 1], "numbers": rows.numbers[key : key + 1]}
    for own, stretch in groupby(struct.unpack(f"<{rows.count}I", rows.key), key.__eq__):
        count = len([*stretch])
        found = within(rows, first, first + count - 1) if own else None
        if found is not None:
            yield msgspec.structs.replace(found, key=bytes(4 * count), **named)
        first += count


class Hole(msgspec.Struct, frozen=True):
    """Rows of an input that are not recorded, before row `before`; of those that were in another ring, 0."""

    input: str
    before: int
    count: int


class Course:
    """How far a recording has come, by input, for whoever takes its blocks in their order."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def begin(self, following: Mapping[str, int]) -> None:
        """Let all before these numbers have been taken, by input."""
        self._next |= following

    def take(self, rows: Rows) -> Hole | None:
        """Take note of the next block; return the hole before it, if there is one."""
        expected = self._next.get(rows.input, rows.first)
        self._next[rows.input] = rows.end
        if expected == rows.first:
            return None
        same = expected >> ROW_BITS == rows.generation
        return Hole(rows.input, rows.first, max(0, rows.first - expected) if same else 0)
