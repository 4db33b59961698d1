"""A recording run again: its rows go through pipelines as they went through the worker that recorded them.

Rows keep their numbers, times, gaps and keys, so events come out with the spans they had. What steps remember
is known from the beginning of a pipeline on, and wherever the recording says it; where rows are missing, or
the agent was started anew, it is not known until it is said again, and differences there say nothing.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise

import numpy as np

from edgeflow_agent.core.batch import Batch, numbered
from edgeflow_proto.event import ROW_BITS, Event
from edgeflow_proto.pipeline.graph import InputNode
from edgeflow_proto.rows import Course, Rows
from edgeflow_tools.engine import Engine
from edgeflow_tools.rowfiles import values_of
from edgeflow_tools.terminal import Failure

MAX_ROWS = 1024  # of one call of the graph, as in a worker
SLACK_NS = 200_000_000  # how long after its time a row may come to its ring, as in a worker
_ROW = (1 << ROW_BITS) - 1
_SPAN = re.compile(r"(\S+):([0-9]+)-([0-9]+)")


class Player:
    """One pipeline that is given recorded rows; `own` says that it is the one that recorded them."""

    def __init__(self, engine: Engine, *, own: bool) -> None:
        self.engine = engine
        self.own = own

    def restore(self, state: bytes) -> None:
        """Remember what the recording says; raises ValueError where that is another version's."""
        if self.own:
            self.engine.runtime.restore(state)

    def gap(self, names: Iterable[str]) -> None:
        """Rows of inputs are missing before the next."""
        for name in names:
            if name in self.engine.graph.inputs:
                self.engine.runtime.gap(name)

    def push(self, rows: Rows) -> list[Event]:
        """Run rows; return their events. Raises Failure where they are none that its input takes."""
        node = self.engine.graph.inputs.get(rows.input)
        if node is None:
            return []
        batch, made = self._batch(rows, node), list[Event]()
        self.engine.clock = rows.clock
        for start, stop in pairwise(sorted({*range(0, rows.count, MAX_ROWS), *rows.gaps, rows.count})):
            if start in rows.gaps:
                self.gap([rows.input])
            made += self.engine.push(rows.input, batch.take(slice(start, stop)))
        return made

    def tick(self, t: int) -> list[Event]:
        """Let time pass."""
        return self.engine.tick(t)

    def _batch(self, rows: Rows, node: InputNode) -> Batch:
        key = np.zeros(rows.count, np.uint32)
        if rows.keys and node.intake.key:
            self.engine.key_names[rows.input] |= dict(zip(rows.numbers, rows.keys, strict=True))
            key = np.array(rows.numbers, np.uint32)[np.frombuffer(rows.key, "<u4")]
        t = np.frombuffer(rows.t, "<i8").astype(np.int64)
        return numbered(_values(rows, node), t, key, rows.first, node.intake.columns)


def _values(rows: Rows, node: InputNode) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """Return values as an input takes them: its columns, in its order; raises Failure."""
    intake, values = node.intake, values_of(rows)
    if intake.columns is not None and rows.columns and tuple(intake.columns) != rows.columns:
        missing = [name for name in intake.columns if name not in rows.columns]
        if missing:
            raise Failure(
                f"inputs.{node.name}: no column '{missing[0]}' is recorded ({', '.join(rows.columns)})"
            )
        values = values[..., [rows.columns.index(name) for name in intake.columns]]
    if values.shape[1:] != intake.row_shape:
        told = f"{list(values.shape[1:])}, not {list(intake.row_shape)}"
        raise Failure(f"inputs.{node.name}: rows of shape {told} are recorded")
    if not np.can_cast(values.dtype, intake.dtype, "same_kind"):
        raise Failure(f"inputs.{node.name}: {rows.dtype} is recorded, not {intake.dtype}")
    return values.astype(intake.dtype, copy=False)


class Stretches:
    """Rows by input, as stretches without a hole."""

    def __init__(self) -> None:
        self._stretches: dict[str, list[list[int]]] = {}

    def add(self, rows: Rows) -> None:
        """Rows were run; they are of the newest stretch where they follow it."""
        stretches = self._stretches.setdefault(rows.input, [])
        if stretches and stretches[-1][1] == rows.first:
            stretches[-1][1] = rows.end
        else:
            stretches.append([rows.first, rows.end])

    def holds(self, span: str) -> bool:
        """Say whether all rows of a span, as events tell it, are within one stretch each."""
        found = [(match[1], int(match[2]), int(match[3])) for match in _SPAN.finditer(span)]
        return bool(found) and all(self._within(*each) for each in found)

    def reach(self, span: str) -> bool:
        """Say whether the last row of each input in a span is here."""
        found = [(match[1], int(match[3])) for match in _SPAN.finditer(span)]
        return bool(found) and all(self._within(name, last, last) for name, last in found)

    def _within(self, name: str, first: int, last: int) -> bool:
        stretches = self._stretches.get(name, [])
        place = bisect_right(stretches, first, key=lambda stretch: stretch[0]) - 1
        return place >= 0 and last < stretches[place][1]


class Pace:
    """Lets as much time pass between commits as passed between them; of that between two boots, none."""

    def __init__(self) -> None:
        self._boot = ""
        self._ahead = 0.0  # seconds from when something was written to now

    def wait(self, boot: str, written_ns: int) -> None:
        """Wait until it is time for what was written then."""
        written = written_ns / 1e9
        if boot != self._boot:
            self._boot, self._ahead = boot, time.monotonic() - written
        time.sleep(max(0.0, written + self._ahead - time.monotonic()))


class Replay:
    """One way through a recording; what it came to is there to be read at any time."""

    def __init__(self, players: Sequence[Player], digest: str, since_ns: int | None = None) -> None:
        """`digest` names the pipeline whose rows are run; those before `since_ns` only lead up."""
        self._players = players
        self._digest = digest
        self._since = since_ns
        self._course = Course()
        self._generation = -1
        self._certain = False
        self.ran, self.known = (
            Stretches(),
            Stretches(),
        )  # rows; and those with what the steps remembered known
        self.other = 0  # rows that another pipeline of the name ran
        self.holes = self.restarts = self.rows = 0

    def events(self, blocks: Iterable[Rows], *, paced: bool = False) -> Iterator[list[list[Event]]]:
        """Run blocks in their order; yield the events that each player made of each commit's.

        Raises Failure and StepStoppedError.
        """
        pace = Pace() if paced else None
        for (boot, written), group in groupby(blocks, key=lambda rows: (rows.clock.boot_id, rows.written_ns)):
            commit = [rows for rows in group if self._mine(rows)]
            if commit and pace is not None:
                pace.wait(boot, written)
            if commit:
                yield self._commit(commit)

    def _mine(self, rows: Rows) -> bool:
        mine = rows.digest == self._digest
        self.other += 0 if mine else rows.count
        return mine

    def _commit(self, commit: Sequence[Rows]) -> list[list[Event]]:
        times = [
            int.from_bytes(rows.t[:8], "little", signed=True) for rows in commit if rows.domain == "arrival"
        ]
        made = [player.tick(min(times) - SLACK_NS) if times else [] for player in self._players]
        for rows in commit:
            if self._warm(rows):
                continue
            self._before(rows)
            for place, player in enumerate(self._players):
                made[place] += player.push(rows)
            self._behind(rows)
        return [[*player.engine.numbered(events)] for player, events in zip(self._players, made, strict=True)]

    def _warm(self, rows: Rows) -> bool:
        """Take up the state that a recording which is read from a moment on begins with."""
        if self._generation >= 0 or not rows.state or self._since is None or not self._before_since(rows):
            return False
        self._generation = rows.generation
        self._course.begin(rows.next)
        self._take_up(rows)
        return True

    def _before_since(self, rows: Rows) -> bool:
        return self._since is not None and rows.written_ns + rows.clock.offset_ns < self._since

    def _before(self, rows: Rows) -> None:
        """Tell the players what is missing before rows."""
        hole = self._course.take(rows)
        if rows.generation != self._generation:
            self._certain = self._generation < 0 and rows.first & _ROW == 0
            self.restarts += self._generation >= 0
            self._generation = rows.generation
            for player in self._players:
                player.gap(player.engine.graph.inputs)
        elif hole is not None:
            self.holes += 1
            self._certain = False
            for player in self._players:
                player.gap([rows.input])

    def _behind(self, rows: Rows) -> None:
        """Note that rows were run."""
        self.rows += rows.count
        if not self._before_since(rows):
            self.ran.add(rows)
            if self._certain:
                self.known.add(rows)
        if rows.state and not self._certain:
            self._take_up(rows)

    def _take_up(self, rows: Rows) -> None:
        for player in self._players:
            try:
                player.restore(rows.state)
            except ValueError as error:
                raise Failure(f"what the steps remembered cannot be taken up: {error}") from None
        self._certain = True
