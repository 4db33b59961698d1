"""A recording that is run again, and what comes of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from edgeflow_agent.runtime.run import StepStoppedError
from edgeflow_proto.event import Event, wall_time
from edgeflow_proto.rows import Rows
from edgeflow_tools import costs, replayed, report
from edgeflow_tools.cases import Tolerance
from edgeflow_tools.engine import Engine
from edgeflow_tools.journalled import Journalled
from edgeflow_tools.pace import Interrupt, Pace
from edgeflow_tools.replay import Player, Replay, commit_of, written
from edgeflow_tools.terminal import Failure, Unwell, emit, note

if TYPE_CHECKING:
    from edgeflow_tools.reached import Reached
    from edgeflow_tools.stored import Stored

    Held = Reached | Stored

Put = Callable[[Sequence[Event]], object]


class Rerun:
    """What `held` recorded of a pipeline, run again from one moment to another, ns since 1970."""

    def __init__(self, held: Held, own: Engine, digest: str, since: int | None, until: int | None) -> None:
        """`own` is the pipeline that recorded it, set to work; `digest` names that."""
        self._held, self._own, self._digest = held, own, digest
        self._name = own.graph.name
        self._since, self._until = since, until
        self._players = [Player(own, own=True)]
        self._replay = Replay(self._players, digest, since)
        self._found: dict[str, replayed.Against] = {}
        self._other: Engine | None = None
        self._interrupt = Interrupt()
        self._seconds, self._damaged = 0.0, False

    def beside(self, candidate: Engine, tolerance: Tolerance, near: int) -> None:
        """Let a candidate run beside it."""
        self._other = candidate
        for told in report.unlike(self._own.graph, candidate.graph):
            note(told)
        self._players.append(Player(candidate, own=False))
        self._candidate = replayed.Candidate(self._replay, tolerance, near)

    def run(self, tolerance: Tolerance, *, paced: bool, put: Put | None) -> None:
        """Run it all, until a Ctrl-C; `put` is given the events. Raises Failure."""
        journal = self._journal(tolerance)
        start = time.perf_counter()
        with self._interrupt:
            for made in self._made(paced=paced):
                journal.again(made[0])
                if self._other is not None:
                    self._candidate.take(*made)
                if put is not None and self._replay.ran:
                    put(made[-1])
        self._seconds = time.perf_counter() - start
        for player in self._players:
            player.prints.end()
        self._close(journal)

    def _made(self, *, paced: bool) -> Iterator[list[list[Event]]]:
        """Yield what is made of each commit."""
        pace = Pace(lambda: self._interrupt.asked) if paced else None
        try:
            for made in self._replay.events(self._blocks(self._since, self._until), pace):
                if pace is not None and self._replay.ran:
                    self._show(made)
                yield made
                if self._interrupt.asked:
                    return
        except StepStoppedError as error:
            raise Unwell(f"{error}; the pipeline stops there") from None

    def _show(self, made: Sequence[Sequence[Event]]) -> None:
        """Tell what is made as it comes."""
        for whose, events in zip(("", "candidate: "), made, strict=False):
            for event in events:
                note(whose + report.live(event))

    def _blocks(self, since: int | None, until: int | None) -> Iterator[Rows]:
        first = -math.inf if since is None else since
        return self._held.blocks(self._name, first, math.inf if until is None else until)

    def _close(self, journal: replayed.Journal) -> None:
        """Take in what the journal has behind the rows; raises Failure where there were none."""
        if not self._interrupt.asked:
            self._check_any()
            journal.behind(self._beyond(), math.inf if self._until is None else self._until)
        self._damaged = self._held.damaged(self._name)
        self._found["journal"] = journal.against()
        if self._other is not None:
            self._found["candidate"] = self._candidate.against()

    def _check_any(self) -> None:
        if not self._replay.ran:
            moments = (("from", self._since), ("to", self._until))
            asked = "".join(f" {word} {wall_time(at)}" for word, at in moments if at is not None)
            left = f"; {self._replay.other:,} rows are another version's" if self._replay.other else ""
            raise Failure(f"no rows are recorded{asked} that this '{self._name}' ran{left}")

    def _beyond(self) -> dict[str, int]:
        """Return the numbers of the first rows that are recorded behind those asked for, or none."""
        end = self._replay.end if self._until is None else self._until
        later = (rows for rows in self._blocks(end, None) if written(rows) > end)
        for _, commit in groupby(later, key=commit_of):
            rows = [*commit]
            firsts = {each.input: each.first for each in reversed(rows)}
            return {**rows[0].next, **firsts}
        return {}

    def _journal(self, tolerance: Tolerance) -> replayed.Journal:
        told = Journalled(self._held.events(self._name), self._digest)
        return replayed.Journal(self._replay, told, tolerance, _dropped(self._held, self._name))

    @property
    def interrupted(self) -> bool:
        """Whether a Ctrl-C ended it."""
        return self._interrupt.asked

    @property
    def unwell(self) -> bool:
        """Whether the pipeline did not say again what it had said, or a step of either failed."""
        failed = any(engine.tally.errors for engine in self._engines.values())
        return failed or bool(self._found["journal"].differences)

    @property
    def _engines(self) -> dict[str, Engine]:
        return {"own": self._own} | ({"candidate": self._other} if self._other is not None else {})

    def report(self, *, as_json: bool) -> None:
        """Tell what it came to."""
        if as_json:
            emit(self._figures())
            return
        for told in self._ground():
            click.echo(told)
        report.show("against its journal:", self._found["journal"])
        if self._other is not None:
            for told in report.forgetful(self._players[-1].memory):
                click.echo(told)
            report.show("the candidate against it:", self._found["candidate"])
            costs.show(*self._players)

    def _ground(self) -> Iterator[str]:
        """Yield what was run, and what failed."""
        if self.interrupted:
            yield f"ended by Ctrl-C at rows of {wall_time(self._replay.end)}"
        yield from report.ground(self._name, self._replay, self._seconds, damaged=self._damaged)
        for whose, engine in zip(("the pipeline", "the candidate"), self._engines.values(), strict=False):
            yield from report.failed(whose, engine)

    def _figures(self) -> dict[str, Any]:
        replay, memory, engines = self._replay, self._players[-1].memory, self._engines
        players = dict(zip(engines, self._players, strict=True))
        return {
            "pipeline": self._name, "digest": self._digest, "rows": replay.rows,
            "leading_rows": replay.leading, "other_rows": replay.other,
            "holes": replay.holes, "restarts": replay.restarts, "seconds": round(self._seconds, 6),
            "damaged": self._damaged, "interrupted": self.interrupted,
            "errors": {name: report.errors(engine) for name, engine in engines.items()},
            "cost": {name: costs.cost(player) for name, player in players.items()},
            "printed_lines": {name: player.prints.count for name, player in players.items()},
            "without_memory": [*memory.without] if memory is not None else [],
            **{name: found.to_json() for name, found in self._found.items()},
        }  # fmt: skip


def _dropped(held: Held, name: str) -> dict[str, int]:
    """Return up to when, ns since its boot, events were lost because the disk refused them, by boot."""
    told = (event for event in held.events(name, "edgeflow.gap") if event["data"].get("reason") == "disk")
    return {event["bootid"]: int(event["monotonicns"]) for event in told}
