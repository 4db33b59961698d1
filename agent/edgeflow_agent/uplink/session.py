"""What to send next and what an acknowledgement means: pure rules for one stream to the relay.

Blocks go in order within a journal and in turn between journals, a bounded number of them unacknowledged.
After a break everything unacknowledged is sent again; the relay stores an event once, by its id.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

MAX_BATCHES = 16
MAX_BYTES = 4 << 20


class Source(Protocol):
    """A journal to send from. May be remade under a new `id` between two calls, never within one."""

    @property
    def id(self) -> str:
        """The journal's random id."""

    @property
    def pipeline(self) -> str:
        """The pipeline whose journal it is."""

    @property
    def bounds(self) -> tuple[int, int]:
        """Sequence numbers of the oldest and the newest event, zeros when there is none."""

    def read(self, after: int, limit_bytes: int) -> list[tuple[int, int, bytes]]:
        """Return blocks ``(first, count, CBOR)`` with events above `after`, at least one if there is any."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A block as it is stored, with what the relay must know to file it."""

    journal: str
    pipeline: str
    first: int
    count: int
    block: bytes

    @property
    def last(self) -> int:
        """Sequence number of its newest event."""
        return self.first + self.count - 1


@dataclass(slots=True)
class _Track:
    sent: int
    acked: int
    known: int = 0  # acknowledged as far as was remembered when the stream began


class Session:
    """One stream. `acked` is the newest acknowledged sequence per journal id, as remembered.

    `conflicts` says of each journal that is in conflict how far the relay has what is in it.
    """

    def __init__(
        self, acked: Mapping[str, int], conflicts: Mapping[str, int] = {}, max_batches: int = MAX_BATCHES,
        max_bytes: int = MAX_BYTES,
    ) -> None:  # fmt: skip
        self._tracks = {journal: _Track(last, last, last) for journal, last in acked.items()}
        self._conflicts = dict(conflicts)
        self._flight: deque[Batch] = deque()
        self._bytes = 0
        self._max_batches = max_batches
        self._max_bytes = max_bytes
        self._turn = ""

    @property
    def in_flight(self) -> int:
        """How many batches wait for an acknowledgement."""
        return len(self._flight)

    @property
    def bytes_in_flight(self) -> int:
        """How many bytes their blocks have."""
        return self._bytes

    def acked(self, journal: str) -> int:
        """Return the newest acknowledged sequence number of a journal, 0 for none."""
        track = self._tracks.get(journal)
        return track.acked if track else 0

    def conflict(self, source: Source) -> bool:
        """Say whether more was acknowledged than the journal held once: it was put back to an older state.

        Its next events took and take numbers the relay knows as other events, so none are sent.
        """
        last = source.bounds[1]
        if source.id not in self._conflicts and self.acked(source.id) > last:
            self._conflicts[source.id] = min(self._tracks[source.id].known, last)
        return source.id in self._conflicts

    def stored(self, journal: str) -> int:
        """Return up to which number the relay has what is in a journal, as far as can be known."""
        return self._conflicts.get(journal, self.acked(journal))

    def acknowledge(self, journal: str, sequence: int) -> bool:
        """Take an acknowledgement, or a line of the welcome; False when it says nothing new."""
        track = self._tracks.setdefault(journal, _Track(0, 0))
        if sequence <= track.acked:
            return False
        track.acked = sequence
        track.sent = max(track.sent, sequence)
        done = [batch for batch in self._flight if batch.journal == journal and batch.last <= sequence]
        for batch in done:
            self._flight.remove(batch)
            self._bytes -= len(batch.block)
        return True

    def next(self, sources: Iterable[Source]) -> Batch | None:
        """Return the batch to send now and hold it as in flight; ``None`` when nothing is there or may go."""
        if self.in_flight >= self._max_batches or (self._flight and self._bytes >= self._max_bytes):
            return None
        order = sorted(sources, key=lambda source: (source.pipeline <= self._turn, source.pipeline))
        for source in order:
            batch = self._read(source)
            if batch is not None:
                self._turn = batch.pipeline
                return batch
        return None

    def _read(self, source: Source) -> Batch | None:
        track = self._tracks.setdefault(source.id, _Track(0, 0))
        if self.conflict(source):
            return None
        blocks = source.read(track.sent, 1)
        if not blocks:
            return None
        batch = Batch(source.id, source.pipeline, *blocks[0])
        track.sent = batch.last
        self._flight.append(batch)
        self._bytes += len(batch.block)
        return batch


def backlog(bounds: tuple[int, int], acked: int) -> int:
    """Return how many stored events are not acknowledged."""
    first, last = bounds
    return max(0, last - max(acked, first - 1))
