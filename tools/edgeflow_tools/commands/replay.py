"""``edgeflow replay``: a recording run again."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from edgeflow_tools import times
from edgeflow_tools.commands.run import line, params_of, quiet, set_up, sink
from edgeflow_tools.terminal import UNWELL, Failure, Unwell, emit, json_option, note

if TYPE_CHECKING:
    from edgeflow_tools.cases import Tolerance
    from edgeflow_tools.engine import Engine
    from edgeflow_tools.reached import Reached
    from edgeflow_tools.replay import Player, Replay
    from edgeflow_tools.replayed import Against, Journal
    from edgeflow_tools.stored import Stored

    Held = Reached | Stored


def _near(_context: click.Context, _option: click.Parameter, value: str) -> int:
    """Read how long; raises BadParameter."""
    from edgeflow_proto.pipeline.units import Duration

    try:
        return Duration.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(epilog="Example: edgeflow replay http://press-hall:7080 --from 1h --pipeline bearing.yaml")
@click.argument("source", metavar="DIR|DEVICE")
@click.option("--from", "since", metavar="TIME", callback=times.moment, help=times.HELP)
@click.option("--to", "until", metavar="TIME", callback=times.moment, help="As --from.")
@click.option(
    "--pipeline", "candidate", metavar="FILE", type=click.Path(path_type=Path),
    help="Run this one over the same rows too, and tell what it says instead.",
)  # fmt: skip
@click.option("--param", "params", metavar="NAME=VALUE", multiple=True, help="A parameter of the candidate.")
@click.option("--of", "name", metavar="NAME", help="The pipeline whose recording is meant, of several.")
@click.option(
    "--near",
    default="1s",
    show_default=True,
    callback=_near,
    help="How far an event may move in time.",
)
@click.option("--tolerance", default=1e-4, show_default=True, help="How far a number may be off, relatively.")
@click.option("--speed", type=click.Choice(["max", "1x"]), default="max", show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the events here.")
@json_option
def command(
    source: str,
    candidate: Path | None,
    name: str | None,
    params: tuple[str, ...],
    as_json: bool,
    **asked: Any,
) -> None:
    """Run again what a device recorded (`record` on its inputs), through the same runtime, in this process.

    The recording is a device's, by its address, or lies in a data folder or a copy of it. The pipeline that
    recorded it is run over its own rows, and its events are held against those in its journal: the same rows
    behind each, values within the tolerance. With --pipeline a candidate runs beside it, and what it says
    instead is told, with the cost of each step. Nothing is put out. Exit code 1 says that the pipeline did
    not say again what it had said, or that a step failed on rows, which are dropped.
    """
    from edgeflow_tools.cases import Tolerance

    tolerance = Tolerance(relative=asked["tolerance"])
    with _opened(source) as held, quiet():
        work = _Work(held, _which(held, name, candidate), asked["since"], tolerance)
        if candidate is not None:
            work.beside(candidate, params_of(params), asked["near"])
        work.run(asked["until"], paced=asked["speed"] == "1x", out=asked["out"])
    work.report(as_json=as_json)
    raise SystemExit(UNWELL if work.unwell else 0)


@contextlib.contextmanager
def _opened(source: str) -> Iterator[Held]:
    """Open what is meant: an address, or a folder; raises Failure."""
    if "://" in source:
        from edgeflow_tools.client import DEVICE, Server
        from edgeflow_tools.reached import Reached

        with TemporaryDirectory() as folder:
            yield Reached(Server(DEVICE, source).met(), Path(folder))
        return
    from edgeflow_tools.stored import Stored

    if not (Path(source) / "recordings").is_dir():
        raise Failure(f"{source}: not the data folder of a device that records, nor an address (http://…)")
    with contextlib.closing(Stored(Path(source))) as stored:
        yield stored


def _which(held: Held, name: str | None, candidate: Path | None) -> str:
    """Return the pipeline that is meant: the one named, the candidate's, or the only one; raises Failure."""
    known = held.recorded()
    if name is None and candidate is not None and len(known) > 1:
        from edgeflow_tools.pipelines import checked

        graph = checked(candidate).graph
        name = graph.name if graph is not None else None
    if name is None and len(known) == 1:
        return known[0]
    if name not in known:
        told = ", ".join(known) or "nothing is recorded"
        raise Failure(f"say with --of whose recording is meant: {told}")
    return name


class _Work:
    """A replay and what comes of it."""

    def __init__(self, held: Held, name: str, since: str | None, tolerance: Tolerance) -> None:
        from edgeflow_proto.bundle import MANIFEST_FILE, decode_manifest
        from edgeflow_proto.event import instant
        from edgeflow_tools.replay import Player, Replay

        folder = held.bundle(name)
        self.digest = decode_manifest((folder / MANIFEST_FILE).read_bytes()).digest
        self._held, self._name, self._tolerance = held, name, tolerance
        self._since = instant(since) if since else None
        self._own = _engine(folder, self.digest, _params(held, name, self.digest))
        self._players: list[Player] = [Player(self._own, own=True)]
        self._replay: Replay = Replay(self._players, self.digest, self._since)
        self._other: Engine | None = None
        self._found: dict[str, Against] = {}
        self._seconds, self._damaged = 0.0, False

    def beside(self, candidate: Path, params: dict[str, Any], near: int) -> None:
        """Let a candidate run beside it; raises Failure."""
        from edgeflow_tools.pipelines import checked
        from edgeflow_tools.replay import Player
        from edgeflow_tools.replayed import Candidate
        from edgeflow_tools.terminal import problems

        found = checked(candidate, params)
        if found.graph is None:
            raise problems(found.problems)
        self._other = set_up(found)
        for name in found.graph.inputs.keys() - self._own.graph.inputs.keys():
            note(f"inputs.{name}: nothing is recorded of it, so no rows come from it")
        self._players.append(Player(self._other, own=False))
        self._candidate = Candidate(self._replay, self._tolerance, near)

    def run(self, until: str | None, *, paced: bool, out: Path | None) -> None:
        """Run it all; raises Failure."""
        from edgeflow_agent.runtime.run import StepStoppedError
        from edgeflow_proto.event import instant

        since = -math.inf if self._since is None else self._since
        blocks = self._held.blocks(self._name, since, instant(until) if until else math.inf)
        journal = self._journal()
        start = time.perf_counter()
        try:
            with sink(out) if out is not None else contextlib.nullcontext() as file:
                for made in self._replay.events(blocks, paced=paced):
                    journal.again(made[0])
                    if self._other is not None:
                        self._candidate.take(*made)
                    if file is not None:
                        file.writelines(map(line, made[-1]))
        except StepStoppedError as error:
            raise Unwell(f"{error}; the pipeline stops there") from None
        self._seconds = time.perf_counter() - start
        self._check_any()
        self._damaged = self._held.damaged(self._name)
        self._found["journal"] = journal.against()
        if self._other is not None:
            self._found["candidate"] = self._candidate.against()

    def _check_any(self) -> None:
        if not self._replay.rows:
            left = f"; {self._replay.other:,} rows are another version's" if self._replay.other else ""
            raise Failure(f"no rows are recorded that this '{self._name}' ran then{left}")

    def _journal(self) -> Journal:
        from edgeflow_tools.journalled import Journalled
        from edgeflow_tools.replayed import Journal

        told = Journalled(self._held.events(self._name), self.digest)
        return Journal(self._replay, told, self._tolerance, _dropped(self._held, self._name))

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
        from edgeflow_tools import replayed

        if as_json:
            emit(self._figures())
            return
        for told in replayed.ground(self._name, self._replay, self._seconds, damaged=self._damaged):
            click.echo(told)
        for whose, engine in zip(("the pipeline", "the candidate"), self._engines.values(), strict=False):
            for told in replayed.failed(whose, engine):
                click.echo(told)
        replayed.show("against its journal:", self._found["journal"])
        if self._other is not None:
            for told in replayed.forgetful(self._players[-1].memory):
                click.echo(told)
            replayed.show("the candidate against it:", self._found["candidate"])
            replayed.show_costs(self._own, self._other)

    def _figures(self) -> dict[str, Any]:
        from edgeflow_tools.replayed import cost, errors

        replay, memory, engines = self._replay, self._players[-1].memory, self._engines
        return {
            "pipeline": self._name, "digest": self.digest, "rows": replay.rows, "other_rows": replay.other,
            "holes": replay.holes, "restarts": replay.restarts, "seconds": round(self._seconds, 6),
            "damaged": self._damaged,
            "errors": {name: errors(engine) for name, engine in engines.items()},
            "cost": {name: cost(engine) for name, engine in engines.items()},
            "without_memory": [*memory.without] if memory is not None else [],
            **{name: found.to_json() for name, found in self._found.items()},
        }  # fmt: skip


def _engine(folder: Path, digest: str, params: dict[str, Any]) -> Engine:
    """Set to work what a device ran; raises Failure."""
    from edgeflow_agent.deploy.bundle import Bundle
    from edgeflow_agent.runtime.plan import PlanError
    from edgeflow_tools.engine import Engine

    try:
        bundle = Bundle(folder, params)
        return Engine(bundle.graph, folder, digest, bundle.models)
    except (PlanError, ValueError, OSError) as error:
        raise Unwell(f"what recorded it cannot be run here: {error}") from None


def _params(held: Held, name: str, digest: str) -> dict[str, Any]:
    """Return the values that the device gave the parameters, as its journal tells."""
    from edgeflow_proto.setup import TYPE, setup_from

    told = [event for event in held.events(name, TYPE) if _of(event, digest)]
    return setup_from(told[-1]["data"]).params if told else {}


def _dropped(held: Held, name: str) -> dict[str, int]:
    """Return up to when, ns since its boot, events were lost because the disk refused them, by boot."""
    told = (event for event in held.events(name, "edgeflow.gap") if event["data"].get("reason") == "disk")
    return {event["bootid"]: int(event["monotonicns"]) for event in told}


def _of(event: dict[str, Any], digest: str) -> bool:
    return bool(event.get("pipelinedigest") == digest)
