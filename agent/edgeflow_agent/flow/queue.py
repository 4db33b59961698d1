"""What waits in a worker for a commit, bounded in bytes however long the disk refuses."""

from __future__ import annotations

from edgeflow_agent.core.batch import Batch
from edgeflow_proto.event import Block

MAX_BYTES = 16 << 20  # of rows, kept in memory while the disk refuses them
MAX_NOTICES = 1000
NOTICE_BYTES = 8192  # that a notice may take in a journal: a page or two of its own
COMMIT_BYTES = 1 << 20  # of rows, which are worth a commit of their own: more in one would save nothing


class Queue:
    """Rows per event output, in order, and notices; `first` are those that explain all the others.

    `count` is how many rows wait, `decided` when the newest were, CLOCK_BOOTTIME ns; `urgent` says that some
    of them are not to wait, or that there are enough for a commit: `enough` bytes.
    """

    def __init__(self, enough: int = COMMIT_BYTES) -> None:
        self.rows: dict[str, list[Batch]] = {}
        self.first: list[Block] = []
        self._notices: list[Block] = []
        self.count = 0
        self.decided = 0
        self.urgent = False
        self._bytes = 0
        self._enough = enough

    def __bool__(self) -> bool:
        return bool(self.rows or self.first or self._notices)

    @property
    def notices(self) -> list[Block]:
        """Notices in the order in which they are to be committed."""
        return [*self.first, *self._notices]

    def tell(self, notice: Block) -> None:
        """Queue a notice."""
        self._notices.append(notice)

    def add(self, output: str, batch: Batch, decided: int) -> None:
        """Queue rows; they are copied, because they may lie in memory that is used again."""
        self.rows.setdefault(output, []).append(copied(batch))
        self.count += len(batch)
        self._bytes += _size(batch)
        self.urgent |= self._bytes > self._enough
        self.decided = decided

    def shed(self, most: int = MAX_BYTES) -> int:
        """Let the oldest go where more waits than `most` bytes; return how many rows and notices went."""
        gone = max(0, len(self._notices) - min(MAX_NOTICES, most // NOTICE_BYTES))
        del self._notices[:gone]
        if self._bytes > most:
            while self._bytes > most // 2:
                gone += self._drop_oldest()
        return gone

    def _drop_oldest(self) -> int:
        output = min(self.rows, key=lambda name: int(self.rows[name][0].t[0]))
        batches = self.rows[output]
        batch = batches.pop(0)
        if not batches:
            del self.rows[output]
        self.count -= len(batch)
        self._bytes -= _size(batch)
        return len(batch)


def copied(batch: Batch) -> Batch:
    """Return rows in memory of their own."""
    return Batch(batch.values.copy(), batch.t.copy(), batch.key.copy(), batch.span.copy(), batch.columns)


def _size(batch: Batch) -> int:
    return batch.values.nbytes + batch.t.nbytes + batch.key.nbytes + batch.span.nbytes
