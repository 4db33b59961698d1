"""``edgeflow replay``: a recording run again."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Set
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from edgeflow_tools import times
from edgeflow_tools.commands.run import line, params_of, quiet, set_up, sink
from edgeflow_tools.terminal import UNWELL, Failure, Unwell, json_option, note

if TYPE_CHECKING:
    from edgeflow_tools.cases import Tolerance
    from edgeflow_tools.engine import Engine
    from edgeflow_tools.reached import Reached
    from edgeflow_tools.replay.rerun import Rerun
    from edgeflow_tools.stored import Stored

    Held = Reached | Stored

INTERRUPTED = 130  # 128 and SIGINT, as shells tell it


def _near(_context: click.Context, _option: click.Parameter, value: str) -> int:
    """Read how long; raises BadParameter."""
    from edgeflow_proto.pipeline.units import Duration

    try:
        return Duration.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _relative(_context: click.Context, _option: click.Parameter, value: float) -> float:
    """Take how far a number may be off; raises BadParameter."""
    if not 0 <= value < math.inf:
        raise click.BadParameter("give a number of 0 or more")
    return value


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
@click.option(
    "--tolerance",
    default=1e-4,
    show_default=True,
    callback=_relative,
    help="How far a number may be off, relatively.",
)
@click.option(
    "--speed",
    type=click.Choice(["max", "1x"]),
    default="max",
    show_default=True,
    help="1x: in real time, and events are shown as they come.",
)
@click.option(
    "--fail-on-difference", "strict", is_flag=True,
    help="Exit with 1 where the candidate differs, too.",
)  # fmt: skip
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
    instead is told, with the cost of each step. Rows that other versions of the pipeline ran go through the
    candidate alone. Nothing is put out.

    With --from, rows that lead up to it are run first: those from the newest moment before at which the
    recording says what the steps remembered. What comes of them is neither shown nor compared. With
    --speed 1x they are run as fast as it goes, and a long pause in which rows are missing is passed over.

    Exit code 1 says that the pipeline did not say again what it had said, or that a step failed on rows,
    which are dropped; with --fail-on-difference also that the candidate says otherwise, as far as that is
    known, or that there was nothing to hold it against. 2 says that it could not be run, and 130 that Ctrl-C
    ended it: what there was is told.
    """
    _check(candidate, params, asked)
    with _opened(source) as held, quiet():
        name = _which(held, name, candidate)
        rerun = _rerun(held, name, _candidate(candidate, params_of(params)) if candidate else None, asked)
        with sink(asked["out"]) if asked["out"] is not None else contextlib.nullcontext() as file:
            put = None if file is None else lambda events: file.writelines(map(line, events))
            rerun.run(_tolerance(asked), asked["near"], paced=asked["speed"] == "1x", put=put)
    rerun.report(as_json=as_json)
    raise SystemExit(_code(rerun, strict=asked["strict"]))


def _check(candidate: Path | None, params: tuple[str, ...], asked: dict[str, Any]) -> None:
    """Refuse options that do not go together; raises UsageError."""
    since, until = asked["since"], asked["until"]
    if since and until and since > until:
        raise click.UsageError(f"--from {since} is later than --to {until}")
    if params and candidate is None:
        raise click.UsageError("--param gives the candidate its parameters: it needs --pipeline")
    if asked["strict"] and candidate is None:
        raise click.UsageError("--fail-on-difference is about the candidate: it needs --pipeline")


def _code(rerun: Rerun, *, strict: bool) -> int:
    if rerun.interrupted:
        return INTERRUPTED
    return UNWELL if rerun.unwell or (strict and rerun.differs) else 0


def _tolerance(asked: dict[str, Any]) -> Tolerance:
    from edgeflow_tools.cases import Tolerance

    return Tolerance(relative=asked["tolerance"])


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
        raise Failure(_unknown(name, known))
    return name


def _unknown(name: str | None, known: list[str]) -> str:
    if not known:
        return "nothing is recorded there"
    told = f"say with --of whose recording is meant: {', '.join(known)}"
    return told if name is None else f"nothing is recorded of a pipeline '{name}'; {told}"


def _rerun(held: Held, name: str, candidate: Engine | None, asked: dict[str, Any]) -> Rerun:
    """Set to work the pipeline that recorded what is asked for; raises Failure.

    A candidate can do without that: its bundle may be gone, for another version took its place.
    """
    from edgeflow_proto.bundle import MANIFEST_FILE, decode_manifest
    from edgeflow_proto.event import instant
    from edgeflow_tools.replay.rerun import Rerun
    from edgeflow_tools.stored import Gone

    since, until = (instant(asked[word]) if asked[word] else None for word in ("since", "until"))
    rerun = Rerun(held, name, since, until)
    try:
        folder = held.bundle(name)
        digest = decode_manifest((folder / MANIFEST_FILE).read_bytes()).digest
        params, otherwise = _params(held, name, digest)
        rerun.recorded_by(_engine(folder, digest, params), digest, otherwise)
    except Gone as error:
        if candidate is None:
            raise
        note(error.message)
    if candidate is not None:
        rerun.beside(candidate)
    return rerun


def _candidate(file: Path, params: dict[str, Any]) -> Engine:
    """Set a candidate to work; raises Failure."""
    from edgeflow_tools.pipelines import checked
    from edgeflow_tools.replay.prints import Prints
    from edgeflow_tools.terminal import problems

    found = checked(file, params)
    if found.graph is None:
        raise problems(found.problems, Failure)
    try:
        with Prints("the candidate").all_taken():
            return set_up(found)
    except Unwell as error:
        raise Failure(error.message) from None


def _engine(folder: Path, digest: str, params: dict[str, Any]) -> Engine:
    """Set to work what a device ran; raises Failure."""
    from edgeflow_agent.deploy.bundle import Bundle
    from edgeflow_agent.runtime.plan import PlanError
    from edgeflow_tools.engine import Engine
    from edgeflow_tools.replay.prints import Prints

    try:
        bundle = Bundle(folder, params)
        with Prints("the pipeline").all_taken():
            return Engine(bundle.graph, folder, digest, bundle.models)
    except (PlanError, ValueError, OSError) as error:
        raise Failure(f"what recorded it cannot be run here: {error}") from None


def _params(held: Held, name: str, digest: str) -> tuple[dict[str, Any], Set[int]]:
    """Return the values that the device gave the parameters last, and the rings that had others.

    As its journal tells; rings are told by their generations.
    """
    from edgeflow_proto.setup import TYPE, setup_from

    told = [setup_from(event["data"]) for event in held.events(name, TYPE) if _of(event, digest)]
    params = told[-1].params if told else {}
    others = [setup.generations.values() for setup in told if setup.params != params]
    return params, {generation for found in others for generation in found}


def _of(event: dict[str, Any], digest: str) -> bool:
    return bool(event.get("pipelinedigest") == digest)
