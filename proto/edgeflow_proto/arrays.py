"""Numbers in little-endian byte strings, without numpy, which not every process has in memory."""

from __future__ import annotations

import sys
from array import array
from typing import Any

CODES = {
    "float32": "f", "float64": "d", "int8": "b", "uint8": "B", "bool": "B", "int16": "h", "uint16": "H",
    "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q",
}  # fmt: skip


def numbers(data: bytes, code: str) -> array[Any]:
    """Return the numbers of a byte string by their `array` type code, one of those of `CODES`."""
    found = array(code, data)
    if sys.byteorder == "big":
        found.byteswap()
    return found
