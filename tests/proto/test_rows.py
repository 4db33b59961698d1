"""Blocks of recorded rows: what is written is read, and nothing else is."""

from __future__ import annotations

import contextlib
import io
import math
import struct
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_proto.event import ROW_BITS, Clock
from edgeflow_proto.pipeline.flow import ITEM_BYTES
from edgeflow_proto.rows import MAX_BLOCK_ROWS, ROWS_VERSION, Rows, decode_rows, sequence

CLOCK = Clock("7a2e", 1_700_000_000_000_000_000, "synchronised", 250)


def rows(**changes: Any) -> Rows:
    """Three rows with all that a block can have."""
    whole = Rows(
        input="accel", first=3 << ROW_BITS | 40, count=3, clock=CLOCK,
        t=struct.pack("<3q", 10**9, 2 * 10**9, 3 * 10**9), shape=(2,), dtype="int16",
        values=struct.pack("<6h", *range(6)), columns=("x", "y"), keys=("m1", ""), numbers=(4, 0),
        key=struct.pack("<3I", 0, 1, 0), gaps={1: "disconnect"}, digest="ab" * 32,
        next={"accel": 3 << ROW_BITS | 43, "other": 7}, written_ns=4 * 10**9, state=b"remembered",
    )  # fmt: skip
    return msgspec.structs.replace(whole, **changes)


@st.composite
def blocks(draw: st.DrawFn) -> Rows:
    """Return any block there can be."""
    count, dtype = draw(st.integers(1, 5)), draw(st.sampled_from(sorted(ITEM_BYTES)))
    shape = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    size = count * math.prod(shape) * ITEM_BYTES[dtype]
    word = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
    keys = tuple(draw(st.lists(word, max_size=3, unique=True)))
    places = st.integers(0, max(0, len(keys) - 1))
    key = struct.pack(f"<{count}I", *draw(st.lists(places, min_size=count, max_size=count))) if keys else b""
    number = st.integers(0, (1 << 62) - 1)
    return rows(
        input=draw(word), first=draw(st.integers(0, (1 << 23) - 1)) << ROW_BITS | draw(st.integers(0, 1000)),
        count=count, t=draw(st.binary(min_size=8 * count, max_size=8 * count)), shape=shape, dtype=dtype,
        values=draw(st.binary(min_size=size, max_size=size)), keys=keys, key=key,
        numbers=tuple(range(len(keys))),
        columns=tuple(draw(st.lists(word, min_size=shape[-1], max_size=shape[-1]) | st.just(()))),
        gaps=draw(st.dictionaries(st.integers(0, count - 1), word, max_size=2)), digest=draw(word),
        next=draw(st.dictionaries(word, number, max_size=2)), written_ns=draw(number),
        state=draw(st.binary(max_size=10)),
    )  # fmt: skip


@given(blocks())
def test_what_is_written_is_read(block: Rows) -> None:
    assert decode_rows(block.encode()) == block


def test_a_block_knows_its_place() -> None:
    assert (rows().generation, rows().end) == (3, 3 << ROW_BITS | 43)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"version": ROWS_VERSION + 1}, "version 2 of a block of rows is not known"),
        ({"count": 0}, "no rows can be numbered"),
        ({"count": 4}, "a block of 4 rows do not have its length"),
        ({"count": MAX_BLOCK_ROWS + 1}, "no rows can be numbered"),
        ({"first": -1}, "no rows can be numbered"),
        ({"first": (1 << ROW_BITS) - 1}, "no rows can be numbered"),
        ({"first": (1 << 63) - 2}, "no rows can be numbered"),
        ({"t": b""}, "do not have its length"),
        ({"shape": ()}, "do not have its length"),
        ({"shape": (1 << 40, 0)}, "do not have its length"),
        ({"shape": (1,) * 9 + (2,)}, "do not have its length"),
        ({"dtype": "complex64"}, "do not have its length"),
        ({"values": bytes(11)}, "do not have its length"),
        ({"columns": ("x",)}, "do not have its length"),
        ({"key": b""}, "do not have its length"),
        ({"keys": ()}, "do not have its length"),
        ({"numbers": (4,)}, "do not have its length"),
        ({"numbers": (4, -1)}, "do not have its length"),
        ({"key": struct.pack("<3I", 0, 2, 0)}, "do not have its length"),
        ({"gaps": {3: "restart"}}, "do not have its length"),
        ({"t": 5}, "not a block of rows"),
        ({"domain": "never"}, "not a block of rows"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        decode_rows(rows(**changes).encode())


@given(st.binary(max_size=60))
def test_any_bytes_are_a_block_or_a_clear_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a block of rows"):
        decode_rows(data)


@given(st.data())
def test_a_damaged_block_is_a_block_or_a_clear_error(data: st.DataObject) -> None:
    damaged = bytearray(rows().encode())
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(ValueError):
        assert decode_rows(bytes(damaged)).count == 3


def test_a_block_that_refers_to_itself_again_and_again_is_refused() -> None:
    shared = b"\xd8\x1c\x81" + b"\xd8\x1d\x00"  # a list that holds itself
    bomb = b"\xa1\x65input" + shared
    with pytest.raises(ValueError, match="not a block of rows"):
        decode_rows(bomb)
    with pytest.raises(ValueError, match="not a block of rows"):
        decode_rows(cbor2.dumps([1, 2]))


def test_blocks_that_are_sent_are_read_one_after_another() -> None:
    blocks = [rows(), rows(state=bytes(70_000)), rows(digest="")]
    assert [*sequence(io.BytesIO(b"".join(block.sent() for block in blocks)))] == blocks
    assert [*sequence(io.BytesIO(b""))] == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xa0", "not a sequence"),
        (b"\x5f", "not a sequence"),
        (b"\x5b" + b"\xff" * 8, "a block of"),
        (b"\x43ab", "ends within one"),
        (b"\x59\x01", "ends within one"),
        (b"\x41a", "not a block of rows"),
    ],
)
def test_what_is_no_sequence_of_blocks_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        [*sequence(io.BytesIO(data))]
