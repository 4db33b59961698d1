"""The journal: a pipeline's events, append-only, one writing process, any number of readers.

One LMDB environment per journal. `blocks` maps the big-endian sequence number of a block's first event
to its CBOR form; `meta` holds the journal's id, the next sequence number, and what the worker resumes
from, which is written in the transaction of the events before it. Every commit is synced: a number that
left the device is on disk. Source: LMDB (symas.com/lmdb), section "Caveats".
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import lmdb
import msgspec

from edgeflow_proto.event import Block

FORMAT = 1
MIN_BYTES = 4 << 20
_FULL = 0.75  # of the map: what is left is for the copies a transaction makes
_TRIM_TO = 0.65
_SEQUENCE = 8

Data = bytes | memoryview  # as LMDB gives them
S = TypeVar("S", bound=msgspec.Struct)


class JournalError(RuntimeError):
    """The journal cannot be used; the message says why."""


class Durable(msgspec.Struct, frozen=True):
    """A copy of the worker's state that outlives the machine's memory."""

    digest: str  # of the pipeline that wrote it
    state: bytes


class Evicted(msgspec.Struct, frozen=True):
    """Events that had to go to make room; those up to `acked` the relay has."""

    first: int
    last: int
    acked: int

    @property
    def lost(self) -> int:
        """How many of them nobody else has."""
        return self.last - max(self.first - 1, self.acked) if self.acked < self.last else 0


class Journal:
    """The writing end. Hold one per journal, in one process."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Open or make the journal; raises JournalError when it is of another format or damaged."""
        path.mkdir(parents=True, exist_ok=True)
        try:
            self._env = lmdb.open(str(path), map_size=max(MIN_BYTES, max_bytes), max_dbs=2, max_readers=32)
            self._meta = self._env.open_db(b"meta")
            self._blocks = self._env.open_db(b"blocks")
            self._begin()
        except lmdb.Error as error:
            raise JournalError(f"{path}: {error}") from error

    def _begin(self) -> None:
        with self._env.begin(write=True) as txn:
            known = txn.get(b"format", db=self._meta)
            if known is None:
                txn.put(b"format", b"%d" % FORMAT, db=self._meta)
                txn.put(b"id", secrets.token_hex(8).encode(), db=self._meta)
                txn.put(b"next", _key(1), db=self._meta)
            elif int(known) != FORMAT:
                raise JournalError(f"journal format {int(known)} is not known, this is {FORMAT}")
            self.id = bytes(txn.get(b"id", db=self._meta) or b"").decode()
            self.next = _number(txn.get(b"next", db=self._meta))
            self.serial = _number(txn.get(b"serial", db=self._meta) or b"")
            self.durable = _decoded(txn.get(b"durable", db=self._meta), Durable)

    def commit(
        self,
        blocks: Sequence[Block],
        serial: int = 0,
        durable: Durable | None = None,
        acked: Callable[[], int] = lambda: 0,
    ) -> Evicted | None:
        """Append blocks, and the serial of the snapshot to resume from, in one synced transaction.

        Returns what had to be evicted for it. Raises JournalError when the disk is full or failing; nothing
        was written then, and the call may be repeated.
        """
        try:
            with self._env.begin(write=True) as txn:
                following, evicted = self._append(txn, blocks, acked)
                txn.put(b"serial", _key(serial), db=self._meta)
                if durable is not None:
                    txn.put(b"durable", msgspec.msgpack.encode(durable), db=self._meta)
        except (lmdb.Error, OSError) as error:
            raise JournalError(str(error)) from error
        self.next = following
        self.serial = serial
        return evicted

    def _append(
        self, txn: lmdb.Transaction, blocks: Sequence[Block], acked: Callable[[], int]
    ) -> tuple[int, Evicted | None]:
        sequence, size = self.next, 0
        for block in blocks:
            data = block.encode()
            txn.put(_key(sequence), data, db=self._blocks, append=True)
            sequence += block.count
            size += len(data)
        if blocks:
            txn.put(b"next", _key(sequence), db=self._meta)
        evicted = self._trim(txn, acked) if self._bytes(txn) > _FULL * self._map_size else None
        return sequence, evicted

    @property
    def _map_size(self) -> int:
        return int(self._env.info()["map_size"])

    def _bytes(self, txn: lmdb.Transaction) -> int:
        stat = txn.stat(self._blocks)
        return int(stat["psize"] * (stat["leaf_pages"] + stat["overflow_pages"] + stat["branch_pages"]))

    @property
    def bytes(self) -> int:
        """Bytes the events take in the file."""
        with self._env.begin() as txn:
            return self._bytes(txn)

    def _trim(self, txn: lmdb.Transaction, acked: Callable[[], int]) -> Evicted:
        """Delete the oldest blocks; acknowledged ones are older than the others, so they go first."""
        first = last = 0
        with txn.cursor(self._blocks) as cursor:
            while self._bytes(txn) > _TRIM_TO * self._map_size and cursor.first():
                start = _number(cursor.key())
                first = first or start
                cursor.delete()
                last = (_number(cursor.key()) if cursor.first() else start + 1) - 1
        return Evicted(first, last, acked())

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


class JournalReader:
    """A reading end, for another process than the writer's. Each call is a short transaction."""

    def __init__(self, path: Path) -> None:
        """Open; raises JournalError when there is no journal yet, or it is of another format."""
        try:
            self._env = lmdb.open(str(path), readonly=True, max_dbs=2, max_readers=32)
            self._env.reader_check()  # one killed while it read would keep every page from being used again
            self._meta = self._env.open_db(b"meta", create=False)
            self._blocks = self._env.open_db(b"blocks", create=False)
            with self._env.begin() as txn:
                self.id = bytes(txn.get(b"id", db=self._meta) or b"").decode()
        except (lmdb.Error, OSError) as error:
            raise JournalError(f"{path}: {error}") from error
        if not self.id:
            raise JournalError(f"{path}: no journal")

    @property
    def first(self) -> int:
        """Sequence number of the oldest event, 0 when there is none."""
        with self._env.begin() as txn, txn.cursor(self._blocks) as cursor:
            return _number(cursor.key()) if cursor.first() else 0

    @property
    def last(self) -> int:
        """Sequence number of the newest event, 0 when there is none."""
        with self._env.begin() as txn, txn.cursor(self._blocks) as cursor:
            return _number(txn.get(b"next", db=self._meta)) - 1 if cursor.first() else 0

    def read(self, after: int, limit_bytes: int = 1 << 20) -> list[tuple[int, int, bytes]]:
        """Return blocks ``(first, count, CBOR)`` with events numbered above `after`, at least one if any.

        The first block may begin at or before `after`.
        """
        out: list[tuple[int, int, bytes]] = []
        size = 0
        with self._env.begin() as txn, txn.cursor(self._blocks) as cursor:
            following = _number(txn.get(b"next", db=self._meta))
            for first, end, data in _blocks_after(cursor, after, following):
                if out and size + len(data) > limit_bytes:
                    break
                out.append((first, end - first, bytes(data)))
                size += len(data)
        return out

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def _blocks_after(cursor: lmdb.Cursor, after: int, following: int) -> Iterator[tuple[int, int, Data]]:
    """Yield ``(first, end, data)`` of the blocks that reach beyond `after`."""
    found = cursor.set_range(_key(after + 1))
    if not (found and _number(cursor.key()) == after + 1) and not (cursor.prev() if found else cursor.last()):
        found = cursor.first()
        if not found:
            return
    first, data = _number(cursor.key()), cursor.value()
    while True:
        more = cursor.next()
        end = _number(cursor.key()) if more else following
        if end > after + 1:
            yield first, end, data
        if not more:
            return
        first, data = end, cursor.value()


def _key(sequence: int) -> bytes:
    return sequence.to_bytes(_SEQUENCE, "big")


def _number(key: Data | None) -> int:
    return int.from_bytes(key or b"", "big")


def _decoded(data: bytes | None, kind: type[S]) -> S | None:
    return None if data is None else msgspec.msgpack.decode(data, type=kind)
