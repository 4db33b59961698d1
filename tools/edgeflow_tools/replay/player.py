"""A recording run again: its rows go through pipelines as they went through the worker that recorded them.

Rows keep their numbers, times, gaps and keys, so events come out with the spans they had. What steps remember
is known from the beginning of a pipeline on, and wherever the recording says it; where rows are missing, or
the agent was started anew, it is not known until it is said again, and differences there say nothing.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import lru_cache
from itertools import groupby, pairwise
from typing import Protocol

import numpy as np

from edgeflow_agent.core.batch import Batch, numbered
from edgeflow_proto.event import ROW_BITS, Event
from edgeflow_proto.pipeline.graph import InputNode
from edgeflow_proto.rows import SKIPPED, Course, Rows
from edgeflow_tools.engine import Engine, Step
from edgeflow_tools.replay.memory import Memory
from edgeflow_tools.replay.pace import Pace
from edgeflow_tools.replay.prints import Prints
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
        self.prints = Prints("the pipeline" if own else "the candidate")
        self.commits = Step()  # what it took to run each
        self._begun = b""  # what its steps remember before the first row
        self._spent = 0  # ns until the newest
        self.memory: Memory | None = None  # of one beside it, once it was to remember what the other did

    def begin(self) -> None:
        """Remember nothing; the first call, before any row, notes how that is."""
        self._begun = self._begun or self.engine.runtime.state()
        self.engine.runtime.restore(self._begun)

    def restore(self, state: bytes, by: Player, age: int) -> None:
        """Remember what the recording says that player did, as far as it fits; raises ValueError."""
        if self.own:
            self.engine.runtime.restore(state)
            return
        self.memory = self.memory or Memory(self.engine, by.engine)
        self.engine.runtime.adopt(state, self.memory.fits)
        self.memory.begin(age)

    def gap(self, names: Iterable[str]) -> None:
        """Rows of inputs are missing before the next."""
        for name in names:
            if name in self.engine.graph.inputs:
                self.engine.runtime.gap(name)

    def push(self, rows: Rows) -> list[Event]:
        """Run rows, but for those that the device took out; return their events.

        Raises Failure where they are none that its input takes.
        """
        node = self.engine.graph.inputs.get(rows.input)
        if node is None:
            return []
        batch, made = self._batch(rows, node), list[Event]()
        self.engine.clock = rows.clock
        for start, stop in pairwise(_cuts(rows)):
            if start in rows.gaps:
                self.gap([rows.input])
            if rows.gaps.get(start) == SKIPPED:
                continue
            with self.prints.taken():
                made += self.engine.push(rows.input, batch.take(slice(start, stop)))
        return made

    def tick(self, t: int) -> list[Event]:
        """Let time pass."""
        with self.prints.taken():
            return self.engine.tick(t)

    def committed(self) -> None:
        """Note that a commit has been run."""
        rows, ns = sum(self.engine.rows.values()), self.engine.spent.pushing
        self.commits.ran(rows - self.commits.rows, ns - self._spent)
        self._spent = ns

    def _batch(self, rows: Rows, node: InputNode) -> Batch:
        key = np.zeros(rows.count, np.uint32)
        if rows.keys and node.intake.key:
            self.engine.key_names[rows.input] |= dict(zip(rows.numbers, rows.keys, strict=True))
            key = np.array(rows.numbers, np.uint32)[np.frombuffer(rows.key, "<u4")]
        t = np.frombuffer(rows.t, "<i8").astype(np.int64)
        return numbered(_values(rows, node), t, key, rows.first, node.intake.columns)


def _cuts(rows: Rows) -> list[int]:
    """Return where calls of the graph begin and end: a gap begins one, and a row that was not run is one."""
    behind = (place + 1 for place, why in rows.gaps.items() if why == SKIPPED)
    return sorted({*range(0, rows.count, MAX_ROWS), *rows.gaps, *behind, rows.count})


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


@lru_cache(4096)  # each is asked for several times, by what a pipeline said and by what it says again
def rows_of(span: str) -> Mapping[str, tuple[int, int]]:
    """Return the first and the last row of each input in a span, as events tell it."""
    return {match[1]: (int(match[2]), int(match[3])) for match in _SPAN.finditer(span)}


class Stretches:
    """Rows by input, as stretches without a hole."""

    def __init__(self) -> None:
        self._stretches: dict[str, list[list[int]]] = {}

    def __bool__(self) -> bool:
        """Say whether there are any."""
        return bool(self._stretches)

    def add(self, rows: Rows) -> None:
        """Rows were run; they are of the newest stretch where they follow it."""
        stretches = self._stretches.setdefault(rows.input, [])
        if stretches and stretches[-1][1] == rows.first:
            stretches[-1][1] = rows.end
        else:
            stretches.append([rows.first, rows.end])

    def holds(self, span: str) -> bool:
        """Say whether all rows of a span, as events tell it, are within one stretch each."""
        found = rows_of(span)
        return bool(found) and all(self._within(name, *ends) for name, ends in found.items())

    def reach(self, span: str) -> bool:
        """Say whether the last row of each input in a span is here."""
        found = rows_of(span)
        return bool(found) and all(self._within(name, last, last) for name, (_, last) in found.items())

    def _within(self, name: str, first: int, last: int) -> bool:
        stretches = self._stretches.get(name, [])
        place = bisect_right(stretches, first, key=lambda stretch: stretch[0]) - 1
        return place >= 0 and last < stretches[place][1]


class Others(Protocol):
    """Who takes the rows that other versions of a pipeline ran, when the players do not."""

    def run(self, commit: Sequence[Rows], /) -> None:
        """Take rows that were written together."""

    def end(self) -> None:
        """No more of them come for now."""


class Replay:
    """One way through a recording; what it came to is there to be read at any time."""

    def __init__(
        self,
        players: Sequence[Player],
        digest: str | None,
        since_ns: int | None = None,
        others: Others | None = None,
        otherwise: Set[int] = frozenset(),
    ) -> None:
        """`digest` names the pipeline whose rows are run, without it all are; the `others` get what is left.

        Rows before `since_ns` only lead up. From rings of the generations `otherwise` it ran rows with other
        parameters, as another version.
        """
        self.players = players
        self._others = others
        for player in players if others is not None else ():
            player.begin()
        self.since = since_ns
        self._digest, self._otherwise = digest, otherwise
        self._course = Course()
        self._generations: dict[str, int] = {}  # of the rings, by input: each has its own
        self._seen: set[str] = set()  # inputs that rows have come of, since the agent was started
        self._certain = True
        self._unsettled: deque[Rows] = deque()  # what comes of them may wait for time to pass
        self._waits = any(player.engine.runtime.plan.ticks for player in players)
        self.ran = Stretches()  # rows from `since` on
        self.known = Stretches()  # those of them with what the steps remembered known
        self.led = Stretches()  # rows that were run to lead up to there
        self.following: dict[str, int] = {}  # the numbers of the rows to come, by input
        self.age = 0  # ns that passed on the device while what was run was written
        self.end = 0  # when the newest rows were written, wall time in ns
        self._written = ("", 0)  # boot, and when that was
        self._commits = 0
        # The newest rows were left to the others; they were its own, and what its steps remembered stayed.
        self._left = self._kept = False
        self.other = 0  # rows that another pipeline of the name ran
        self.holes = self.restarts = 0
        self.rows = self.leading = 0  # that were run; those of them that led up
        self.skipped = 0  # those of them that the device took out, and that are left out here too

    def events(self, blocks: Iterable[Rows], pace: Pace | None = None) -> Iterator[list[list[Event]]]:
        """Run blocks in their order; yield the events that each player made of each commit's.

        What leads up is run as fast as it goes, the rest at a `pace`. Raises Failure and StepStoppedError.
        """
        for key, group in groupby(blocks, key=commit_of):
            commit = [*group]
            if pace is not None and self._taken(commit) and not self._before_since(commit[0]):
                pace.wait(*key, missing=self._missing(commit))
            if self._mine(commit[0]):
                yield self.run(commit)
            elif (made := self._leave(commit)) is not None:
                yield made
        if self._others is not None:
            self._others.end()
        if self.rows and not self._left:
            yield self.passed()

    def run(self, commit: Sequence[Rows]) -> list[list[Event]]:
        """Run rows that were written together."""
        if self._left and self._others is not None:
            self._others.end()
            for player in self.players:
                player.begin()
        if self._kept:
            self._miss(None)
        self._left = self._kept = False
        self._pass(*commit_of(commit[0]))
        return self._commit(commit)

    def _leave(self, commit: Sequence[Rows]) -> list[list[Event]] | None:
        """Leave rows that another version ran to the others; return what is due before."""
        self.other += sum(rows.count for rows in commit)
        self._kept = commit[0].digest == self._digest
        if self._others is None:
            return None
        made = self.passed() if self.rows and not self._left else None
        self._left = True
        self._others.run(commit)
        return made

    def _taken(self, commit: Sequence[Rows]) -> bool:
        return self._others is not None or self._mine(commit[0])

    def _missing(self, commit: Sequence[Rows]) -> bool:
        """Say whether rows are missing before these."""
        return any(self.following.get(rows.input, rows.first) != rows.first for rows in commit)

    def _pass(self, boot: str, written_ns: int) -> None:
        """Note when rows were written; between two boots no time is known to have passed."""
        before, self._written = self._written, (boot, written_ns)
        self.age += max(0, written_ns - before[1]) if boot == before[0] else 0

    def _mine(self, rows: Rows) -> bool:
        """Say whether rows, and so all that were written with them, are to be run."""
        return self._digest in (None, rows.digest) and rows.generation not in self._otherwise

    def _commit(self, commit: Sequence[Rows]) -> list[list[Event]]:
        for player in self.players:
            if player.memory is not None:
                player.memory.turn(self.age)
        times = [_time(rows, 0) for rows in commit if rows.domain == "arrival"]
        come = min(times) - SLACK_NS if times else -1
        made: list[list[Event]] = [[] for _ in self.players]
        for place in self._order() if times else ():
            made[place] += self.players[place].tick(come)
        for rows in commit:
            if not self._warm(rows):
                self._before(rows)
                for place in self._order():
                    made[place] += self.players[place].push(rows)
                self._behind(rows)
            self.following |= rows.next or {rows.input: rows.end}
        self._settle(come)
        for player in self.players:
            player.committed()
        self._commits += 1
        return self._numbered(made)

    def _order(self) -> Iterable[int]:
        """Return who is given rows first: each in turn, since the first one finds them in no cache."""
        places = range(len(self.players))
        return reversed(places) if self._commits % 2 else places

    def passed(self) -> list[list[Event]]:
        """Let time pass up to when the last rows were written: the device had run all before."""
        return self._numbered([player.tick(self._written[1]) for player in self.players])

    def _numbered(self, made: list[list[Event]]) -> list[list[Event]]:
        return [[*player.engine.numbered(events)] for player, events in zip(self.players, made, strict=True)]

    def _settle(self, come: int) -> None:
        """Time has come to a moment: what rows before it bring about has been brought about."""
        while self._unsettled and _time(self._unsettled[0], -1) < come:
            self.known.add(self._unsettled.popleft())

    def _warm(self, rows: Rows) -> bool:
        """Take up the state that a recording which is read from a moment on begins with."""
        if self._generations or not rows.state or not self._before_since(rows):
            return False
        self._generations = _generations(rows)
        self._seen = {*rows.next}
        self._take_up(rows)
        return True

    def _before_since(self, rows: Rows) -> bool:
        return self.since is not None and written(rows) < self.since

    def _restarted(self, rows: Rows) -> bool:
        """Say whether the agent was started anew before rows: then every input has another ring."""
        known = self._generations
        return any(known.get(name, now) != now for name, now in _generations(rows).items())

    def _before(self, rows: Rows) -> None:
        """Tell the players what is missing before rows."""
        if self._restarted(rows):
            self.restarts += 1
            self._course, self._generations, self._seen = Course(), {}, set()
            self._miss(None)
        elif rows.input not in self._seen and rows.first & _ROW:
            self._certain = False
        self._generations |= _generations(rows)
        self._seen.add(rows.input)
        if self._course.take(rows) is not None:
            self.holes += 1
            self._miss([rows.input])

    def _miss(self, names: Iterable[str] | None) -> None:
        """Rows are missing of some inputs, or of all: what the steps remembered then is not known."""
        self._certain = False
        self._unsettled.clear()
        for player in self.players:
            player.gap(player.engine.graph.inputs if names is None else names)

    def _behind(self, rows: Rows) -> None:
        """Note that rows were run."""
        self.rows += rows.count
        self.skipped += [*rows.gaps.values()].count(SKIPPED)
        self.end = written(rows)
        if self._before_since(rows):
            self.leading += rows.count
            self.led.add(rows)
        else:
            self.ran.add(rows)
            if self._certain:
                self._know(rows)
        if rows.state and not self._certain:
            self._take_up(rows)

    def _know(self, rows: Rows) -> None:
        """Rows were run with what the steps remembered known; what waits for time is settled by that."""
        if self._waits and rows.domain == "arrival":
            self._unsettled.append(rows)
        else:
            self.known.add(rows)

    def _take_up(self, rows: Rows) -> None:
        for player in self.players:
            try:
                player.restore(rows.state, self.players[0], self.age)
            except ValueError as error:
                raise Failure(f"what the steps remembered cannot be taken up: {error}") from None
        self._course.begin(rows.next)
        self._certain = True


def commit_of(rows: Rows) -> tuple[str, int]:
    """Return what rows that were written together share."""
    return rows.clock.boot_id, rows.written_ns


def written(rows: Rows) -> int:
    """Return when rows were written, wall time in ns."""
    return rows.written_ns + rows.clock.offset_ns


def _generations(rows: Rows) -> dict[str, int]:
    """Return the generations of the rings when rows were written, of every input that is recorded."""
    return {name: number >> ROW_BITS for name, number in {**rows.next, rows.input: rows.first}.items()}


def _time(rows: Rows, place: int) -> int:
    """Return the time of the first row, place 0, or the last, -1."""
    return int(np.frombuffer(rows.t, "<i8")[place])
