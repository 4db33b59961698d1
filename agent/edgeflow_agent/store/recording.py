"""A recording: the rows that a pipeline was given, in segments as a journal's, one writing process.

Its blocks hold rows of one input each (`edgeflow_proto.rows`), in the order in which they were written, and
say how far every input had come then. So any row is found by halving what there is, and who goes on after a
crash knows which rows are there. What has to make room goes by whole segments, the oldest first.

What may take long is looked through in portions: who serves others besides does so between them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import cbor2
import lmdb
import msgspec

from edgeflow_agent.store import segment
from edgeflow_agent.store.journal import Damage, Journal, JournalError
from edgeflow_agent.store.journal_reader import File, JournalReader
from edgeflow_agent.store.retention import Evicted
from edgeflow_agent.store.segment import Found
from edgeflow_proto.event import Clock
from edgeflow_proto.rows import Rows, decode_rows, stateful, within
from edgeflow_proto.timeline import Timeline

log = logging.getLogger("edgeflow.recording")
_READ_BYTES = 1 << 20
LOOK_BACK = 16 << 20
_INPUT = cbor2.dumps("input")


class Portion(NamedTuple):
    """So much was looked through, in one go."""

    bytes: int


T = TypeVar("T")
Looking = Generator[Portion, None, T]  # for something, which is what it returns
Part = Rows | Portion
Wanted = Callable[[bytes], bool]  # says of a block, by its bytes, whether it may be worth taking apart
_Found = tuple[int, Rows] | Portion  # a block with the number of its first item
_Ends = tuple[tuple[Clock, int] | None, ...]  # when blocks were written; ``None`` of one that cannot be read


class _Stretch(NamedTuple):
    """The numbers of what is in a segment, and between which moments it was written (wall time).

    Without a `file` it is the newest segment and what comes behind it.
    """

    first: int
    last: float
    begun: float
    ended: float
    file: File | None

    def may_hold(self, start_ns: float, end_ns: float) -> bool:
        """Whether something in it may have been written between two moments."""
        return self.begun <= end_ns and self.ended >= start_ns


def blocks(parts: Iterable[Part]) -> Iterator[Rows]:
    """Return the blocks alone, for who serves nobody else meanwhile."""
    return (part for part in parts if isinstance(part, Rows))


class Recording:
    """The writing end. `next` are the numbers of the rows that came next of each input when it was opened."""

    def __init__(self, path: Path, limit: int) -> None:
        """Open or make it, to take at most `limit` bytes on disk; raises JournalError."""
        self.next = _next(path)
        self._journal = Journal(path, limit)

    @property
    def damaged(self) -> list[Damage]:
        """The segments that were set aside because they cannot be read."""
        return self._journal.damaged

    @property
    def bytes(self) -> int:
        """Bytes it takes on disk."""
        return self._journal.bytes

    def write(self, blocks: Sequence[Rows]) -> int:
        """Append blocks in one synced transaction; return how many rows had to go to make room.

        Raises JournalError when the disk is full or failing, or they are more than the limit allows; nothing
        was written then, and the call may be repeated.
        """
        return _gone(self._journal.commit(blocks))

    def trim(self, limit: int) -> int:
        """Keep within another limit from now on; return how many rows had to go."""
        return _gone(self._journal.trim(limit))

    def close(self) -> None:
        """Close it."""
        self._journal.close()


def _gone(evicted: Evicted | None) -> int:
    return 0 if evicted is None else evicted.count


def _next(path: Path) -> dict[str, int]:
    """Return how far each input had come when the recording was last written, as far as can be told."""
    try:
        reader = RecordingReader(path)
    except JournalError:
        return {}
    try:
        return reader.next
    finally:
        reader.close()


class RecordingReader:
    """A reading end; each call reads what is there by then. Raises JournalError where nothing can be read.

    `damaged` are the numbers of blocks that cannot be read and were left out.
    """

    def __init__(self, path: Path, timeline: Timeline | None = None) -> None:
        """Open it; `timeline` dates what is read."""
        self._path = path
        self._reader = JournalReader(path)
        self.timeline = timeline or Timeline()
        self.damaged: set[int] = set()
        self._known: dict[File, _Ends] = {}  # of segments that nothing is written to any more
        self._broken = False

    @property
    def lost(self) -> list[str]:
        """The names of its segments that were found damaged."""
        return self._reader.damaged

    @property
    def filled(self) -> bool:
        """Whether there are rows in it."""
        return bool(self._read(0, 1))

    @property
    def next(self) -> dict[str, int]:
        """The numbers of the rows that come next of each input; the names of all that were recorded last."""
        return next((rows.next for rows in self.newest()), {})

    def newest(self) -> Iterator[Rows]:
        """Yield the block that was written last, if there is one."""
        last = self._reader.last
        _, rows = self._at(last) if last else (0, None)
        yield from [] if rows is None else [rows]

    def rows(self, name: str, first: int, last: int) -> Iterator[Rows]:
        """Yield what is recorded of an input's rows numbered from `first` to `last`."""
        return blocks(self.look(name, first, last))

    def look(self, name: str, first: int, last: int) -> Iterator[Part]:
        """Do as `rows` does, in portions; blocks of other inputs are passed over by their bytes."""
        passed: dict[str, int] | None = None  # of what was written when all of them had come
        before = yield from self._before(name, first)
        for part in self._walk(before or 0, wanted=_of(name)):
            if isinstance(part, Portion):
                yield part
                continue
            _, rows = part
            if passed is not None and rows.next != passed and before is not None:
                return
            if _come(rows, name) > last:
                passed = rows.next
            found = within(rows, first, last) if rows.input == name else None
            if found is not None:
                yield found

    def between(self, start_ns: float = -math.inf, end_ns: float = math.inf) -> Iterator[Rows]:
        """Yield what was written between two moments (wall time, as known now), in its order."""
        return blocks(self._whole(start_ns, end_ns))

    def following(self, start_ns: float = -math.inf, end_ns: float = math.inf) -> Iterator[Rows]:
        """Yield what was written between two moments, and before that what its steps had gone through.

        That begins with the newest block before that says what they remembered, if there is one.
        """
        return blocks(self.follow(start_ns, end_ns))

    def follow(self, start_ns: float = -math.inf, end_ns: float = math.inf) -> Iterator[Part]:
        """Do as `following` does, in portions."""
        stretches = yield from self._stretches()
        begin = yield from self._first(stretches, start_ns, end_ns)
        if begin == math.inf:
            begin = yield from self._first(stretches, start_ns, math.inf)
        told = yield from self._told(stretches, begin)
        if told is not None:
            number, rows = told
            yield rows
            yield from self._numbered(stretches, number + rows.count, begin - 1)
        if begin < math.inf:
            yield from self._between(stretches, start_ns, end_ns, begin)

    def _whole(self, start_ns: float, end_ns: float) -> Iterator[Part]:
        stretches = yield from self._stretches()
        yield from self._between(stretches, start_ns, end_ns)

    def _between(
        self, stretches: Sequence[_Stretch], start_ns: float, end_ns: float, first: float = 0
    ) -> Iterator[Part]:
        for stretch in stretches:
            if stretch.last >= first and stretch.may_hold(start_ns, end_ns):
                for part in self._within(stretch, first):
                    if isinstance(part, Portion):
                        yield part
                    elif start_ns <= self._written(part[1]) <= end_ns:
                        yield part[1]

    def _first(self, stretches: Sequence[_Stretch], start_ns: float, end_ns: float) -> Looking[float]:
        """Return the number of the first block that was written between two moments, infinity without one."""
        for stretch in stretches:
            for part in self._within(stretch) if stretch.may_hold(start_ns, end_ns) else ():
                if isinstance(part, Portion):
                    yield part
                elif start_ns <= self._written(part[1]) <= end_ns:
                    return part[0]
        return math.inf

    def _told(self, stretches: Sequence[_Stretch], before: float) -> Looking[tuple[int, Rows] | None]:
        """Return the newest block before a number that says what the steps remembered there.

        Where it is said at all it is said often, so no more than `LOOK_BACK` bytes are looked through.
        """
        looked = 0
        for stretch in reversed([each for each in stretches if each.first < before]):
            told = None
            for part in self._within(stretch, last=before - 1, wanted=stateful):
                if isinstance(part, Portion):
                    yield part
                elif part[1].state:
                    told = part
            looked += segment.taken(segment.named(self._path, stretch.first))
            if told is not None or looked >= LOOK_BACK:
                return told
        return None

    def _numbered(self, stretches: Sequence[_Stretch], first: float, last: float) -> Iterator[Part]:
        for stretch in stretches:
            if stretch.last >= first and stretch.first <= last:
                for part in self._within(stretch, first, last):
                    yield part if isinstance(part, Portion) else part[1]

    def _within(
        self, stretch: _Stretch, first: float = 0, last: float = math.inf, wanted: Wanted = bool
    ) -> Iterator[_Found]:
        """Yield the blocks of a stretch whose first items are numbered from `first` to `last`."""
        last = min(last, stretch.last)
        for part in self._walk(int(max(first, stretch.first)) - 1, last, wanted, stretch.file):
            if not isinstance(part, Portion) and part[0] > last:
                return
            yield part

    def _stretches(self) -> Looking[list[_Stretch]]:
        """Return what is in each segment and when it was written, the oldest first.

        The last of them goes on in what is written from now on, and is read with it.
        """
        files = self._reader.files()
        there = set(files)
        self._known = {file: known for file, known in self._known.items() if file in there}
        out: list[_Stretch] = []
        for file in reversed(files):
            ends = self._known.get(file)
            if ends is None:
                ends = self._ends(file)
                yield Portion(0)
            if ends:
                out.append(self._stretch(file, ends, out[-1] if out else None))
        return out[::-1]

    def _stretch(self, file: File, ends: _Ends, later: _Stretch | None) -> _Stretch:
        """Return a segment's stretch; where its times fall, any time may be in it."""
        begun, ended = (-math.inf if each is None else self._wall(*each) for each in (ends[0], ends[-1]))
        if None in ends or begun > ended:
            begun, ended = -math.inf, math.inf
        if later is None:
            return _Stretch(segment.number(file[0]), math.inf, begun, math.inf, None)
        self._known[file] = ends  # nothing is written there any more
        return _Stretch(segment.number(file[0]), later.first - 1, begun, ended, file)

    def _ends(self, file: File) -> _Ends:
        """Return when the first and the last block of a segment were written, none where nothing is in it."""
        found = self._asked(lambda: self._reader.ends(file))
        told = [next(self._taken_apart(first, data), None) for first, _, data in found]
        return tuple(None if rows is None else (rows.clock, rows.written_ns) for rows in told)

    def _wall(self, clock: Clock, written_ns: int) -> int:
        return written_ns + self.timeline.clock(clock, written_ns).offset_ns

    def _written(self, rows: Rows) -> int:
        """Return when a block was written, wall time in ns."""
        return rows.written_ns + rows.clock.offset_ns

    def _dated(self, rows: Rows) -> Rows:
        """Return a block with its clock as known now."""
        clock = self.timeline.clock(rows.clock, rows.written_ns)
        return rows if clock is rows.clock else msgspec.structs.replace(rows, clock=clock)

    def _before(self, name: str, row: int) -> Looking[int | None]:
        """Return the number of the last item written before a row of an input had come.

        ``None`` where rows are seen to be in no order, for the generations of their rings have sunk: they are
        looked through one by one then.
        """
        low, high = self._reader.first, self._reader.last + 1
        _, oldest, _ = self._passed(low, name)
        _, newest, _ = self._passed(high - 1, name)
        while low < high:
            middle = (low + high) // 2
            number, come, behind = self._passed(middle, name)
            yield Portion(0)
            if max(oldest, come) > newest and come < math.inf:
                return None
            if come > row:
                high = min(number, middle)
            else:
                low = behind
        return low - 1

    def _passed(self, number: int, name: str) -> tuple[int, float, int]:
        """Return where the block at a number begins, how far an input had come with it, and where it ends."""
        first, rows = self._at(number)
        return (first, math.inf, first) if rows is None else (first, _come(rows, name), first + rows.count)

    def _at(self, number: int) -> tuple[int, Rows | None]:
        """Return the first block that reaches up to a number, or beyond, and the number of its first item."""
        found = (part for part in self._walk(number - 1) if not isinstance(part, Portion))
        return next(found, (number, None))

    def _walk(
        self, after: int, last: float = math.inf, wanted: Wanted = bool, file: File | None = None
    ) -> Iterator[_Found]:
        """Yield the blocks above a number that are `wanted`, each with the number of its first item.

        They are those of all segments, or of one `file`. The last of each portion is yielded, wanted or not:
        it tells how far each input has come.
        """
        limit = 1  # a single block is often all that is looked for
        while after < last and (found := self._read(after, limit, file)):
            end = found[-1][0]
            for first, count, data in found:
                after = first + count - 1
                if first == end or wanted(data):
                    yield from self._decoded(first, data)
            yield Portion(sum(len(data) for _, _, data in found))
            limit = _READ_BYTES

    def _decoded(self, first: int, data: bytes) -> Iterator[tuple[int, Rows]]:
        yield from ((first, self._dated(rows)) for rows in self._taken_apart(first, data))

    def _taken_apart(self, first: int, data: bytes) -> Iterator[Rows]:
        """Yield a block as it was written, unless it is damaged."""
        try:
            yield decode_rows(data)
        except ValueError as error:
            if first not in self.damaged:
                log.warning("%s: block %d is left out: %s", self._path, first, error)
            self.damaged.add(first)

    def _read(self, after: int, limit: int, file: File | None = None) -> list[Found]:
        if file is not None:
            return self._asked(lambda: self._reader.blocks(file, after, limit))
        return self._asked(lambda: self._reader.read(after, limit))

    def _asked(self, read: Callable[[], list[Found]]) -> list[Found]:
        """Return what is read; raises JournalError."""
        if self._broken:
            raise JournalError(f"{self._path}: it is closed")
        try:
            return read()
        except lmdb.Error as error:
            self._broken = True
            raise JournalError(f"{self._path}: {error}") from error

    @property
    def stale(self) -> bool:
        """Whether it was removed or made anew, or cannot be read any more."""
        try:
            return self._broken or self._reader.stale
        except (JournalError, lmdb.Error):
            return True

    def close(self) -> None:
        """Close it; whoever still reads has a JournalError."""
        self._broken = True
        self._reader.close()


class Recordings:
    """The recordings below a folder, each opened when it is first asked for.

    LMDB opens nothing twice in a process: hence one place that knows which are open.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, RecordingReader] = {}

    def damaged(self) -> Iterator[tuple[str, str]]:
        """Yield each segment found damaged, as pipeline and name."""
        yield from ((name, each) for name, known in self._open.items() for each in known.lost)

    def names(self) -> list[str]:
        """Return the pipelines of which there is a recording, whether they run or not; raises OSError."""
        folders = [path for path in self._folder.iterdir() if path.is_dir()] if self._folder.is_dir() else []
        return sorted(path.name for path in folders if segment.names(path))

    def refresh(self) -> None:
        """Let go of what was removed."""
        for name, known in list(self._open.items()):
            if known.stale:
                self._open.pop(name).close()

    def get(self, pipeline: str, timeline: Timeline) -> RecordingReader | None:
        """Return the recording of a pipeline, dated as known now, ``None`` when there is none to be read."""
        known = self._open.get(pipeline)
        if known is not None and known.stale:
            self._open.pop(pipeline).close()
            known = None
        if known is None:
            try:
                known = self._open[pipeline] = RecordingReader(self._folder / pipeline)
            except JournalError:
                return None
        known.timeline = timeline
        return known

    def close(self) -> None:
        """Close all."""
        while self._open:
            self._open.popitem()[1].close()


def _come(rows: Rows, name: str) -> int:
    """Return how far an input had come with a block; generations of rings rise over all inputs."""
    return rows.next.get(name, max(rows.next.values(), default=rows.end))


def _of(name: str) -> Wanted:
    """Return what says whether a block may be of an input, without taking it apart; `False` is certain.

    A block is a map of less than 24 fields, whose first is the input. Source: RFC 8949, section 3.
    """
    own = _INPUT + cbor2.dumps(name)
    return lambda data: data.startswith(own, 1) or not data.startswith(_INPUT, 1)
