"""``edgeflow run``: try a pipeline on recorded data."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from edgeflow_tools.terminal import UNWELL, Failure, Unwell, emit, json_option, note, problems

if TYPE_CHECKING:
    from edgeflow_tools.pipelines import Checked
    from edgeflow_tools.run import Run


@click.command(epilog="Example: edgeflow run bearing.yaml --input accel=accel.npy --out events.jsonl")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--input", "inputs", metavar="NAME=PATH", multiple=True, help="A recording: csv, npy, wav or jsonl."
)
@click.option("--param", "params", metavar="NAME=VALUE", multiple=True, help="A parameter's value.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write events here, not to stdout."
)
@click.option("--speed", type=click.Choice(["max", "1x"]), default="max", show_default=True)
@click.option("--explain", is_flag=True, help="Run nothing; show the graph, edge by edge.")
@click.option("--profile", is_flag=True, help="Show where the time went.")
@json_option
def command(
    file: Path,
    inputs: tuple[str, ...],
    params: tuple[str, ...],
    out: Path | None,
    speed: str,
    **shown: bool,
) -> None:
    """Run a pipeline on recorded files, in this process, with no agent and no broker.

    Each --input takes the place of a source. Events come as JSON lines, on standard output unless --out is
    given; a summary follows on standard error (with --json as JSON; on standard output if that is free).
    Messages and files that the pipeline would put out are counted and not made. Exit code 1 says that a step
    failed on rows, which are dropped.

    With --explain no recording is needed: the shape, dtype, rate and memory of the rows of each edge come on
    standard output. Where rows lie in memory is found by calling the steps with made-up rows.
    """
    checked = _checked(file, params_of(params))
    with quiet():
        run = set_up(checked)
    if shown["explain"]:
        _explain(run, as_json=shown["as_json"])
        return
    recordings = _recordings(run, checked, dict(_pair(text, "--input") for text in inputs))
    start = time.perf_counter()
    with sink(out) as file_out, quiet(), _progress(run, out):
        for event in _guarded(run, recordings, paced=speed == "1x"):
            file_out.write(line(event))
    seconds = time.perf_counter() - start
    _report(run, seconds, to_stdout=out is not None, as_json=shown["as_json"], profile=shown["profile"])
    raise SystemExit(UNWELL if run.tally.errors else 0)


def quiet() -> contextlib.AbstractContextManager[object]:
    """Let what the author's Python prints go where it is not taken for events."""
    return contextlib.redirect_stdout(sys.stderr)


def _pair(text: str, option: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not (name and found and value):
        raise click.BadParameter(f"{text!r} is not of the form NAME=…", param_hint=option)
    return name, value


def params_of(given: Iterable[str]) -> dict[str, Any]:
    """Read values of parameters; raises BadParameter."""
    return {name: _value(text) for name, text in (_pair(each, "--param") for each in given)}


def _checked(file: Path, params: dict[str, Any]) -> Checked:
    from edgeflow_tools.pipelines import checked

    found = checked(file, params)
    if found.graph is None:
        raise problems(found.problems)
    return found


def _value(text: str) -> Any:
    """Read a parameter as a pipeline file would."""
    from edgeflow_proto.pipeline.load import load

    source, found = load(text, "--param")
    return text if source is None or found else source.data


def set_up(checked: Checked) -> Run:
    """Set a pipeline without problems to work; raises Unwell."""
    from edgeflow_agent.runtime.plan import PlanError
    from edgeflow_tools.bundles import model_digests
    from edgeflow_tools.run import Run

    assert checked.graph is not None
    folder = checked.file.parent.absolute()
    try:
        return Run(checked.graph, folder, _digest(checked), model_digests(checked.graph, folder))
    except PlanError as error:
        raise Unwell(f"{checked.file}: {error}") from None


def _digest(checked: Checked) -> str:
    """Return the digest that the pipeline has when it is deployed, empty when it cannot be."""
    from edgeflow_tools.bundles import bundle

    try:
        return bundle(checked)[0].digest
    except (ValueError, OSError) as error:
        note(f"{error}; the events carry no pipeline digest")
        return ""


def _recordings(run: Run, checked: Checked, given: dict[str, str]) -> dict[str, Path]:
    """Return a recording by input: those given, and the pipeline's own files."""
    from edgeflow_proto.pipeline.problem import near_miss
    from edgeflow_tools.run import recordings_of

    for name in given:
        if name not in run.graph.inputs:
            hint = near_miss(name, run.graph.inputs)
            raise Failure(f"{checked.file}: no input '{name}' ({hint})")
    found = recordings_of(run.graph, checked.file.parent)
    found |= {name: Path(path) for name, path in given.items()}
    if not found:
        raise Failure(f"{checked.file}: no recording; give --input {next(iter(run.graph.inputs))}=PATH")
    _remark(run, found)
    return {name: found[name] for name in run.graph.inputs if name in found}


def _remark(run: Run, recordings: dict[str, Path]) -> None:
    from edgeflow_agent.inputs.recording import columns_of
    from edgeflow_tools.run import UNSTATED_HZ

    for name, node in run.graph.inputs.items():
        if name not in recordings:
            note(f"inputs.{name}: no recording is given, so no rows come from it")
        elif node.intake.rate is None and node.intake.recorded(columns_of(recordings[name])).clock is None:
            note(f"inputs.{name}: no rate is stated; rows are taken to be {1 / UNSTATED_HZ:g} s apart")


def _guarded(run: Run, recordings: dict[str, Path], *, paced: bool) -> Iterator[Any]:
    from edgeflow_agent.inputs.recording import RecordingError
    from edgeflow_agent.runtime.run import StepStoppedError

    try:
        yield from run.events(recordings, paced=paced)
    except RecordingError as error:
        raise Failure(str(error)) from None
    except StepStoppedError as error:
        raise Unwell(f"{error}; the pipeline stops there") from None
    except OSError as error:
        raise Failure(f"{error.filename or 'a recording'}: {error.strerror}") from None


def line(event: Any) -> bytes:
    """Return an event as a line of JSON."""
    import msgspec

    return msgspec.json.encode(event.to_json()) + b"\n"


@contextlib.contextmanager
def sink(out: Path | None) -> Iterator[IO[bytes]]:
    """Open where events go."""
    if out is None:
        yield sys.stdout.buffer
        return
    try:
        with out.open("wb") as file:
            yield file
    except OSError as error:
        raise Failure(f"{out}: {error.strerror}") from None


def _progress(run: Run, out: Path | None) -> contextlib.AbstractContextManager[object]:
    """Show how far the run is, where somebody watches and events do not run over it."""
    if not sys.stderr.isatty() or (out is None and sys.stdout.isatty()):
        return contextlib.nullcontext()
    from edgeflow_tools.summary import progress

    return progress(run)


def _report(run: Run, seconds: float, *, as_json: bool, to_stdout: bool, profile: bool) -> None:
    from edgeflow_tools import summary

    for line in summary.failures(run):
        note(line)
    if as_json:
        figures = summary.figures(run, seconds)
        figures |= {"profile": summary.profile(run, seconds)} if profile else {}
        emit(figures, err=not to_stdout)
        return
    summary.show(run, seconds, steps=not profile)
    if profile:
        summary.show_profile(run, seconds)


def _explain(run: Run, *, as_json: bool) -> None:
    import msgspec

    from edgeflow_tools import explained, tables

    with quiet():
        found = explained.explained(run.graph, run.plan)
    for step, error in found.raised.items():
        note(f"steps.{step}: with made-up rows: {error}")
    if as_json:
        emit(msgspec.to_builtins(found))
        return
    tables.show(explained.HEADINGS, [*explained.lines(found)])
    click.echo()
    tables.show(
        ("output", "made of"),
        [(name, f"{out['kind']} of {out['from']}") for name, out in found.outputs.items()],
    )
    click.echo()
    for name, ring in found.rings.items():
        held = f" ({tables.duration(ring.seconds)})" if ring.seconds else ""
        click.echo(f"the ring of {name} holds {ring.rows:,} rows{held} in {tables.size(ring.bytes)}")
