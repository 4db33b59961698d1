"""The reading end of a journal, for other processes than the one that writes it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from edgeflow_agent.store import segment
from edgeflow_agent.store.environment import DAMAGE
from edgeflow_agent.store.journal import JournalError
from edgeflow_agent.store.segment import DamagedError, Found, Segment, SegmentError

log = logging.getLogger("edgeflow.journal")
MAX_OPEN = 16  # segments of one journal, each of which takes two file descriptors and a map
File = tuple[Path, int]  # and inode: a journal may be made anew


class JournalReader:
    """A reading end, for another process than the writer's. Each call is a short transaction.

    Segments are opened as they are read, so many at a time, and let go of when retention has removed them.
    One that is damaged is left out, and named in `damaged`.
    """

    def __init__(self, path: Path) -> None:
        """Open; raises JournalError when there is no journal yet, or none of it can be read."""
        self._path = path
        self._open: dict[File, Segment] = {}  # the one used last comes last
        self._sound: set[File] = set()  # checked before
        self._damaged: set[File] = set()
        self._reported: set[File] = set()
        newest = self._newest()
        if newest is None:
            raise JournalError(f"{path}: no journal")
        self.id = newest.id

    @property
    def damaged(self) -> list[str]:
        """The names of the segments that are damaged and still there."""
        return sorted(path.name for path, _ in self._damaged)

    def look_ahead(self) -> bool:
        """Check the newest segment that was not looked at yet, so that who asks for an event need not wait.

        False when there is none.
        """
        unknown = [file for file in reversed(self.files()) if file not in self._sound | self._reported]
        return any(self._segment(file) is not None for file in unknown)

    def files(self) -> list[File]:
        """Return the segments there are but the damaged ones, oldest first."""
        try:
            files = segment.files(self._path)
        except OSError as error:
            raise JournalError(f"{self._path}: {error}") from error
        for gone in self._open.keys() - set(files):
            self._open.pop(gone).close()
        self._sound.intersection_update(files)
        self._damaged.intersection_update(files)
        return [file for file in files if file not in self._damaged]

    def _segment(self, file: File) -> Segment | None:
        """Return a segment, opened unless it is; ``None`` where it cannot be read."""
        if any(path == file[0] and other != file[1] for path, other in self._open):
            return None  # another took its place since it was listed, and LMDB opens nothing twice
        found = self._open.pop(file, None) or self._opened(file)
        if found is not None:
            self._open[file] = found
        while len(self._open) > MAX_OPEN:
            self._open.pop(next(iter(self._open))).close()
        return found

    def _opened(self, file: File) -> Segment | None:
        try:
            found = Segment(file[0], sound=file in self._sound)
        except segment.UnfinishedError:
            return None
        except SegmentError as error:
            gone = isinstance(error.__cause__, FileNotFoundError)  # removed since it was listed
            if not gone:
                self._leave_out(file, error, damaged=isinstance(error, DamagedError))
            return None
        self._sound.add(file)
        return found

    def _leave_out(self, file: File, error: Exception, *, damaged: bool) -> None:
        if file not in self._reported:
            log.error("%s cannot be read: %s", self._path.name, error)
        self._reported.add(file)
        if damaged:
            self._damaged.add(file)

    def blocks(self, file: File, after: int, limit_bytes: int) -> list[Found]:
        """Return blocks of one segment, as `read` does of all; none when it has gone since it was listed."""
        return self._asked(file, lambda found: found.read(after, limit_bytes))

    def ends(self, file: File) -> list[Found]:
        """Return the first and the last block of a segment, none when there are none."""
        return self._asked(file, lambda found: [*found.read(0, 1), *found.read(found.next - 2, 1)])

    def _asked(self, file: File, read: Callable[[Segment], list[Found]]) -> list[Found]:
        found = self._segment(file)
        if found is None:
            return []
        try:
            return read(found)
        except DAMAGE as error:  # since it was opened
            self._leave_out(file, error, damaged=True)
            self._open.pop(file).close()
            return []

    def _newest(self) -> Segment | None:
        found = (self._segment(file) for file in reversed(self.files()))
        return next((each for each in found if each is not None), None)

    @property
    def stale(self) -> bool:
        """Whether the journal was removed or made anew."""
        newest = self._newest()
        return newest is None or newest.id != self.id

    @property
    def first(self) -> int:
        """Sequence number of the oldest event, 0 when there is none."""
        return next((first for file in self.files() for first, _, _ in self.blocks(file, 0, 1)), 0)

    @property
    def last(self) -> int:
        """Sequence number of the newest event, 0 when there is none."""
        newest = self._newest()
        return newest.next - 1 if newest is not None and self.first else 0

    def read(self, after: int, limit_bytes: int = 1 << 20) -> list[Found]:
        """Return blocks ``(first, count, CBOR)`` with events numbered above `after`, at least one if any.

        The first block may begin at or before `after`.
        """
        out: list[Found] = []
        for file in _holding(self.files(), after):
            if limit_bytes <= 0:
                break
            blocks = self.blocks(file, after, limit_bytes)
            limit_bytes -= sum(len(data) for _, _, data in blocks)
            out += blocks
        return out

    def close(self) -> None:
        """Close all segments."""
        while self._open:
            self._open.popitem()[1].close()


def _holding(files: list[File], after: int) -> list[File]:
    """Return the segments that may have events above `after`."""
    ends = [segment.number(path) for path, _ in files[1:]]
    return files[sum(end <= after + 1 for end in ends) :]
