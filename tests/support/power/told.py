"""What somebody outside was told, in the words of the log: nothing of it may ever be gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec


class Committed(msgspec.Struct, frozen=True, tag=True):
    """Told by a writer after each commit."""

    journal: str  # its id
    first: int  # oldest event there is
    next: int  # number of the event that comes next
    serial: int  # of the snapshot to resume from
    copied: int  # serial that the copy of the state was made at


class Read(msgspec.Struct, frozen=True, tag=True):
    """Told by a reader that has passed on events up to number `last`."""

    last: int


Message = Committed | Read
decode = msgspec.json.Decoder(Message).decode


def teller(path: Path) -> Callable[[Message], object]:
    """Return what writes to the file whose content goes into the disk's log."""
    file = path.open("wb", buffering=0)
    return lambda message: file.write(msgspec.json.encode(message))
