"""The file input: a recorded file, read once, as fast as the pipeline takes it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

from edgeflow_agent.core.batch import Int64s
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.reactor import Timer
from edgeflow_agent.inputs.base import Input, InputContext
from edgeflow_agent.inputs.decode.base import Samples, part
from edgeflow_agent.inputs.recording import open_rows
from edgeflow_proto.pipeline.kinds.inputs import File

log = logging.getLogger("edgeflow.io")


class FileInput(Input):
    """Writes as many rows as the ring has room for, a block a turn.

    Row number i of the file is row i of the ring, so a writer that takes over from a dead one goes on
    where that one stopped, at the times the rows would have had.
    """

    def __init__(self, options: File, context: InputContext) -> None:
        self._feed = context.feed
        self._loop = context.loop
        self._rows = open_rows(context.folder / options.path, context.intake, self._reject)
        self._period = 1e9 / (context.intake.rate or 1.0)
        self._next = context.feed.writer.head
        self._start = boottime_ns() if not self._next else self._started()
        self._skip = self._next
        self._left = self._blocks()
        self._block: Samples | None = None
        self._timer: Timer | None = self._loop.after(0, self._pump)

    def _started(self) -> int:
        passed = round((self._next - 1) * self._period)
        return int(self._feed.writer.newest - passed)

    def _reject(self, reason: str, where: str, count: int) -> None:
        if not self._skip:  # the one before has counted what it passed
            self._feed.reject(reason, where, count)

    def _blocks(self) -> Iterator[Samples]:
        """Yield the rows that the one before has not written."""
        for block in self._rows:
            passed = min(self._skip, len(block.values))
            self._skip -= passed
            if passed < len(block.values):
                yield part(block, slice(passed, None))
        log.info(
            "%s: read to its end, %d lines or rows left out",
            self._rows.path.name,
            self._rows.rejected.total(),
        )

    def space(self) -> None:
        """Go on."""
        if self._timer is None:
            self._timer = self._loop.after(0, self._pump)

    def _pump(self) -> None:
        self._timer = None
        if self._block is None:
            self._block = next(self._left, None)
        room = self._feed.writer.space()
        if self._block is None or room <= 0:
            return
        rows, rest = part(self._block, slice(room)), part(self._block, slice(room, None))
        self._block = rest if len(rest.values) else None
        self._feed.rows(rows.values, self._times(rows), rows.keys)
        self._feed.publish()
        self._next += len(rows.values)
        self.space()

    def _times(self, rows: Samples) -> Int64s:
        if rows.times is not None:
            return rows.times
        numbers = np.arange(self._next, self._next + len(rows.values))
        return self._start + np.round(numbers * self._period).astype(np.int64)

    def close(self) -> None:
        """Close the file."""
        if self._timer is not None:
            self._timer.cancel()
        self._left = iter(())
