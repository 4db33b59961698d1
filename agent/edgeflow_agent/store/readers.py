"""All journals of the store, opened once in a process and shared by whoever reads there.

LMDB forbids opening one environment twice in a process, and a journal may be made, remade or go bad while
this process runs: hence one place that knows which are open.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import lmdb

from edgeflow_agent.store import segment
from edgeflow_agent.store.journal import JournalError
from edgeflow_agent.store.journal_reader import JournalReader
from edgeflow_proto.timeline import Timeline

log = logging.getLogger("edgeflow.journals")
AHEAD_S = 0.03  # for looking at segments when journals are opened: who opens them serves others as well


class Unreadable(JournalError):
    """An open journal failed; hand the error to `Journals.drop`."""

    def __init__(self, journal: OpenJournal, error: Exception) -> None:
        super().__init__(f"{journal.pipeline}: {error}")
        self.journal = journal


class OpenJournal:
    """One journal open for reading. Every call is one short transaction and raises Unreadable."""

    def __init__(self, path: Path) -> None:
        self._reader = JournalReader(path)
        self._path = path
        self.pipeline = path.name
        self.id = self._reader.id

    @property
    def stale(self) -> bool:
        """Whether the journal was removed or made anew, or cannot be told."""
        try:
            return self._reader.stale
        except (JournalError, lmdb.Error):
            return True

    @property
    def bounds(self) -> tuple[int, int]:
        """Sequence numbers of the oldest and the newest event, zeros when there is none."""
        try:
            return self._reader.first, self._reader.last
        except (JournalError, lmdb.Error) as error:
            raise Unreadable(self, error) from error

    @property
    def damaged(self) -> list[str]:
        """The names of its segments that were found damaged."""
        return self._reader.damaged

    @property
    def segments(self) -> int:
        """How many segments it has."""
        return len(self._paths())

    def read(self, after: int, limit_bytes: int = 1 << 20) -> list[tuple[int, int, bytes]]:
        """Return blocks ``(first, count, CBOR)`` with events above `after`, as JournalReader does."""
        try:
            return self._reader.read(after, limit_bytes)
        except (JournalError, lmdb.Error) as error:
            raise Unreadable(self, error) from error

    def begun(self, sequence: int) -> int:
        """Return the number of the first event of the segment that an event is in, 0 when there is none."""
        starts = [segment.number(path) for path in self._paths()]
        return max((start for start in starts if start <= sequence), default=0)

    def look_ahead(self) -> bool:
        """Check a segment that was not looked at yet (see `JournalReader.look_ahead`)."""
        try:
            return self._reader.look_ahead()
        except JournalError:
            return False

    def _paths(self) -> list[Path]:
        try:
            return segment.names(self._path)
        except OSError as error:
            raise Unreadable(self, error) from error

    def close(self) -> None:
        """Close it; no call may follow."""
        self._reader.close()


def _has_segments(path: Path) -> bool:
    try:
        return bool(segment.names(path))
    except OSError:  # of this one; it takes no other with it
        return False


class Journals:
    """The journals below a folder, by the name of their pipeline."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, OpenJournal] = {}
        self._reported: dict[str, str] = {}
        self.timeline = Timeline()  # dates what is read here

    def __iter__(self) -> Iterator[OpenJournal]:
        return iter(list(self._open.values()))

    def get(self, pipeline: str) -> OpenJournal | None:
        """Return the journal of a pipeline, if it is open."""
        return self._open.get(pipeline)

    def by_id(self, journal: str) -> OpenJournal | None:
        """Return the journal of that id, if it is open."""
        return next((known for known in self if known.id == journal), None)

    def refresh(self) -> bool:
        """Look what journals there are: open new ones, reopen those made anew, let go of those removed.

        True when one was opened: it may hold events already.
        """
        found = {path.name: path for path in self._paths()}
        for name, known in list(self._open.items()):
            if name not in found or known.stale:
                self._open.pop(name).close()
        new = [self._try(name, path) for name, path in found.items() if name not in self._open]
        until = time.monotonic() + AHEAD_S
        while any(new) and time.monotonic() < until and self.look_ahead():
            pass
        return any(new)

    def look_ahead(self) -> bool:
        """Check one segment that was not looked at yet; False when all were."""
        return any(known.look_ahead() for known in self)

    def _paths(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder.iterdir() if path.is_dir() and _has_segments(path))
        except OSError:
            return []

    def _try(self, name: str, path: Path) -> bool:
        try:
            self._open[name] = OpenJournal(path)
            self._reported.pop(name, None)
            return True
        except (JournalError, OSError) as error:
            if self._reported.get(name) != str(
                error
            ):  # a journal that is being made is open at the next look
                log.info("journal not readable: %s", error)
            self._reported[name] = str(error)
            return False

    def drop(self, error: Unreadable) -> None:
        """Let go of a journal that failed; the next `refresh` tries it anew."""
        log.error("journal failed: %s", error)
        if self._open.get(error.journal.pipeline) is error.journal:
            self._open.pop(error.journal.pipeline).close()

    def close(self) -> None:
        """Close all."""
        while self._open:
            self._open.popitem()[1].close()
