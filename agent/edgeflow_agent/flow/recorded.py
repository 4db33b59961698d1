"""What is recorded of one input: which of its rows, and as which blocks. The ring is the only buffer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import msgspec
import numpy as np

from edgeflow_agent.core.batch import Batch, Int64s
from edgeflow_agent.core.board import Slot, labelled
from edgeflow_agent.core.ring import KEY_MASK, Gap
from edgeflow_agent.flow.queue import copied
from edgeflow_agent.flow.source import Source
from edgeflow_proto.event import ROW_BITS, Clock
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.base import Around, Intake
from edgeflow_proto.pipeline.units import Extent
from edgeflow_proto.rows import MAX_BLOCK_ROWS, SKIPPED, Rows

BLOCK_BYTES = 256 << 10
STRETCH_BYTES = 4096  # that the shortest stretch may take on disk
_ROW = (1 << ROW_BITS) - 1

Stretches = list[tuple[int, int]]  # rows of the ring, from the first to before the second


class Wanted(msgspec.Struct, array_like=True):
    """What is to be recorded around events: whole stretches, and one that rows still come to.

    That one goes from row `start` (-1: there is none) to before row `end`, and on up to time `until`. `since`
    is the first row of the stretch that was recorded last. Of the rows before `done` none is to be recorded
    any more: they are, or were counted as dropped, or never were to be. `skipped` are rows that were not run,
    because workers died on them; they are recorded as such.
    """

    whole: Stretches = []
    start: int = -1
    end: int = 0
    until: int = -1
    since: int = 0
    done: int = 0
    skipped: list[int] = []


class Recorded:
    """One input: all before row `done` that is ever to be recorded is. `wanted` outlives the worker.

    So an event that reaches back over rows that were passed by, as one of a longer window may when a shorter
    one's rows are recorded already, has fewer rows before it; that is counted as a short stretch.
    """

    def __init__(self, source: Source, intake: Intake, flow: Flow, slot: Slot) -> None:
        self.reader = source.reader
        self.name = source.name
        self.wanted = Wanted()
        self.portion = 0  # bytes of its rows in one commit, at most; a row goes in whatever it takes
        self._around = intake.record if isinstance(intake.record, Around) else None
        self._payload = flow.domain == "payload"
        self._key_name = source.key_name if flow.key is not None else None
        spec = self.reader.spec
        self._row_bytes = spec.row_bytes + 8 + (4 if self._key_name else 0)
        self._kept = spec.capacity // 2
        self._base = spec.generation << ROW_BITS
        counters = ("recorded_rows_total", "recording_dropped_total", "recording_short_total")
        self._rows, self._dropped, self._short = (
            slot.counter(labelled(name, input=self.name)) for name in counters
        )

    @property
    def whole(self) -> bool:
        """Whether all rows are recorded."""
        return self._around is None

    @property
    def done(self) -> int:
        """The row before which all that is ever to be recorded is."""
        return self.wanted.done

    def after(self, stretches: Stretches) -> int:
        """Return the number of the row that comes next once stretches are written."""
        return self._base | max(self.done, stretches[-1][1] if stretches else 0)

    @property
    def at(self) -> int:
        """The number of the row that is to be run next."""
        return self._base | self.reader.position

    def go_on(self, following: int) -> None:
        """Take up where a recording ends, if the row that comes next there is one of this ring."""
        if following >> ROW_BITS == self.reader.spec.generation:
            self._pass(following & _ROW)

    def resume(self, wanted: Wanted) -> None:
        """Take up where a worker was that was killed."""
        done, self.wanted = self.done, wanted
        self._pass(done)

    def _pass(self, row: int) -> None:
        """All before a row is done with."""
        self.wanted.done = max(self.wanted.done, row)

    @property
    def needed(self) -> int:
        """The row from which on a writer that waits for its readers must leave the ring as it is."""
        position = self.reader.position
        if self.whole:
            return min(self.done, position)
        return max(0, position - self._kept)

    # around events

    def events(self, span: Int64s | None) -> None:
        """Want the rows around events by the rows behind them, int64 ``(n, 2)``.

        Where none of this input is behind an event, it is the row that the input has come to.
        """
        if self._around is None:
            return
        known = np.empty((0, 2), np.int64) if span is None else span[span[:, 1] >= 0] - self._base
        for first, last in _joined(known):
            self._want(max(0, first), last, self._around)
        if span is None or len(known) < len(span):
            newest = max(0, self.reader.position - 1)
            self._want(newest, newest, self._around)

    def _want(self, first: int, last: int, around: Around) -> None:
        start, wanted = self._start(first, around.before), self.wanted
        if start < min(wanted.since, self.done):
            self._short.add()
        self._let_go()
        start = max(self.done, start)
        if wanted.start >= 0 and start > (stop := self._stop()):
            wanted.whole.append((wanted.start, stop))
            wanted.start, wanted.end, wanted.until = -1, 0, -1
        wanted.start = start if wanted.start < 0 else min(start, wanted.start)
        wanted.end = max(wanted.end, last + 1 + _rows(around.after))
        if around.after is not None and around.after.ns is not None and last >= self.reader.oldest():
            wanted.until = max(wanted.until, int(self.reader.at(last, 1).t[0]) + around.after.ns)

    def _let_go(self) -> None:
        """Keep no more stretches than the ring has rows: once half of them are overwritten, let those go."""
        whole = self.wanted.whole
        if whole and whole[len(whole) // 2][1] <= (oldest := self.reader.oldest()):
            self.lose(oldest)

    def _start(self, row: int, before: Extent | None) -> int:
        """Return the first row that is to be recorded with `row`."""
        oldest = self.reader.oldest()
        if before is None or before.ns is None or row < oldest:
            return max(0, row - _rows(before))
        t = self.reader.at(oldest, row - oldest + 1).t
        start = oldest + int(np.searchsorted(t, t[-1] - before.ns))
        if self.done < start == oldest:  # of those before it nobody can tell any more which were wanted
            self._short.add()
        return start

    def _stop(self) -> int:
        """Return the row behind the stretch that rows still come to, as far as they have come."""
        wanted, position = self.wanted, self.reader.position
        start, end = max(wanted.start, self.reader.oldest()), min(wanted.end, position)
        if wanted.until < 0 or start >= position:
            return end
        found = np.searchsorted(self.reader.at(start, position - start).t, wanted.until, "right")
        return max(end, start + int(found)) if found else end

    # what is written

    def stretches(self) -> Stretches:
        """Return the rows to be written now, at most a portion of them.

        There are none before the writer has said how far it is: what it is about to overwrite is not known.
        """
        if self.reader.head < self.reader.position:
            return []
        left, out = self.portion, Stretches()
        for start, stop in self._waiting():
            count = min(stop - start, max(1, left // self._row_bytes))
            out.append((start, start + count))
            left -= max(STRETCH_BYTES, count * self._row_bytes)
            if left <= 0:
                break
        return out

    def _waiting(self) -> Stretches:
        """Return all rows that are to be written and have come, whether or not they were overwritten."""
        if self.whole:
            found = [(self.done, self.reader.position)]
        else:
            found = [*self.wanted.whole]
            found += [(self.wanted.start, self._stop())] if self.wanted.start >= 0 else []
        return _merged(sorted(found), self.done)

    @property
    def waiting(self) -> int:
        """How many bytes wait to be written, of the next portion."""
        return self._bytes_of(self.stretches())

    def _bytes_of(self, stretches: Stretches) -> int:
        return self._row_bytes * sum(stop - start for start, stop in stretches)

    @property
    def pressed(self) -> bool:
        """Whether half a portion waits, or the writer of the ring will soon come round to what does."""
        stretches = self.stretches()
        late = bool(stretches) and self.reader.head - stretches[0][0] > self._kept
        return late or 2 * self._bytes_of(stretches) > self.portion

    def blocks(self, stretches: Stretches, clock: Clock, digest: str) -> Iterator[Rows]:
        """Yield the rows of stretches, without those that were overwritten."""
        step = min(MAX_BLOCK_ROWS, max(1, BLOCK_BYTES // self._row_bytes))
        for start, stop in stretches:
            for row in range(start, stop, step):
                batch = self._taken(row, min(stop, row + step))
                if len(batch):
                    yield self._block(batch, clock, digest)

    def _taken(self, row: int, stop: int) -> Batch:
        """Copy rows, then see which of them the writer cannot have been at meanwhile."""
        start = min(stop, max(row, self.reader.oldest()))
        batch = copied(self.reader.at(start, stop - start))
        self.reader.poll()
        return batch.take(slice(max(0, self.reader.oldest() - start), None))

    def _block(self, batch: Batch, clock: Clock, digest: str) -> Rows:
        spec, name = self.reader.spec, self._key_name
        marks, first = np.flatnonzero(batch.key > KEY_MASK).tolist(), int(batch.span[0, 0])
        places = [(self._base | row) - first for row in self.wanted.skipped]
        skipped = {place: SKIPPED for place in places if 0 <= place < len(batch)}
        keys, key = np.unique(batch.key & np.uint32(KEY_MASK), return_inverse=True)
        return Rows(
            input=self.name, first=first, count=len(batch), clock=clock, t=_bytes(batch.t),
            shape=spec.shape, dtype=spec.dtype, values=_bytes(batch.values), columns=batch.columns or (),
            keys=tuple(map(name, keys.tolist())) if name else (),
            numbers=tuple(keys.tolist()) if name else (), key=_bytes(key.astype(np.uint32)) if name else b"",
            gaps={row: Gap(int(batch.key[row]) >> 28).name.lower() for row in marks} | skipped, digest=digest,
            domain="payload" if self._payload else "arrival",
        )  # fmt: skip

    def passed(self, stretches: Stretches, recorded: int) -> None:
        """Count what was written of stretches, `recorded` rows, and what of them never will be."""
        self._rows.add(recorded)
        self._dropped.add(sum(stop - start for start, stop in stretches) - recorded)
        for start, stop in stretches:
            if start > self.done:
                self.wanted.since = start
            self._pass(stop)
        self.wanted.whole = [(start, stop) for start, stop in self.wanted.whole if stop > self.done]

    def skip(self) -> None:
        """The next row is not run."""
        oldest = self.reader.oldest()
        known = [row for row in self.wanted.skipped if row >= oldest]
        self.wanted.skipped = [*known, self.reader.position]

    def lose(self, upto: int) -> None:
        """Count as dropped what was to be recorded of the rows before one: it never will be."""
        self.passed([(start, min(stop, upto)) for start, stop in self._waiting() if start < upto], 0)


def _rows(extent: Extent | None) -> int:
    return 0 if extent is None else extent.rows or 0


def _joined(span: Int64s) -> Iterator[tuple[int, int]]:
    """Yield first and last row of events, those as one whose rows overlap or follow each other."""
    if not len(span):
        return
    behind = np.maximum.accumulate(span[:, 1])
    cuts = [0, *(np.flatnonzero(span[1:, 0] > behind[:-1] + 1) + 1).tolist(), len(span)]
    for start, stop in pairwise(cuts):
        part = span[start:stop]
        yield int(part[:, 0].min()), int(part[:, 1].max())


def _merged(stretches: Stretches, done: int) -> Stretches:
    """Return stretches in order, each row once, without rows before `done`."""
    out: Stretches = []
    for start, stop in stretches:
        if stop > done:
            out.append((max(start, done), stop))
            done = stop
    return out


def _bytes(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> bytes:
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
