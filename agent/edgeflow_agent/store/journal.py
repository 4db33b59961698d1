"""The journal: a pipeline's events, append-only, in segments; one writing process, any number of readers.

A journal is a folder of segments (`edgeflow_agent.store.segment`), each named after its first event. Only the
newest is written to; when it is full the next one begins, in the transaction that no longer went in. Opening
after a crash needs no repair: the newest segment holds whatever was committed. What has to make room goes by
whole segments. `state` is a copy of the worker's state that outlives the machine's memory.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import lmdb
import msgspec

from edgeflow_agent.store import segment
from edgeflow_agent.store.retention import DAMAGED, Evicted, ended, numbers, remove, surplus
from edgeflow_agent.store.segment import DamagedError, Marks, Segment, SegmentError
from edgeflow_proto.event import Block

log = logging.getLogger("edgeflow.journal")
MIN_BYTES = 1 << 20
SEGMENT_BYTES = 8 << 20
SEGMENTS = 4  # at least, of those a journal may have room for
STATE = "state"
_FRESH = Marks(1)
_LEAST_EVENT = 8  # bytes: its time alone
Acked = Callable[[], int | None]  # the newest event the relay has, where that is known


class JournalError(RuntimeError):
    """The journal cannot be used; the message says why."""


class LimitError(JournalError):
    """More is to be written than the limit allows, whatever made room."""


class Durable(msgspec.Struct, frozen=True):
    """A copy of the worker's state that outlives the machine's memory."""

    digest: str  # of the pipeline that wrote it
    state: bytes


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
            self.next, self.serial, self._gone, self._acked = self._active.marks
            self._finish()
            self.durable = durable_of(path)
        except (lmdb.Error, OSError, SegmentError) as error:
            raise JournalError(f"{path}: {error}") from error

    def _finish(self) -> None:
        """Remove what was told to be gone, when the power went before it was."""
        for each in ended(self._segments(), self._gone):
            segment.remove(each)

    def _segments(self) -> list[Path]:
        """Return the segments up to the one that is written to; what is behind it was never begun."""
        return [each for each in segment.names(self._path) if segment.number(each) <= self._active.first]

    def _open(self) -> Segment:
        """Return the newest segment that can be written to, a new one behind any that cannot be read."""
        for path in reversed(segment.names(self._path)):
            try:
                newest = Segment(path, write=True)
            except segment.UnfinishedError:
                segment.remove(path)
                continue
            except DamagedError as error:
                self._set_aside(path, error)
                continue
            return self._behind_damage(newest)
        self.damaged = self._aside(0)
        return self._begin(secrets.token_hex(8))

    def _set_aside(self, path: Path, error: SegmentError) -> None:
        log.error("%s is set aside: %s", path, error)
        path.rename(path.with_name(path.name + DAMAGED))

    def _aside(self, behind: int) -> list[Damage]:
        """Return what was set aside and begins behind a number, whenever that was."""
        names = sorted(path.name.removesuffix(DAMAGED) for path in self._path.glob("*" + DAMAGED))
        found = [Damage(name, segment.number(Path(name))) for name in names if segment.NAME.fullmatch(name)]
        return [damage for damage in found if damage.first > behind]

    def _behind_damage(self, newest: Segment) -> Segment:
        """Go on behind all numbers that a damaged newer segment can have given away."""
        self.damaged = self._aside(newest.first)
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
        acked: Acked = lambda: None,
    ) -> Evicted | None:
        """Append blocks, and the serial of the snapshot to resume from, in one synced transaction.

        Room is made before anything is written, so that the limit holds at all times. Returns what had to be
        evicted since the last call that returned. `acked` says which events the relay has; where nobody
        knows, it is what was known before. Raises JournalError when the disk is full or failing, LimitError
        where the blocks are more than the limit allows; nothing was written then, and the call may be
        repeated. The copy of the state never costs events that nobody else has: where it does not go in
        beside them, the one before stays.
        """
        encoded = [(block.count, block.encode()) for block in blocks]
        copy = msgspec.msgpack.encode(durable) if durable is not None else b""
        self._hear(acked)
        try:
            self._stand()
            self._make_room(segment.room([data for _, data in encoded]))
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
        path = self._active.path
        try:
            newest = Segment(path, write=True)
        except DamagedError as error:
            self._set_aside(path, error)
            self._replace()
            return
        except SegmentError:
            if not path.with_name(path.name + DAMAGED).exists():
                raise
            self._replace()  # the disk refused that before
            return
        known, found = (self.id, self.next, self.serial), (newest.id, newest.marks.next, newest.marks.serial)
        if found != known:
            newest.close()
            raise RuntimeError(f"{newest.path} is not as it was left: {found} instead of {known}")
        self._active = newest

    def _replace(self) -> None:
        """Go on in a new segment: the newest has been damaged since it was opened, and is set aside."""
        self._beside = None
        lost = Damage(self._active.path.name, self._active.first)
        self._grow([], self.serial)
        self.damaged.append(lost)

    def _append(self, blocks: Sequence[tuple[int, bytes]], serial: int) -> None:
        """Append to the newest segment; when it is full, begin the next one with these blocks."""
        if not blocks or self._active.size < self._segment_bytes:
            numbered, following = _numbered(blocks, self.next)
            try:
                self._active.append(numbered, self._marks(following, serial))
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
        try:
            segment.create(path, self.id, encoded, self._marks(following, serial))
        except (lmdb.Error, OSError):
            with contextlib.suppress(OSError):
                segment.remove(path)
            raise
        self._active.close()
        try:
            self._active = Segment(path, write=True)
        except SegmentError as error:  # it is written all the same: who resumes finds it
            raise RuntimeError(f"{path}: {error}") from error
        self._beside = None
        self.next = following

    def _copy(self, durable: bytes) -> None:
        """Replace the copy of the state; the one before stays where the disk is full, or the journal is."""
        self._beside = None
        try:
            if not self._admits(len(durable)):
                raise OSError(f"{len(durable)} bytes do not go in beside the events")
            _write(self._path / STATE, durable)
        except OSError as error:
            log.warning("%s: the copy of the state stays as it was: %s", self._path.name, error)

    def _admits(self, size: int) -> bool:
        """Say whether a copy goes in beside the one before; only what the relay has goes for that."""
        over = self.bytes + -(-size // segment.PAGE) * segment.PAGE - self.limit
        segments = self._segments()
        going, over = surplus(self._path, segments, over, self._acked)
        if over > 0:
            return False
        self._remove(segments, going)
        return True

    def _marks(self, following: int, serial: int) -> Marks:
        return Marks(following, serial, self._gone, self._acked)

    def trim(self, limit: int, acked: Acked = lambda: None, *, hold: bool = False) -> Evicted | None:
        """Take another limit, and remove what is beyond it at once; returns what went.

        With `hold` nothing goes that the relay does not have: what does not go in is refused instead.
        """
        self.limit, self.hold = limit, hold
        self._hear(acked)
        try:
            self._stand()
            self._make_room(0)
        except (lmdb.Error, OSError, SegmentError) as error:
            log.warning("%s: cannot be trimmed: %s", self._path.name, error)
        return self._told()

    def _hear(self, acked: Acked) -> None:
        """Take what is known of the relay by now; the next commit writes it down."""
        known = acked()
        self._acked = self._acked if known is None else known

    def _make_room(self, need: int) -> None:
        """Let the oldest go until `need` bytes go in; raises LimitError, or SegmentError on hold.

        The newest segment goes as well, when that is what it takes and a new one can begin.
        """
        if self.bytes + need <= self.limit:
            return
        words = f"it may take {self.limit} bytes: {need} more do not go in"
        if need and need + segment.room([b""]) > self.limit and not self.hold:
            raise LimitError(words)
        over = self._let_go(need)
        if over > 0 and self._active.first < self.next and not self.hold:
            self._grow([], self.serial)
            over = self._let_go(need)
        if over > 0 and need:
            raise SegmentError(words) if self.hold else LimitError(words)

    def _let_go(self, need: int) -> int:
        """Let the oldest segments go, as many as it takes; return how many bytes are too many yet."""
        over = self.bytes + need - self.limit + segment.room([b""])
        segments = self._segments()
        going, over = surplus(self._path, segments, over, self._acked if self.hold else None)
        self._remove(segments, going)
        return over

    def _remove(self, segments: Sequence[Path], going: Sequence[Path]) -> None:
        self._tell(numbers(segments, going, self._acked))
        remove(self._path, going)
        self._beside = None

    def _tell(self, evicted: Evicted | None) -> None:
        """Commit which events are about to go."""
        if evicted is None:
            return
        block = self._gap(evicted) if self._gap is not None and evicted.lost else None
        if block is not None:
            following = self.next + block.count
            marks = self._marks(following, self.serial)._replace(gone=evicted.last)
            self._active.append([(self.next, block.encode())], marks)
            self.next = following
        self._gone = evicted.last
        self._evicted = evicted.behind(self._evicted)

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
    except (OSError, ValueError) as error:
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
