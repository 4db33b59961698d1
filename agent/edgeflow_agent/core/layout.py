"""Where things lie in a ring's memory. Known without numpy, because `agentd` makes rings and has none.

header page: head, last time, key count; key table; then values, times and keys, each a whole number of
pages. Every column has its own capacity (at least `capacity`), so that pages and rows both come out even.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence

import msgspec

from edgeflow_agent.core.shm import PAGE

ITEM_SIZES = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "float32": 4,
    "int64": 8, "float64": 8,
}  # fmt: skip
HEADER = struct.Struct("<qqq")  # head, newest time, number of keys
KEY_BYTES = 64  # one slot of the key table: a length byte and at most 63 bytes of UTF-8
MAX_RING_BYTES = 1 << 30


class RingSpec(msgspec.Struct, frozen=True):
    """A ring: rows of `shape` and `dtype`; at least `capacity` of them stay readable.

    `generation` is the persisted count of rings made for this input; a row's sequence number is
    ``generation << 40 | row``. With `lossless` the writer waits for the reader.
    """

    pipeline: str
    input: str
    shape: tuple[int, ...]
    dtype: str
    capacity: int
    generation: int
    max_keys: int = 1
    lossless: bool = False

    @property
    def row_bytes(self) -> int:
        """Bytes of one row's values."""
        return ITEM_SIZES[self.dtype] * math.prod(self.shape)

    @property
    def margin(self) -> int:
        """Rows the writer may have written and not published; it never writes more in one go."""
        return max(1, self.capacity // 4)

    @property
    def slots(self) -> int:
        """Rows there is room for."""
        return self.capacity + self.margin

    def column_slots(self, item_bytes: int) -> int:
        """Rows of a column of `item_bytes` each that fill whole pages and are at least `slots`."""
        unit = PAGE // math.gcd(PAGE, item_bytes)
        return -(-self.slots // unit) * unit

    @property
    def header_bytes(self) -> int:
        """Bytes before the first column: one page, then the key table."""
        return PAGE + -(-self.max_keys * KEY_BYTES // PAGE) * PAGE

    @property
    def column_bytes(self) -> tuple[int, int, int]:
        """Bytes of values, times and keys, each mapped twice by whoever reads or writes."""
        sizes = (self.row_bytes, 8, 4)
        return tuple(self.column_slots(size) * size for size in sizes)  # type: ignore[return-value]

    @property
    def size(self) -> int:
        """Bytes of the whole ring."""
        return self.header_bytes + sum(self.column_bytes)


def know_keys(fd: int, spec: RingSpec, names: Sequence[str]) -> None:
    """Let a fresh ring number these keys from 0 on, as one before it did; as many as it may have."""
    kept = [name.encode() for name in names[: spec.max_keys]]
    table = b"".join((bytes([len(name)]) + name).ljust(KEY_BYTES, b"\0") for name in kept)
    os.pwrite(fd, table, PAGE)
    os.pwrite(fd, HEADER.pack(0, 0, len(kept)), 0)
