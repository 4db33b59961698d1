"""A recording that is run again, and what comes of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence, Set
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from edgeflow_agent.runtime.run import StepStoppedError
from edgeflow_proto.event import Event, wall_time
from edgeflow_proto.rows import Rows
from edgeflow_tools.cases import Tolerance
from edgeflow_tools.engine import Engine
from edgeflow_tools.replay import costs, replayed, report
from edgeflow_tools.replay.alone import Alone
from edgeflow_tools.replay.journalled import Journalled
from edgeflow_tools.replay.pace import Interrupt, Pace
from edgeflow_tools.replay.player import Player, Replay, commit_of, written
from edgeflow_tools.terminal import Failure, Unwell, counted, emit, note

if TYPE_CHECKING:
    from edgeflow_tools.reached import Reached
    from edgeflow_tools.stored import Stored

    Held = Reached | Stored

Put = Callable[[Sequence[Event]], object]
WHOSE = {"own": "the pipeline", "candidate": "the candidate"}


class Rerun:
    """What `held` recorded of a pipeline, run again from one moment to another, ns since 1970."""

    def __init__(self, held: Held, name: str, since: int | None, until: int | None) -> None:
        """`name` is the pipeline's."""
        self._held, self._name = held, name
        self._since, self._until = since, until
        self._players: dict[str, Player] = {}
        self._digest = ""
        self._otherwise: Set[int] = frozenset()
        self._found: dict[str, replayed.Against] = {}
        self._interrupt = Interrupt()
        self._seconds, self._damaged = 0.0, 0

    def recorded_by(self, own: Engine, digest: str, otherwise: Set[int] = frozenset()) -> None:
        """Run the pipeline that recorded it, set to work; `digest` names it.

        Rows from rings of the generations `otherwise` it ran with other parameters: those count as another
        version's.
        """
        self._players["own"] = Player(own, own=True)
        self._digest, self._otherwise = digest, otherwise

    def beside(self, candidate: Engine) -> None:
        """Run a candidate, beside that pipeline over its rows, and alone over those of other versions."""
        if "own" in self._players:
            for told in report.unlike(self._players["own"].engine.graph, candidate.graph):
                note(told)
        self._players["candidate"] = Player(candidate, own=False)

    def run(self, tolerance: Tolerance, near: int, *, paced: bool, put: Put | None) -> None:
        """Run it all, until a Ctrl-C; `put` is given the events. Raises Failure."""
        self._put, self._paced = put, paced
        candidate = self._players.get("candidate")
        self._alone = None if candidate is None else Alone(candidate, self._since, self._tell_alone)
        both = [*self._players.values()] if self._digest else []
        self._replay = Replay(both, self._digest, self._since, self._alone, self._otherwise)
        journal = self._journal(tolerance)
        beside = replayed.Candidate(self._replay, tolerance, near) if len(both) > 1 else None
        start = time.perf_counter()
        with self._interrupt:
            for made in self._made():
                journal.again(made[0])
                if beside is not None:
                    beside.take(*made)
        self._seconds = time.perf_counter() - start
        self._close(journal, beside)

    def _made(self) -> Iterator[list[list[Event]]]:
        """Yield what is made of each commit."""
        pace = Pace(lambda: self._interrupt.asked) if self._paced else None
        try:
            for made in self._replay.events(self._blocks(self._since, self._until), pace):
                if self._replay.ran:
                    self._tell(made)
                yield made
                if self._interrupt.asked:
                    return
        except StepStoppedError as error:
            raise Unwell(f"{error}; the pipeline stops there") from None

    def _tell(self, made: Sequence[Sequence[Event]]) -> None:
        """Put out what is made, of a candidate where there is one, and show it as it comes."""
        if self._put is not None:
            self._put(made[-1])
        if self._paced:
            self._show(made)

    def _tell_alone(self, events: Sequence[Event]) -> None:
        self._tell([[], events])

    def _show(self, made: Sequence[Sequence[Event]]) -> None:
        """Tell what is made as it comes."""
        for whose, events in zip(("", "candidate: "), made, strict=False):
            for event in events:
                note(whose + report.live(event))

    def _blocks(self, since: int | None, until: int | None) -> Iterator[Rows]:
        first = -math.inf if since is None else since
        return self._held.blocks(self._name, first, math.inf if until is None else until)

    def _close(self, journal: replayed.Journal, beside: replayed.Candidate | None) -> None:
        """Come to an end of what was compared; raises Failure where there were no rows."""
        for player in self._players.values():
            player.prints.end()
        self._damaged = self._held.damaged(self._name)
        if not self._replay.ran:
            self._check_any()
            return
        if not self.interrupted:
            journal.behind(self._beyond(), math.inf if self._until is None else self._until)
        self._found["journal"] = journal.against()
        if beside is not None:
            self._found["candidate"] = beside.against()

    def _check_any(self) -> None:
        if not self._alone and not self.interrupted:
            moments = (("from", self._since), ("to", self._until))
            asked = "".join(f" {word} {wall_time(at)}" for word, at in moments if at is not None)
            raise Failure(f"no rows are recorded{asked} that this '{self._name}' ran{self._left()}")

    def _left(self) -> str:
        """Say what there is besides."""
        if self._alone is not None and self._alone.left_out:
            return f"; {self._alone.left_out:,} rows that another version ran: {self._alone.why}"
        if self._replay.other:
            return (
                f"; {self._replay.other:,} rows are another version's: --pipeline runs a candidate over them"
            )
        return ""

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
        told = Journalled(self._held.events(self._name), self._digest, self._otherwise)
        return replayed.Journal(self._replay, told, tolerance, _dropped(self._held, self._name))

    @property
    def interrupted(self) -> bool:
        """Whether a Ctrl-C ended it."""
        return self._interrupt.asked

    @property
    def unwell(self) -> bool:
        """Whether the pipeline did not say again what it had said, or a step of either failed."""
        failed = any(player.engine.tally.errors for player in self._players.values())
        return failed or ("journal" in self._found and bool(self._found["journal"].differences))

    @property
    def differs(self) -> bool:
        """Whether a candidate says otherwise where that is known, or was held against nothing."""
        found = self._found.get("candidate")
        return found is None or bool(found.differences)

    def report(self, *, as_json: bool) -> None:
        """Tell what it came to."""
        if as_json:
            emit(self._figures())
            return
        for told in self._ground():
            click.echo(told)
        if "journal" in self._found:
            report.show("against its journal:", self._found["journal"])
        if "candidate" in self._found:
            for told in report.forgetful(self._players["candidate"].memory):
                click.echo(told)
            report.show("the candidate against it:", self._found["candidate"])
            costs.show(*self._players.values())

    def _ground(self) -> Iterator[str]:
        """Yield what was run, and what failed."""
        if self.interrupted:
            end = self._replay.end
            yield "ended by Ctrl-C" + (f" at rows of {wall_time(end)}" if end else "")
        yield from report.ground(self._name, self._replay, self._seconds, self._damaged)
        if self._alone:
            yield str(self._alone)
        elif self._replay.other:
            rows = counted(self._replay.other, "row", "rows")
            yield f"left out: {rows} that another version of it ran, or it with other parameters"
        for whose, player in self._players.items():
            yield from report.failed(WHOSE[whose], player.engine)

    def _figures(self) -> dict[str, Any]:
        replay, players = self._replay, self._players.items()
        memory = self._players["candidate"].memory if "candidate" in self._players else None
        return {
            "pipeline": self._name, "digest": self._digest, "rows": replay.rows,
            "leading_rows": replay.leading, "other_rows": replay.other, "skipped_rows": replay.skipped,
            "holes": replay.holes, "restarts": replay.restarts, "seconds": round(self._seconds, 6),
            "damaged": self._damaged, "interrupted": self.interrupted,
            "errors": {name: report.errors(player.engine) for name, player in players},
            "cost": {name: costs.cost(player) for name, player in players},
            "printed_lines": {name: player.prints.count for name, player in players},
            "without_memory": [*memory.without] if memory is not None else [],
            "alone": self._alone.to_json() if self._alone is not None else None,
            "journal": None,
            **{name: found.to_json() for name, found in self._found.items()},
        }  # fmt: skip


def _dropped(held: Held, name: str) -> dict[str, int]:
    """Return up to when, ns since its boot, events were lost because the disk refused them, by boot."""
    told = (event for event in held.events(name, "edgeflow.gap") if event["data"].get("reason") == "disk")
    return {event["bootid"]: int(event["monotonicns"]) for event in told}
