"""``edgeflow check``: find every mistake before anything runs."""

from __future__ import annotations

from pathlib import Path

import click

from edgeflow_tools.terminal import UNWELL, emit, json_option


@click.command(epilog="Example: edgeflow check bearing.yaml pump/")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
def command(files: tuple[Path, ...], as_json: bool) -> None:
    """Check pipeline files, or folders that hold a pipeline.yaml.

    Prints every mistake as file:line:col: where: what (hint), and nothing when there is none. Models are
    opened, so that a file no runtime here can use is found; the Python beside a pipeline is read but not run.
    """
    import msgspec

    from edgeflow_tools.pipelines import checked, located

    found = [problem for file in map(located, files) for problem in checked(file).problems]
    if as_json:
        emit({"problems": msgspec.to_builtins(found)})
    elif found:
        click.echo("\n".join(map(str, found)))
    raise SystemExit(UNWELL if found else 0)
