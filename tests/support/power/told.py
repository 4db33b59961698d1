"""What somebody outside was told, in the words of the log: nothing of it may ever be gone."""

from __future__ import annotations

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


class Given(msgspec.Struct, frozen=True, tag=True):
    """Told by who asks an agent and its relay.

    That is the number of the last that came of each journal and recording, and the pipeline that was taken.
    """

    last: dict[str, int]
    digest: str


Message = Committed | Read | Given
decode = msgspec.json.Decoder(Message).decode


def tell(told: Path, message: Message) -> None:
    """Write to the file of which each write goes into the disk's log."""
    with told.open("wb", buffering=0) as file:
        file.write(msgspec.json.encode(message))
