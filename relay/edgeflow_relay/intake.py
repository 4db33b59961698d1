"""Where events come in: batches of many devices, stored together, acknowledged when they are on disk.

A commit costs a sync of the disk whatever is in it, so all that has come meanwhile goes into the next one.
What waits is bounded: who brings more waits, and so does the device behind it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, IntegrityError

from edgeflow_relay import blocks
from edgeflow_relay.bell import Bell
from edgeflow_relay.counters import Counters
from edgeflow_relay.store import events, journals
from edgeflow_relay.store.database import Database
from edgeflow_relay.store.health import refusal
from edgeflow_relay.store.journals import Batch

log = logging.getLogger("edgeflow.relay")
MAX_WAITING = 32 << 20  # bytes
GROUP_BLOCKS, GROUP_BYTES = 256, 8 << 20
RETRY_S = 1.0
REFUSED = "events cannot be stored"
_INSERT_ROWS, _INSERT_BYTES = 5000, 8 << 20  # in memory as JSON, which can be a hundred times a block
_BLAMED = (
    DataError,
    IntegrityError,
    ValueError,
    TypeError,
    OverflowError,
)  # the values are at fault
_Done = Callable[[], None]


@dataclass(slots=True)
class Outcome:
    """What one commit stored."""

    new: int = 0
    seen: int = 0
    missing: int = 0
    rejected: list[tuple[Batch, str]] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Count another commit to this one."""
        self.new += other.new
        self.seen += other.seen
        self.missing += other.missing
        self.rejected += other.rejected


_Work = Callable[[Connection, Sequence[Batch]], Outcome]


class Intake:
    """The queue and its one writer. `stored` rings when there are new events."""

    def __init__(self, database: Database, counters: Counters) -> None:
        self._database = database
        self._counters = counters
        self._queue: deque[tuple[Batch, _Done]] = deque()
        self._waiting = 0
        self._came, self._room = Bell(), Bell()
        self._closing = False
        self.stored = Bell()

    @property
    def error(self) -> str:
        """Why the store refuses events, while it does."""
        return self._database.health.why(REFUSED)

    @property
    def waiting(self) -> int:
        """Bytes not stored yet."""
        return self._waiting

    async def put(self, batch: Batch, done: _Done) -> None:
        """Queue a batch, waiting while there is no room; `done` is called when it is on disk."""
        while self._waiting and self._waiting + len(batch.block) > MAX_WAITING:
            await self._room.wait()
        self._queue.append((batch, done))
        self._waiting += len(batch.block)
        self._came.ring()

    async def run(self) -> None:
        """Store what comes, until `close`."""
        while self._queue or not self._closing:
            group = self._group()
            if group:
                await self._store(group)
            else:
                await self._came.wait()

    def close(self) -> None:
        """Let `run` end when all that waits is stored."""
        self._closing = True
        self._came.ring()

    def _group(self) -> list[tuple[Batch, _Done]]:
        group: list[tuple[Batch, _Done]] = []
        size = 0
        while self._queue and len(group) < GROUP_BLOCKS and size < GROUP_BYTES:
            group.append(self._queue.popleft())
            size += len(group[-1][0].block)
        return group

    async def _store(self, group: list[tuple[Batch, _Done]]) -> None:
        outcome = await self._commit([batch for batch, _ in group])
        self._waiting -= sum(len(batch.block) for batch, _ in group)
        self._room.ring()
        self._count(len(group), outcome)
        for _, done in group:
            done()
        if outcome.new:
            self.stored.ring()

    async def _commit(self, batches: list[Batch], work: _Work | None = None) -> Outcome:
        """Commit a group; while the store refuses, try again: what is not stored must not be acknowledged."""
        todo = work or store
        while True:
            try:
                outcome = await self._database.write(lambda connection: todo(connection, batches))
            except Exception as error:
                if work is None and isinstance(error, _BLAMED):  # the others must not wait for ever
                    log.exception("%d blocks cannot be stored together", len(batches))
                    return await self._one_by_one(batches, repr(error))
                await self._refused(error)
                if self._closing:
                    raise
            else:
                self._database.health.works(REFUSED)
                return outcome

    async def _refused(self, error: Exception) -> None:
        why = refusal(error)
        if self._database.health.refused(REFUSED, why or repr(error)):
            traceback = None if why else error
            log.error("%s: %s; trying again", REFUSED, why or repr(error), exc_info=traceback)
        self._counters["commits_failed_total"] += 1
        await asyncio.sleep(RETRY_S)

    async def _one_by_one(self, batches: list[Batch], reason: str) -> Outcome:
        if len(batches) == 1:
            return await self._commit(batches, partial(set_aside, reason=reason))
        total = Outcome()
        for batch in batches:
            total.add(await self._commit([batch]))
        return total

    def _count(self, batches: int, outcome: Outcome) -> None:
        counts = {
            "blocks_total": batches, "commits_total": 1, "events_stored_total": outcome.new,
            "events_duplicate_total": outcome.seen, "events_missing_total": outcome.missing,
            "blocks_rejected_total": len(outcome.rejected),
        }  # fmt: skip
        self._counters.update(counts)
        for batch, reason in outcome.rejected:
            words = "%s: events %d to %d of %s cannot be read and are set aside: %s"
            log.error(words, batch.device, batch.first, batch.last, batch.pipeline, reason)


def store(connection: Connection, batches: Sequence[Batch]) -> Outcome:
    """Store batches in the order they came, those that cannot be read as they are."""
    outcome = Outcome()
    pending: list[events.Row] = []
    size = 0
    for batch in batches:
        rows = _read(connection, batch, outcome)
        pending += rows
        size += sum(len(row.body) for row in rows)
        if len(pending) >= _INSERT_ROWS or size >= _INSERT_BYTES:
            _insert(connection, pending, outcome)
            pending, size = [], 0
    _insert(connection, pending, outcome)
    outcome.missing = journals.advance(connection, batches)
    return outcome


def _read(connection: Connection, batch: Batch, outcome: Outcome) -> list[events.Row]:
    try:
        return blocks.rows(batch)
    except blocks.Unreadable as error:
        outcome.rejected.append((batch, str(error)))
        journals.reject(connection, batch, str(error))
        return []


def _insert(connection: Connection, rows: list[events.Row], outcome: Outcome) -> None:
    new = events.add(connection, rows)
    outcome.new += new
    outcome.seen += len(rows) - new


def set_aside(connection: Connection, batches: Sequence[Batch], reason: str) -> Outcome:
    """Keep batches that could not be stored as events."""
    for batch in batches:
        journals.reject(connection, batch, reason)
    missing = journals.advance(connection, batches)
    return Outcome(missing=missing, rejected=[(batch, reason) for batch in batches])
