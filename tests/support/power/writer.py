"""Who writes while the plug is pulled: the real journal, in its own process, telling what is committed.

Run as ``python -m tests.support.power.writer JOURNAL TOLD [UNSYNCED]``. It goes on where the journal ends,
until it is killed. UNSYNCED names a promise to break: ``sync`` (nothing is synced) or ``metasync`` (the page
that makes a commit valid is not). Everything about an event follows from its number.
"""

from __future__ import annotations

import math
import random
import struct
import sys
from functools import partial
from pathlib import Path
from typing import Protocol

import lmdb

from edgeflow_agent.store import segment
from edgeflow_agent.store.journal import Durable, Journal
from edgeflow_proto.event import Block, Clock, Column
from tests.support.power.told import Committed, tell

MAX_BYTES, LESS_BYTES = 4 << 20, 3 << 20  # of the journal: segments turn over and go all the time
STATE_BYTES = 9000
COPY_EVERY = 8  # commits
_WIDTH = 40  # bytes of an event besides its time


class Say(Protocol):
    """Where a writer says what it has committed."""

    def __call__(self, message: Committed, /) -> object: ...


def block(first: int, count: int) -> Block:
    """Return the block of the events numbered from `first` on."""
    times = struct.pack(f"<{count}q", *range(first, first + count))
    noise = random.Random(first).randbytes(count * _WIDTH)
    return Block(
        output="out", type="test.event", severity="info", count=count, t=times,
        clock=Clock("boot", 0, "unsynchronised"), data=(Column("noise", "uint8", (_WIDTH,), noise),),
    )  # fmt: skip


def blocks(first: int) -> list[Block]:
    """Return what is committed together when the next number is `first`: one event or thousands."""
    rng, out = random.Random(-first), []
    for _ in range(rng.choice((1, 1, 2, 3))):
        out.append(block(first, int(2 ** rng.uniform(0, rng.choice((2, 2, 11))))))
        first += out[-1].count
    return out


def durable(serial: int) -> Durable:
    """Return the copy of the state made at a serial."""
    return Durable(f"pipeline-{serial}", random.Random(serial).randbytes(STATE_BYTES))


def copied_at(copy: Durable | None) -> int:
    """Return the serial of a copy of the state; raises ValueError when it is not what was written then."""
    serial = 0 if copy is None else int(copy.digest.removeprefix("pipeline-"))
    if copy is not None and copy != durable(serial):
        raise ValueError(f"the copy of the state is not the one made at {serial}")
    return serial


def write(path: Path, journal: Journal, say: Say, commits: float = math.inf) -> None:
    """Tell what is in the journal at `path`, then commit, and tell after each commit."""
    first, copied = segment.number(segment.names(path)[0]), copied_at(journal.durable)
    say(Committed(journal.id, first, journal.next, journal.serial, copied))
    end = journal.serial + commits
    while journal.serial < end:
        serial = journal.serial + 1
        copy = durable(serial) if serial % COPY_EVERY == 0 else None
        limit = MAX_BYTES if serial % 32 < 16 else LESS_BYTES  # as when others fill the disk, and stop
        trimmed = journal.trim(limit) if limit != journal.limit else None
        evicted = journal.commit(blocks(journal.next), serial, copy) or trimmed
        first = first if evicted is None else evicted.last + 1
        copied = copied if copy is None else serial
        say(Committed(journal.id, first, journal.next, serial, copied))


def main() -> None:
    path, told, *unsynced = sys.argv[1:]
    for promise in unsynced:
        segment.lmdb.open = partial(lmdb.open, **{promise: False})
    write(Path(path), Journal(Path(path), MAX_BYTES), partial(tell, Path(told)))


if __name__ == "__main__":
    main()
