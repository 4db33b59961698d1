"""Recording in a worker: rows that were run go from their rings to the disk, and nothing waits for it.

What is recorded is known by row numbers alone. So a worker that was killed goes on where the recording ends,
with rows that are in the rings still, and rows that are run again are not recorded again. Where the disk
or the limit refuses, rows stay in the rings until their writers come round; what these overwrite is counted,
and so is what still waits at the end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from edgeflow_agent.core import clock
from edgeflow_agent.core.batch import Int64s
from edgeflow_agent.core.board import Slot
from edgeflow_agent.flow.recorded import Recorded, Stretches, Wanted
from edgeflow_agent.flow.source import Source
from edgeflow_agent.store.journal import JournalError, LimitError
from edgeflow_agent.store.recording import Recording
from edgeflow_agent.store.segment import PAGE
from edgeflow_proto.pipeline.graph import Graph
from edgeflow_proto.rows import Rows

log = logging.getLogger("edgeflow.recorder")
EVERY_NS = 10**9  # shortest time between two commits, unless much waits
COMMIT_BYTES = 1 << 20  # of rows, which are worth a commit of their own
PORTION_BYTES = 4 << 20  # of rows in one commit, at most
STATE_BYTES = 4 << 20  # on disk, from one state of the steps to the next; a larger one is not told
MAX_PATIENCE = 10  # times the usual, between two tries


class Recorder:
    """Records the inputs of one worker that want it. `state` gives what its steps remember."""

    def __init__(
        self, graph: Graph, sources: Mapping[str, Source], slot: Slot, digest: str, state: Callable[[], bytes]
    ) -> None:
        intakes = {name: node.intake for name, node in graph.inputs.items() if node.intake.record != "off"}
        self._inputs = {
            name: Recorded(sources[name], intake, graph.flows[name], slot) for name, intake in intakes.items()
        }
        self._whole = intakes.keys() == graph.inputs.keys() and all(r.whole for r in self._inputs.values())
        self._digest, self._state = digest, state
        self._recording: Recording | None = None
        self._path, self._limit = Path(), 0
        self._tried = self._refused = 0
        self._stateless = STATE_BYTES  # bytes on disk since the newest state
        self._gone = slot.counter("recording_evicted_total")
        self._damaged = slot.counter("recording_damaged_total")
        self._bytes = slot.counter("recording_bytes")
        self._failing = slot.counter("recording_refused")

    def resume(self, wanted: Mapping[str, Wanted]) -> None:
        """Take up how far a worker that was killed had come, and what it still had to record."""
        for name, found in wanted.items():
            if name in self._inputs:
                self._inputs[name].resume(found)

    def begin(self, path: Path, limit: int) -> None:
        """Go on where the recording in a folder ends, which may take `limit` bytes."""
        self._path = path
        self._divide(limit)
        if self._inputs:
            self._open()

    def _divide(self, limit: int) -> None:
        """Let a commit be a quarter of the limit at most, of which each input has its share."""
        self._limit = limit
        for recorded in self._inputs.values():
            recorded.portion = min(PORTION_BYTES, limit // 4) // len(self._inputs)

    def _open(self) -> Recording | None:
        """Return the recording, ``None`` where it cannot be opened."""
        if self._recording is None:
            try:
                self._recording = Recording(self._path, self._limit)
            except JournalError as error:
                self._refuse(error)
                return None
            self._damaged.add(len(self._recording.damaged))
            for name, recorded in self._inputs.items():
                recorded.go_on(self._recording.next.get(name, 0))
        return self._recording

    @property
    def wanted(self) -> dict[str, Wanted]:
        """How far each input has come, and what of it is still to be recorded around events."""
        return {name: recorded.wanted for name, recorded in self._inputs.items()}

    def limit(self, limit: int) -> None:
        """Keep within another limit from now on."""
        self._divide(limit)
        self._tried = 0
        if self._recording is not None:
            self._gone.add(self._recording.trim(limit))
            self._bytes.set(self._recording.bytes)

    def needed(self, source: Source) -> int:
        """Return from which row on the ring of an input is needed; nothing is while none can be recorded."""
        recorded = self._inputs.get(source.name)
        return source.reader.position if recorded is None or self._refused else recorded.needed

    def events(self, inputs: Sequence[str], span: Int64s) -> None:
        """Take note of events by the rows behind them, int64 ``(n, 2·inputs)``."""
        for name, recorded in self._inputs.items():
            place = 2 * inputs.index(name) if name in inputs else -1
            recorded.events(span[:, place : place + 2] if place >= 0 else None)

    def skip(self, source: Source) -> None:
        """Note that the next row of an input is not run, because workers died on it."""
        if source.name in self._inputs:
            self._inputs[source.name].skip()

    # writing

    def turn(self, now: int) -> None:
        """Write what waits when it is time, or much waits."""
        every = EVERY_NS * min(MAX_PATIENCE, 1 + self._refused)
        if self._inputs and (now - self._tried >= every or (not self._refused and self._much)):
            self._write(now)

    def committed(self, now: int) -> None:
        """Write the rows around events that have just been committed, unless that was refused before."""
        if not self._refused and any(not r.whole and r.stretches() for r in self._inputs.values()):
            self._write(now)

    @property
    def _much(self) -> bool:
        inputs = self._inputs.values()
        return sum(recorded.waiting for recorded in inputs) >= COMMIT_BYTES or any(r.pressed for r in inputs)

    def end(self) -> None:
        """Write all that waits, count what cannot be written, and close."""
        while self._write(clock.boottime_ns()):
            pass
        for recorded in self._inputs.values():
            recorded.lose(recorded.reader.position)
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.close()

    def _write(self, now: int) -> bool:
        """Write a portion of what waits of each input, in one commit; return whether any could be."""
        self._tried = now
        for recorded in self._inputs.values():
            recorded.lose(recorded.reader.oldest())
        waits = self._refused or any(recorded.stretches() for recorded in self._inputs.values())
        recording = self._open() if waits else None
        return recording is not None and self._commit(recording, now)

    def _commit(self, recording: Recording, now: int) -> bool:
        """Write a portion; return whether it could be."""
        taken = {name: recorded.stretches() for name, recorded in self._inputs.items()}
        blocks = self._blocks(taken, now)
        try:
            self._gone.add(recording.write(blocks))
        except JournalError as error:
            self._refuse(error)
            return False
        self._refused = 0
        self._failing.set(0)
        self._bytes.set(recording.bytes)
        for name, recorded in self._inputs.items():
            recorded.passed(taken[name], sum(block.count for block in blocks if block.input == name))
        return True

    def _blocks(self, taken: Mapping[str, Stretches], now: int) -> list[Rows]:
        """Return the blocks of a commit; the newest says what the steps remember, once in a while."""
        known = clock.now()
        following = {name: self._inputs[name].after(stretches) for name, stretches in taken.items()}
        blocks = [
            msgspec.structs.replace(block, next=following, written_ns=now)
            for name, recorded in self._inputs.items()
            for block in recorded.blocks(taken[name], known, self._digest)
        ]
        if blocks and self._whole:
            self._stateless += sum(map(_on_disk, blocks))
            blocks[-1] = msgspec.structs.replace(blocks[-1], state=self._told(following))
        return blocks

    def _told(self, following: Mapping[str, int]) -> bytes:
        """Return what the steps remember where that is due, and no rows are missing from it."""
        if self._stateless < STATE_BYTES or not self._all(following):
            return b""
        self._stateless = 0
        state = self._state()
        return state if len(state) <= min(STATE_BYTES, self._limit // 4) else b""

    def _all(self, following: Mapping[str, int]) -> bool:
        """Whether all rows that were run are recorded then: the steps remember no others."""
        return all(recorded.at == following[name] for name, recorded in self._inputs.items())

    def _refuse(self, error: JournalError) -> None:
        """Try again later, and say then what the steps remember: rows may be missing before."""
        self._stateless = STATE_BYTES
        if not self._refused:
            log.error("%s is not recorded: %s", self._path.name, error)
        self._refused += 1
        self._failing.set(2 if isinstance(error, LimitError) else 1)


def _on_disk(block: Rows) -> int:
    """Return how many bytes a block takes: one that fills half a page takes whole ones of its own."""
    size = len(block.encode())
    return size if size < PAGE // 2 else -(-size // PAGE) * PAGE
