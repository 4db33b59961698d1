"""The log of a disk: what was written to it, when it was flushed, and what somebody outside was told."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

WRITE, FLUSH, TOLD = b"w", b"f", b"t"
_HEAD = struct.Struct("<cQI")


@dataclass(frozen=True)
class Record:
    """One entry of the log: a write's place and bytes, a flush, or what somebody was told."""

    kind: bytes
    offset: int
    data: bytes


def record(kind: bytes, offset: int = 0, data: bytes = b"") -> bytes:
    """Return an entry as it stands in the log."""
    return _HEAD.pack(kind, offset, len(data)) + data


def read(path: Path) -> list[Record]:
    """Return what is in a log; an entry at the end that was not finished never happened."""
    content, out, at = path.read_bytes(), [], 0
    while at + _HEAD.size <= len(content):
        kind, offset, size = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        if at + size > len(content):
            break
        out.append(Record(kind, offset, content[at : at + size]))
        at += size
    return out
