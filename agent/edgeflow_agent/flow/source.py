"""One input of a worker: its ring, its counters, and caution about rows that kill."""

from __future__ import annotations

from collections.abc import Sequence

from edgeflow_agent.core.batch import Batch
from edgeflow_agent.core.board import Slot, labelled
from edgeflow_agent.core.ring import KEY_MASK, RingReader
from edgeflow_agent.core.snapshot import Snapshots
from edgeflow_proto.event import ROW_BITS

CAREFUL_DEATHS = 3  # in a row at one position
FATAL_TRIES = 2  # in a row with one row in hand
_INPUT_SHIFT = 48


class Source:
    """Reads one ring."""

    def __init__(self, index: int, reader: RingReader, slot: Slot) -> None:
        self.index = index
        self.reader = reader
        self.name = reader.spec.input
        self.rows = slot.counter(labelled("rows_total", input=self.name))
        self.lost = slot.counter(labelled("rows_lost_total", input=self.name))
        self.gaps = slot.counter(labelled("gaps_total", input=self.name))
        self._counted: int | None = None  # of the ring's rows, those that have been

    def count(self) -> None:
        """Count the rows that have come."""
        reader = self.reader
        counted = reader.position if self._counted is None else max(self._counted, reader.position)
        self._counted = reader.head
        if reader.head > counted:
            self.rows.add(reader.head - counted)

    @property
    def sequence(self) -> int:
        """Sequence number of the next row."""
        return self.reader.spec.generation << ROW_BITS | self.reader.position

    def key_name(self, key: int) -> str:
        """Return a key's name, empty for an input without keys."""
        return self.reader.key_name(key & KEY_MASK) if self.reader.spec.max_keys > 1 else ""

    @property
    def keys(self) -> list[str]:
        """The names of all keys so far, by their numbers."""
        return self.reader.keys if self.reader.spec.max_keys > 1 else []

    def view(self, limit: int) -> Batch:
        """Return at most `limit` unread rows as a view of the ring."""
        reader = self.reader
        return reader.view(min(reader.head - reader.position, limit, reader.margin))


class Caution:
    """Row by row after three deaths at one position, so that the row that kills is found and taken out.

    The row in hand is noted in memory that outlives the worker before it is run. A row that two careful
    workers in a row died on is fatal: other deaths (someone's `kill`) hardly meet the same row twice.
    """

    def __init__(self, snapshots: Snapshots, deaths: int) -> None:
        self._snapshots = snapshots
        self._deaths = deaths
        self._until: dict[int, int] = {}

    @property
    def active(self) -> bool:
        """Whether to go row by row."""
        return bool(self._until)

    def begin(self, sources: Sequence[Source]) -> Source | None:
        """Look at how the worker before ended; return the source whose next row is fatal, if one is."""
        held = self._snapshots.trying
        if held < 0 and self._deaths < CAREFUL_DEATHS:
            return None
        for source in sources:
            source.reader.poll()
        self._until = {source.index: source.reader.head for source in sources}
        found = [source for source in sources if held == self._mark(source)]
        self._snapshots.tries = self._snapshots.tries + 1 if found and self._deaths else 0
        self._snapshots.trying = -1
        if self._snapshots.tries < FATAL_TRIES:
            return None
        self._snapshots.tries = 0
        return found[0]

    def hold(self, source: Source) -> None:
        """Note the row about to be run."""
        self._snapshots.trying = self._mark(source)

    def ran(self) -> None:
        """The row did not kill; a slow disk, or someone's `kill` from here on, is not its fault."""
        self._snapshots.trying = -1

    def passed(self, source: Source) -> None:
        """The row is behind a snapshot; past all rows that waited at the start, caution ends."""
        if source.reader.position >= self._until.get(source.index, 0):
            self._until.pop(source.index, None)

    def _mark(self, source: Source) -> int:
        return source.index << _INPUT_SHIFT | source.reader.position
