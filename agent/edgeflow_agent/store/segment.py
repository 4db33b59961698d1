"""One segment of a journal: an LMDB environment in one file, append-only, and immutable once the next exists.

`blocks` maps the big-endian sequence number of a block's first event to the block; `meta` holds the journal's
id, the next sequence number, and the serial of the snapshot to resume from, written in the transaction of the
events before it. Every commit is synced. A file never shrinks, which is why there are segments: what is to go
goes with its file. Source: LMDB (symas.com/lmdb), section "Caveats".
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

from edgeflow_agent.store.environment import DAMAGE, LOCK, opened, used_bytes

FORMAT = 2
MAP_BYTES = 64 << 20  # of address space: what one commit may hold at most, and the file never reaches else
ENDING = ".segment"
NAME = re.compile(rf"\d{{20}}\{ENDING}")  # whatever else lies there is somebody else's
_SEQUENCE = 8
PAGE = os.sysconf("SC_PAGE_SIZE")  # LMDB takes the system's
_TREE_PAGES = 16

Found = tuple[int, int, bytes]  # a block: number of its first event, how many it has, and its bytes


class SegmentError(RuntimeError):
    """A segment cannot be used; the message says why."""


class DamagedError(SegmentError):
    """What the disk gives is not what was written, or another version wrote it: it will not be read later."""


class UnfinishedError(SegmentError):
    """A file whose first transaction was never committed: it holds nothing and never did."""


class Marks(NamedTuple):
    """What is written with blocks.

    The number that comes next, the serial of the snapshot behind them, up to which event the journal has let
    go, and up to which one the relay had them then.
    """

    next: int
    serial: int = 0
    gone: int = 0
    acked: int = 0


class Segment:
    """One file, open for reading or writing. `first` is the number of its first event, from its name."""

    def __init__(self, path: Path, *, write: bool = False, sound: bool = False) -> None:
        """Open a segment; raises SegmentError, which may be DamagedError or UnfinishedError.

        Its pages are checked before, unless they are known to be `sound`.
        """
        self.path = path
        self.first = number(path)
        self.closed = False
        try:
            path.stat()  # one to write to is not made here
            self._env = _opened(path, write=write, sound=sound)
        except (lmdb.Error, OSError, UnfinishedError) as error:
            raise _what(path, error) from error
        try:
            self._meta = self._env.open_db(b"meta", create=False)
            self._blocks = self._env.open_db(b"blocks", create=False)
            self._check_format()
        except (lmdb.Error, SegmentError, ValueError) as error:
            self._env.close()
            raise _what(path, error) from error

    def _check_format(self) -> None:
        with self._env.begin() as txn:
            known = txn.get(b"format", db=self._meta)
            self.id = bytes(txn.get(b"id", db=self._meta) or b"").decode()
        if known is None or int(known) != FORMAT:
            raise DamagedError(f"format {int(known or 0)} is not known, this is {FORMAT}")

    @property
    def size(self) -> int:
        """Bytes of the file in use."""
        return used_bytes(self._env)

    @property
    def next(self) -> int:
        """Number of the event that comes next."""
        return self.marks.next

    @property
    def marks(self) -> Marks:
        """What was written with the newest blocks."""
        with self._env.begin() as txn:
            found = (txn.get(name.encode(), db=self._meta) or b"" for name in Marks._fields)
            return Marks(*(int.from_bytes(value, "big") for value in found))

    def append(self, blocks: Sequence[tuple[int, bytes]], marks: Marks) -> None:
        """Append blocks ``(first, data)`` in one synced transaction; raises lmdb.Error.

        Behind lmdb.MapFullError nothing was written. Behind any other it is closed, for an environment that
        failed takes nothing more; what is there then is known to who opens it again.
        """
        try:
            with self._env.begin(write=True) as txn:
                _put(txn, self._meta, self._blocks, blocks, marks)
        except lmdb.MapFullError:
            raise
        except lmdb.Error:
            self.close()
            raise

    def read(self, after: int, limit: int) -> list[Found]:
        """Return blocks with events numbered above `after`, of `limit` bytes or so, at least one if any."""
        out: list[Found] = []
        with self._env.begin() as txn, txn.cursor(self._blocks) as cursor:
            following = int.from_bytes(txn.get(b"next", db=self._meta) or b"", "big")
            if not _reach(cursor, after):
                return out
            first, data = _at(cursor), cursor.value()
            for key, value in cursor.iternext() if cursor.next() else ():
                end = int.from_bytes(key, "big")
                if end > after + 1:
                    out.append((first, end - first, data))
                    limit -= len(data)
                    if limit <= 0:
                        return out
                first, data = end, value
        if following > max(first, after + 1):
            out.append((first, following - first, data))
        return out

    def readers(self) -> set[tuple[int, int]]:
        """Return the read transactions that are open, as process id and transaction; the dead have none.

        Pages they may still need are not used again, so that one left open makes the file grow.
        """
        if self.closed:
            return set()
        self._env.reader_check()
        rows = [line.split() for line in self._env.readers().splitlines()]
        return {
            (int(row[0]), int(row[2]))
            for row in rows
            if len(row) == 3 and row[0].isdecimal() and row[2].isdecimal()
        }

    def close(self) -> None:
        """Close the environment."""
        self.closed = True
        self._env.close()


def _what(path: Path, error: Exception) -> SegmentError:
    if isinstance(error, lmdb.NotFoundError | UnfinishedError):
        return UnfinishedError(f"{path.name}: {error}")
    damaged = isinstance(error, (*DAMAGE, DamagedError, ValueError))
    return (DamagedError if damaged else SegmentError)(f"{path.name}: {error}")


def create(path: Path, journal: str, blocks: Sequence[tuple[int, bytes]], marks: Marks) -> None:
    """Put a segment's name on disk, then let it begin with these blocks, all in its first transaction.

    In that order, because readers pass on what is committed: nothing may fail, or be lost, behind it. Raises
    lmdb.Error or OSError; what a crash or a full disk leaves behind is unfinished, and holds nothing.
    """
    env = _opened(path, write=True)
    try:
        sync(path.parent)
        with env.begin(write=True) as txn:
            meta, found = env.open_db(b"meta", txn), env.open_db(b"blocks", txn)
            txn.put(b"format", b"%d" % FORMAT, db=meta)
            txn.put(b"id", journal.encode(), db=meta)
            _put(txn, meta, found, blocks, marks)
    finally:
        env.close()


def files(folder: Path) -> list[tuple[Path, int]]:
    """Return the segment files of a folder with their inodes, oldest first; raises OSError."""
    with os.scandir(folder) as entries:
        found = [(entry.path, entry.inode()) for entry in entries if NAME.fullmatch(entry.name)]
    return [(Path(path), inode) for path, inode in sorted(found)]


def names(folder: Path) -> list[Path]:
    """Return the segment files of a folder, oldest first; raises OSError."""
    return [path for path, _ in files(folder)]


def named(folder: Path, first: int) -> Path:
    """Return the file of the segment whose first event has that number."""
    return folder / f"{first:020d}{ENDING}"


def number(path: Path) -> int:
    """Return the number of a segment's first event."""
    return int(path.name.removesuffix(ENDING))


def remove(path: Path) -> None:
    """Unlink a segment; who has it open may read on."""
    for each in (path, path.with_name(path.name + LOCK)):
        with contextlib.suppress(FileNotFoundError):
            each.unlink()


def sync(folder: Path) -> None:
    """Let a folder's names survive a power cut. Source: fsync(2)."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def room(blocks: Sequence[bytes]) -> int:
    """Return how many bytes a file grows by at most when these blocks are appended in one transaction.

    A block that is no small one takes whole pages; the rest are the pages of the trees, which are copied, and
    those of a new file.
    """
    pages = sum(1 + len(data) // PAGE for data in blocks)
    return (pages + len(blocks) // 32 + _TREE_PAGES) * PAGE


def taken(path: Path) -> int:
    """Return the bytes a segment takes on disk, its lock included."""
    return allocated(path) + allocated(path.with_name(path.name + LOCK))


def taken_below(folder: Path) -> int:
    """Return the bytes the files of a folder take on disk, 0 when there is none."""
    try:
        with os.scandir(folder) as entries:
            return sum(allocated(Path(entry.path)) for entry in entries)
    except OSError:
        return 0


def allocated(path: Path) -> int:
    """Return the bytes a file takes on disk, 0 when it is gone."""
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0


def _opened(path: Path, *, write: bool, sound: bool = False) -> lmdb.Environment:
    if not write and not path.stat().st_size:  # its name came to the disk, and then the power went
        raise UnfinishedError(f"{path.name}: empty")
    options = {"map_size": MAP_BYTES, "max_dbs": 2, "max_readers": 32, "readonly": not write}
    return opened(path, subdir=False, sound=sound, **options)


def _put(
    txn: lmdb.Transaction,
    meta: Any,
    found: Any,
    blocks: Sequence[tuple[int, bytes]],
    marks: Marks,
) -> None:
    for first, data in blocks:
        txn.put(_key(first), data, db=found, append=True)
    for name, value in marks._asdict().items():
        txn.put(name.encode(), _key(value), db=meta)


def _reach(cursor: lmdb.Cursor, after: int) -> bool:
    """Go to the first block that reaches beyond `after`, or the one before it; False when there is none."""
    found = cursor.set_range(_key(after + 1))
    if found and _at(cursor) == after + 1:
        return True
    return bool((cursor.prev() if found else cursor.last()) or cursor.first())


def _at(cursor: lmdb.Cursor) -> int:
    return int.from_bytes(cursor.key(), "big")


def _key(sequence: int) -> bytes:
    return sequence.to_bytes(_SEQUENCE, "big")
