"""``edgeflow test``: does a pipeline still make of recordings what is expected."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeflow_tools.terminal import UNWELL, Failure, counted, emit, json_option

if TYPE_CHECKING:
    from edgeflow_tools.cases import CaseFile

MAX_SHOWN = 20  # differences of a case


@click.command(epilog="Example: edgeflow test pump/ && edgeflow deploy pump/")
@click.argument("pipeline", type=click.Path(path_type=Path))
@click.option("--case", "names", metavar="NAME", multiple=True, help="Run this case only.")
@click.option("--update", is_flag=True, help="Take what comes for what is expected, and write it down.")
@json_option
def command(pipeline: Path, names: tuple[str, ...], update: bool, as_json: bool) -> None:
    """Run a pipeline's cases: tests/*.yaml beside it, recorded inputs and the events expected of them.

    Prints a line for each case, and below one that fails its differences: "-" is missing, "+" was not
    expected, "~" is not what it should be. Exit code 1 says that a case failed.
    """
    from edgeflow_tools.pipelines import located

    results = []
    for file in _files(pipeline, names):
        results.append(_result(file, located(pipeline), update=update))
        if not as_json:
            _show(file.path, results[-1])
    if as_json:
        emit({"cases": results})
    raise SystemExit(UNWELL if any(result["differences"] for result in results) else 0)


def _files(pipeline: Path, names: tuple[str, ...]) -> list[CaseFile]:
    from edgeflow_proto.pipeline.problem import near_miss
    from edgeflow_tools.cases import CaseFile, cases_of
    from edgeflow_tools.pipelines import located

    files = {path.stem: path for path in cases_of(located(pipeline))}
    if not files:
        raise Failure(f"{pipeline}: no cases; they are tests/*.yaml beside the pipeline")
    for name in names:
        if name not in files:
            raise Failure(f"{pipeline}: no case '{name}' ({near_miss(name, files)})")
    return [CaseFile(files[name]) for name in names or files]


def _result(file: CaseFile, pipeline: Path, *, update: bool) -> dict[str, Any]:
    """Run a case; return how it fared as plain data."""
    with contextlib.redirect_stdout(sys.stderr):  # what the author's Python prints
        got = file.got(pipeline)
    differences = file.differences(got)
    if update and differences:
        file.update(got)
    word = "written" if update and differences else "failed" if differences else "passed"
    shown = [] if word == "written" else differences
    return {"case": file.name, "result": word, "events": len(got.events), "differences": shown}


def _show(path: Path, result: dict[str, Any]) -> None:
    click.echo(f"{result['result']} {path} ({counted(result['events'], 'event', 'events')})")
    differences = result["differences"]
    for line in differences[:MAX_SHOWN]:
        click.echo(f"  {line}")
    if len(differences) > MAX_SHOWN:
        click.echo(f"  … and {len(differences) - MAX_SHOWN:,} more")
