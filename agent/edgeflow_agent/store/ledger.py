"""The ledger: events that wait for a commit, and the point of the run behind them, written together.

Blocks and snapshot belong to one another: after a crash the run resumes at the snapshot that the last
committed transaction names, and what followed is run again. So no event is lost and none is there twice.
"""

from __future__ import annotations

from edgeflow_agent.core.board import Histogram, Slot
from edgeflow_agent.core.snapshot import Snapshots
from edgeflow_agent.store.journal import Acked, Damage, Durable, Journal, JournalError, LimitError
from edgeflow_agent.store.retention import Evicted
from edgeflow_proto.event import Block

DURABLE_NS = 60 * 10**9
HELD_NS = 10 * 10**9  # readers are done in milliseconds
MAX_PATIENCE = 10  # times the usual, between two tries
SETTLE_NS = 50 * 10**6  # shortest time between two snapshots while no event waits


class Ledger:
    """Decides when to commit, and does it. `state` gives what to resume from, `acked` what the relay has."""

    def __init__(self, journal: Journal, snapshots: Snapshots, slot: Slot, digest: str, acked: Acked) -> None:
        self._journal = journal
        self._snapshots = snapshots
        self._digest = digest
        self._acked = acked
        self._commits = slot.counter("commits_total")
        self._failures = slot.counter("commit_failures_total")
        self._bytes = slot.counter("journal_bytes")
        self._latency = Histogram(slot, "commit")
        self._serial = max(journal.serial, snapshots.settled)
        self._committed = self._written = 0  # when, of commits and of all snapshots
        self._copied = self._tried = 0  # when, of copies on disk
        self.error = ""
        self.too_much = False  # for the limit: it is not the disk that refuses
        self._refused = 0  # times in a row
        self._looked = 0
        self._reading: set[tuple[int, int]] = set()  # read transactions, as process and number
        self._kept: set[tuple[int, int]] = set()  # told of

    @property
    def damaged(self) -> list[Damage]:
        """What of the journal cannot be read any more."""
        return self._journal.damaged

    def resume(self) -> bytes | None:
        """Return the snapshot to resume from, ``None`` when the memory that held it is gone."""
        found = self._snapshots.resume(self._journal.serial)
        if found is None:
            return None
        self._snapshots.settle(found[0])
        return found[1]

    def restored(self) -> bytes | None:
        """Return the durable copy of the state this same pipeline left, if there is one."""
        durable = self._journal.durable
        return durable.state if durable is not None and durable.digest == self._digest else None

    def due(self, now: int, every: int, *, urgent: bool = False) -> bool:
        """Say whether a commit may be made now: `every` ns apart at least, more while the disk refuses.

        What is urgent does not wait, unless it was refused before.
        """
        if urgent and not self._refused:
            return True
        return now - self._committed >= every * min(MAX_PATIENCE, 1 + self._refused)

    def stale(self, now: int) -> bool:
        """Say whether it is time to settle."""
        return now - self._written >= SETTLE_NS

    def settle(self, now: int, state: bytes) -> Evicted | None:
        """Move the point to resume from; no event waits. It costs no disk, so it puts off no commit.

        Once a minute there is a commit, for the copy; returns what had to go for it.
        """
        self._written = now
        if self._copy_due(now):
            done, evicted = self.commit(now, [], state, 0)
            if done:
                return evicted
        self._serial += 1
        self._snapshots.write(self._serial, state)
        self._snapshots.settle(self._serial)
        return None

    def _copy_due(self, now: int) -> bool:
        return now - max(self._copied, self._tried) >= DURABLE_NS

    def commit(
        self, now: int, blocks: list[Block], state: bytes, decided: int, *, last: bool = False
    ) -> tuple[bool, Evicted | None]:
        """Write blocks and state. False when the disk refused: nothing was written, try again.

        With `last`, and once a minute, the state is also copied to disk.
        """
        self._committed = self._written = now
        copy = Durable(self._digest, state) if last or self._copy_due(now) else None
        self._tried = now if copy is not None else self._tried
        self._snapshots.write(self._serial + 1, state)
        try:
            evicted = self._journal.commit(blocks, self._serial + 1, copy, self._acked)
        except JournalError as error:
            self._refuse(error)
            return False, None
        self._serial += 1
        self._snapshots.settle(self._serial)
        self._copied = now if copy is not None else self._copied
        self._count(now, decided)
        return True, evicted

    def _refuse(self, error: JournalError) -> None:
        self.error, self.too_much = str(error), isinstance(error, LimitError)
        self._refused += 1
        self._failures.add()

    @property
    def limit(self) -> int:
        """How many bytes the journal may take."""
        return self._journal.limit

    def trim(self, limit: int, *, hold: bool) -> Evicted | None:
        """Keep the journal within another limit from now on (see `Journal.trim`); returns what went."""
        return self._journal.trim(limit, self._acked, hold=hold)

    def held(self, now: int) -> list[int]:
        """Return processes that have kept a read transaction open since the last look, `HELD_NS` ago.

        Each one is returned once for each transaction it keeps.
        """
        if now - self._looked < HELD_NS:
            return []
        before, self._looked, self._reading = self._reading, now, self._journal.readers()
        kept = before & self._reading
        new, self._kept = kept - self._kept, kept
        return [process for process, _ in sorted(new)]

    def _count(self, now: int, decided: int) -> None:
        self.error, self.too_much, self._refused = "", False, 0
        self._commits.add()
        self._bytes.set(self._journal.bytes)
        if decided:
            self._latency.record(now - decided)
