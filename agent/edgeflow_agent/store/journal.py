"""The journal: a pipeline's events, append-only, in segments; one writing process, any number of readers.

A journal is a folder of segments (`edgeflow_agent.store.segment`), each named after its first event. Only the
newest is written to; when it is full the next one begins, in the transaction that no longer went in. Opening
after a crash needs no repair: the newest segment holds whatever was committed. What has to make room goes by
whole segments. `state` is a copy of the worker's state that outlives the machine's memory.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import lmdb
import msgspec

from edgeflow_agent.store import segment
from edgeflow_agent.store.segment import Found, Marks, Segment, SegmentError
from edgeflow_proto.event import Block

log = logging.getLogger("edgeflow.journal")
MIN_BYTES = 1 << 20
SEGMENT_BYTES = 8 << 20
SEGMENTS = 4  # at least, of those a journal may have room for
DAMAGED = ".damaged"
STATE = "state"
_FRESH = Marks(1)
_LEAST_EVENT = 8  # bytes: its time alone


class JournalError(RuntimeError):
    """The journal cannot be used; the message says why."""


class Durable(msgspec.Struct, frozen=True):
    """A copy of the worker's state that outlives the machine's memory."""

    digest: str  # of the pipeline that wrote it
    state: bytes


class Evicted(msgspec.Struct, frozen=True):
    """Events that had to go to make room, numbers `first` to `last`; those up to `acked` the relay has."""

    first: int
    last: int
    acked: int

    @property
    def lost(self) -> int:
        """How many of them nobody else has."""
        return self.last - max(self.first - 1, self.acked) if self.acked < self.last else 0

    @property
    def data(self) -> dict[str, object]:
        """What the `gap` event says of it."""
        first = max(self.first, self.acked + 1)
        return {"reason": "evicted", "first": first, "last": self.last, "events_lost": self.lost}


class Damage(msgspec.Struct, frozen=True):
    """A segment that cannot be read and was set aside; the numbers from `first` on may be missing."""

    segment: str
    first: int

    @property
    def data(self) -> dict[str, object]:
        """What the `gap` event says of it."""
        return {"reason": "journal_damaged", "segment": self.segment, "first": self.first}


class Stored(Protocol):
    """What a journal holds: a block of `count` numbered items, events or others."""

    @property
    def count(self) -> int:
        """How many there are, at least one."""

    def encode(self) -> bytes:
        """Return the block as it is stored."""


class Journal:
    """The writing end. Hold one per journal, in one process."""

    def __init__(
        self,
        path: Path,
        limit: int,
        head: Callable[[], Block] | None = None,
        gap: Callable[[Evicted], Block] | None = None,
    ) -> None:
        """Open or make the journal; raises JournalError when the disk refuses.

        `limit` is what all of it may take on disk, in bytes; it may be changed at any time (see `trim`).
        `damaged` are the segments that were set aside because they cannot be read. `head` gives the block
        that each further segment begins with: what its events need to be understood goes when they go. `gap`
        gives the one that says which events go that nobody else has; it is committed before they do.
        """
        self._path = path
        self._head, self._gap = head, gap
        self.limit = limit
        self.hold = False  # what the relay does not have does not go to make room: commits are refused then
        self._evicted: Evicted | None = None  # not told yet
        self._beside: int | None = None  # bytes of all but the newest segment, while they are known
        self.damaged: list[Damage] = []
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._active = self._open()
            self.id = self._active.id
            self.next, self.serial, self._gone = self._active.marks
            self._finish()
            self.durable = durable_of(path)
        except (lmdb.Error, OSError, SegmentError) as error:
            raise JournalError(f"{path}: {error}") from error

    def _finish(self) -> None:
        """Remove what was told to be gone, when the power went before it was."""
        for each in _ended(self._path, self._gone):
            segment.remove(each)

    def _open(self) -> Segment:
        """Return the newest segment that can be written to, a new one behind any that cannot be read."""
        for path in reversed(segment.names(self._path)):
            try:
                newest = Segment(path, write=True)
            except segment.UnfinishedError:
                segment.remove(path)
                continue
            except SegmentError as error:
                self._set_aside(path, error)
                continue
            return self._behind_damage(newest)
        return self._begin(secrets.token_hex(8))

    def _set_aside(self, path: Path, error: SegmentError) -> None:
        log.error("%s is set aside: %s", path, error)
        self.damaged.append(Damage(path.name, segment.number(path)))
        path.rename(path.with_name(path.name + DAMAGED))

    def _behind_damage(self, newest: Segment) -> Segment:
        """Go on behind all numbers that a damaged newer segment can have given away."""
        if not self.damaged:
            return newest
        journal, marks = newest.id, newest.marks
        newest.close()
        return self._begin(journal, marks)

    def _begin(self, journal: str, marks: Marks = _FRESH) -> Segment:
        furthest = max((damage.first for damage in self.damaged), default=None)
        first = 1 if furthest is None else furthest + segment.MAP_BYTES // _LEAST_EVENT
        path = segment.named(self._path, first)
        segment.create(path, journal, [], marks._replace(next=first))
        return Segment(path, write=True)

    def commit(
        self,
        blocks: Sequence[Stored],
        serial: int = 0,
        durable: Durable | None = None,
        acked: Callable[[], int] = lambda: 0,
    ) -> Evicted | None:
        """Append blocks, and the serial of the snapshot to resume from, in one synced transaction.

        Room is made before anything is written, so that the limit holds at all times. Returns what had to be
        evicted since the last call that returned. Raises JournalError when the disk is full or failing, or
        the blocks are more than the limit allows; nothing was written then, and the call may be repeated.
        """
        encoded = [(block.count, block.encode()) for block in blocks]
        copy = msgspec.msgpack.encode(durable) if durable is not None else b""
        try:
            self._stand()
            self._make_room(segment.room([data for _, data in encoded]) + 2 * len(copy), acked)
            self._append(encoded, serial)
        except (lmdb.Error, OSError, SegmentError) as error:
            raise JournalError(str(error)) from error
        self.serial = serial
        if copy:
            self._copy(copy)
        return self._told()

    def _stand(self) -> None:
        """Open the newest segment again, when a write to it failed; raises SegmentError while that does too.

        Where the disk has kept what it said it refused, RuntimeError: who resumes goes by what is there.
        """
        if not self._active.closed:
            return
        newest = Segment(self._active.path, write=True)
        known, found = (self.id, self.next, self.serial), (newest.id, newest.marks.next, newest.marks.serial)
        if found != known:
            newest.close()
            raise RuntimeError(f"{newest.path} is not as it was left: {found} instead of {known}")
        self._active = newest

    def _append(self, blocks: Sequence[tuple[int, bytes]], serial: int) -> None:
        """Append to the newest segment; when it is full, begin the next one with these blocks."""
        if not blocks or self._active.size < self._segment_bytes:
            numbered, following = _numbered(blocks, self.next)
            try:
                self._active.append(numbered, Marks(following, serial, self._gone))
            except lmdb.MapFullError:
                if not blocks or self._active.first == self.next:
                    raise  # what does not go into an empty segment goes into none
            else:
                self.next = following
                return
        self._grow(blocks, serial)

    @property
    def _segment_bytes(self) -> int:
        return min(SEGMENT_BYTES, max(MIN_BYTES, self.limit) // SEGMENTS)

    def _grow(self, blocks: Sequence[tuple[int, bytes]], serial: int) -> None:
        head = [self._head()] if self._head is not None else []
        encoded, following = _numbered(
            [*((block.count, block.encode()) for block in head), *blocks], self.next
        )
        path = segment.named(self._path, self.next)
        segment.remove(path)  # what an attempt left that the disk refused
        segment.create(path, self.id, encoded, Marks(following, serial, self._gone))
        self._active.close()
        try:
            self._active = Segment(path, write=True)
        except SegmentError as error:  # it is written all the same: who resumes finds it
            raise RuntimeError(f"{path}: {error}") from error
        self._beside = None
        self.next = following

    def _copy(self, durable: bytes) -> None:
        """Replace the copy of the state; a full disk keeps the one before."""
        self._beside = None
        try:
            _write(self._path / STATE, durable)
        except OSError as error:
            log.warning("%s: the copy of the state stays as it was: %s", self._path.name, error)

    def trim(self, limit: int, acked: Callable[[], int] = lambda: 0, *, hold: bool = False) -> Evicted | None:
        """Take another limit, and remove what is beyond it at once; returns what went.

        With `hold` nothing goes that the relay does not have: what does not go in is refused instead.
        """
        self.limit, self.hold = limit, hold
        try:
            self._stand()
            self._make_room(0, acked)
            if self.bytes > limit and self._active.first < self.next and not hold:
                self._grow([], self.serial)
                self._make_room(0, acked)
        except (lmdb.Error, OSError, SegmentError) as error:
            log.warning("%s: cannot be trimmed: %s", self._path.name, error)
        return self._told()

    def _make_room(self, need: int, acked: Callable[[], int]) -> None:
        """Let the oldest go until `need` bytes go in; raises SegmentError when they do not."""
        over = self.bytes + need - self.limit
        if over <= 0:
            return
        known = acked()
        going, over = _going(self._path, over + segment.room([b""]), known if self.hold else None)
        self._tell(going, known)
        for each in going:
            segment.remove(each)
        if going:
            segment.sync(self._path)  # what is told to be gone must not be there again after a power cut
        self._beside = None
        if over > 0 and need:
            raise SegmentError(f"the journal may take {self.limit} bytes: {need} more do not go in")

    def _tell(self, going: list[Path], acked: int) -> None:
        """Commit which events are about to go."""
        gone = _range(self._path, going)
        if gone is None:
            return
        evicted = Evicted(*gone, acked)
        self._gone = evicted.last
        self._evicted = Evicted(self._evicted.first if self._evicted else evicted.first, evicted.last, acked)
        if self._gap is not None and evicted.lost:
            block = self._gap(evicted)
            self._active.append(
                [(self.next, block.encode())], Marks(self.next + block.count, self.serial, self._gone)
            )
            self.next += block.count

    def _told(self) -> Evicted | None:
        evicted, self._evicted = self._evicted, None
        return evicted

    def readers(self) -> set[tuple[int, int]]:
        """Return who has a read transaction open on the newest segment (see `Segment.readers`)."""
        return self._active.readers()

    @property
    def bytes(self) -> int:
        """Bytes the journal takes on disk, with all that belongs to it."""
        active = segment.taken(self._active.path)
        if self._beside is None:
            self._beside = segment.taken_below(self._path) - active
        return self._beside + active

    def close(self) -> None:
        """Close the newest segment."""
        self._active.close()


def evict(path: Path, limit: int, acked: int, *, hold: bool = False) -> Evicted | None:
    """Keep a journal nobody writes to within a limit; returns what had to go. Its newest segment stays."""
    if not path.exists():
        return None
    gone = None
    try:
        going, _ = _going(path, segment.taken_below(path) - limit, acked if hold else None)
        gone = _range(path, going)
        for each in going:
            segment.remove(each)
        if going:
            segment.sync(path)
    except OSError as error:
        log.warning("%s: cannot be trimmed: %s", path.name, error)
    return Evicted(*gone, acked) if gone is not None else None


def _going(path: Path, over: int, upto: int | None) -> tuple[list[Path], int]:
    """Return what is to go while bytes are `over`, and how many are then.

    What was set aside goes first, then the oldest segments; the newest stays, and with `upto` those that have
    events above it. Raises OSError.
    """
    may = segment.names(path)[:-1] if upto is None else _ended(path, upto)
    going = []
    for each in [*sorted(path.glob("*" + DAMAGED)), *may]:
        if over <= 0:
            break
        over -= segment.taken(each)
        going.append(each)
    return going, over


def _ended(path: Path, upto: int) -> list[Path]:
    """Return the segments all of whose events are up to that one; never the newest."""
    segments = segment.names(path)
    return [each for each, later in pairwise(segments) if segment.number(later) - 1 <= upto]


def _range(path: Path, going: list[Path]) -> tuple[int, int] | None:
    """Return the first and the last event of segments that are to go, ``None`` where there are none."""
    segments = segment.names(path)
    gone = [each for each in segments if each in going]
    return (segment.number(gone[0]), segment.number(segments[len(gone)]) - 1) if gone else None


class JournalReader:
    """A reading end, for another process than the writer's. Each call is a short transaction.

    Segments are opened as they are read, and let go of when retention has removed them.
    """

    def __init__(self, path: Path) -> None:
        """Open; raises JournalError when there is no journal yet, or none of it can be read."""
        self._path = path
        self._open: dict[tuple[Path, int], Segment] = {}  # by file and inode: a journal may be made anew
        self._bad: set[Path] = set()  # reported
        found = self._segments()
        if not found:
            raise JournalError(f"{path}: no journal")
        self.id = found[-1].id

    def _segments(self) -> list[Segment]:
        """Return what segments there are, oldest first; one that cannot be read is left out."""
        try:
            files = segment.files(self._path)
        except OSError as error:
            raise JournalError(f"{self._path}: {error}") from error
        for gone in self._open.keys() - set(files):
            self._open.pop(gone).close()
        return [found for path, inode in files if (found := self._segment(path, inode)) is not None]

    def _segment(self, path: Path, inode: int) -> Segment | None:
        known = self._open.get((path, inode))
        if known is not None:
            return known
        try:
            self._open[path, inode] = Segment(path)
        except segment.UnfinishedError:
            return None
        except SegmentError as error:
            if path not in self._bad:
                log.error("%s cannot be read: %s", self._path.name, error)
            self._bad.add(path)
            return None
        return self._open[path, inode]

    @property
    def stale(self) -> bool:
        """Whether the journal was removed or made anew."""
        found = self._segments()
        return not found or found[-1].id != self.id

    @property
    def first(self) -> int:
        """Sequence number of the oldest event, 0 when there is none."""
        return next((first for each in self._segments() for first, _, _ in each.read(0, 1)), 0)

    @property
    def last(self) -> int:
        """Sequence number of the newest event, 0 when there is none."""
        found = self._segments()
        return found[-1].next - 1 if found and self.first else 0

    def read(self, after: int, limit_bytes: int = 1 << 20) -> list[Found]:
        """Return blocks ``(first, count, CBOR)`` with events numbered above `after`, at least one if any.

        The first block may begin at or before `after`.
        """
        out: list[Found] = []
        for found in _holding(self._segments(), after):
            if limit_bytes <= 0:
                break
            blocks = found.read(after, limit_bytes)
            limit_bytes -= sum(len(data) for _, _, data in blocks)
            out += blocks
        return out

    def close(self) -> None:
        """Close all segments."""
        while self._open:
            self._open.popitem()[1].close()


def _holding(segments: list[Segment], after: int) -> list[Segment]:
    """Return the segments that may have events above `after`."""
    ends = [later.first for later in segments[1:]]
    return segments[sum(end <= after + 1 for end in ends) :]


def _numbered(blocks: Sequence[tuple[int, bytes]], first: int) -> tuple[list[tuple[int, bytes]], int]:
    """Return blocks ``(count, data)`` with their first numbers instead, and the number behind them all."""
    out: list[tuple[int, bytes]] = []
    for count, data in blocks:
        out.append((first, data))
        first += count
    return out, first


def durable_of(path: Path) -> Durable | None:
    """Return the copy of its worker's state that is beside a journal, if there is one that can be read."""
    try:
        return msgspec.msgpack.decode((path / STATE).read_bytes(), type=Durable)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("%s: %s", path, error)
        return None


def _write(path: Path, data: bytes) -> None:
    """Replace a file, whole or not at all. Source: rename(2), fsync(2)."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    segment.sync(path.parent)
