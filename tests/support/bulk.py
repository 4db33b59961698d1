"""Events by the megabyte, and what a store takes of a disk."""

from __future__ import annotations

import contextlib
from pathlib import Path

from edgeflow_proto.event import Block, Clock, Column


def bulk(count: int = 4_000) -> Block:
    """Return a block of events of about 100 bytes each."""
    data = (Column("x", "float64", (12,), bytes(96 * count)),)
    clock = Clock("boot", 0, "unsynchronised")
    return Block(
        output="o", type="t", severity="info", count=count, clock=clock, t=bytes(8 * count), data=data
    )


def taken(folder: Path) -> int:
    """Return the bytes of a disk that all files below a folder take, as `du` counts them: each once."""
    found: dict[int, int] = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # it went meanwhile
            status = path.lstat()
            found[status.st_ino] = status.st_blocks * 512
    return sum(found.values())
