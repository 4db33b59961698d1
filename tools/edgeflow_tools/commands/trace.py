"""``edgeflow trace``: why a device said what it said."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeflow_tools import whom
from edgeflow_tools.terminal import Failure, Unwell, counted, emit, json_option, note

if TYPE_CHECKING:
    from edgeflow_proto.rows import Rows
    from edgeflow_proto.trace import Trace
    from edgeflow_tools.stored import Stored


@click.command(epilog="Example: edgeflow trace 5f0c9a1be2d34c77-1042 --relay http://relay:7000")
@click.argument("event")
@whom.options
@click.option(
    "--store",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A device's data folder, or a copy of it, in place of a server.",
)
@click.option("--openlineage", is_flag=True, help="Print OpenLineage run events, one a line.")
@click.option(
    "--rows",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the recorded rows behind it, as .csv or .npy.",
)
@click.option(
    "--input", "name", metavar="NAME", help="With --rows: whose rows, where there are several inputs."
)
@json_option
def command(
    event: str,
    store: Path | None,
    rows: Path | None,
    name: str | None,
    openlineage: bool,
    as_json: bool,
    **rest: Any,
) -> None:
    """Explain an event, by its id: what it was made of, by which steps, and what was lost nearby.

    It is asked of the relay, which knows events of devices that are away, of a device (--to), or read out of
    a device's data folder (--store; --device then renames that device). "edgeflow events --ids" prints ids.
    Recorded rows are with the device alone; with --rows the trace is printed only as --json or --openlineage.
    """
    if name is not None and rows is None:
        raise click.UsageError("--input says whose rows are meant: give --rows FILE with it")
    with _source(store, **rest) as source:
        found = source.trace(event)
        if rows is not None:
            _write(source, found, rows, name)
        if openlineage:
            for line in _run_events(found):
                emit(line)
        elif as_json:
            emit(found.to_json())
        elif rows is None:
            from edgeflow_tools import traced

            traced.show(found)


class _Asked:
    """A relay or a device that is asked. Every call raises Failure."""

    def __init__(self, to: str | None, device: str | None, relay: str | None) -> None:
        self._server, self._device = whom.whom(to, device, relay, fleet=True)

    def trace(self, event: str) -> Trace:
        from edgeflow_proto.trace import trace_from
        from edgeflow_tools.client import quoted

        try:
            return trace_from(self._server.get(f"/api/v1/events/{quoted(event)}/trace", device=self._device))
        except Unwell as error:  # nothing was looked at that could be unwell
            raise Failure(error.message) from None
        except ValueError as error:
            raise Failure(f"{self._server.url}: {error}") from None

    def rows(self, found: Trace, name: str) -> Iterator[Rows]:
        from edgeflow_proto.rows import CONTENT_TYPE, sequence
        from edgeflow_tools.client import RELAY, quoted

        if self._server.kind == RELAY:
            raise Failure(
                f"recorded rows are with the device alone: give the address of {found.device} with --to"
            )
        path = f"/api/v1/events/{quoted(found.event['id'])}/rows/{quoted(name)}"
        with self._server.body(path, CONTENT_TYPE) as body:
            try:
                yield from sequence(body)
            except ValueError as error:
                raise Failure(f"{self._server.url}: {error}") from None


@contextlib.contextmanager
def _source(
    store: Path | None, to: str | None, device: str | None, relay: str | None
) -> Iterator[_Asked | Stored]:
    """Return whoever is asked; raises Failure and UsageError."""
    if store is None:
        yield _Asked(to, device, relay)
        return
    if to is not None or relay is not None:
        raise click.UsageError("give either --store or a server")
    from edgeflow_tools.stored import Stored

    with contextlib.closing(Stored(store, device)) as stored:
        yield stored


def _write(source: _Asked | Stored, found: Trace, file: Path, name: str | None) -> None:
    """Write the rows of an input; raises Failure where it cannot be told which, or there are none."""
    from edgeflow_proto.trace import naming_of
    from edgeflow_tools import rowfiles

    if file.suffix not in rowfiles.ENDINGS:
        raise Failure(f"{file}: rows are written as {' or '.join(rowfiles.ENDINGS)}")
    inputs = [*found.spans] if name is None else [name]
    if len(inputs) != 1 or inputs[0] not in found.spans:
        raise Failure(f"say whose rows with --input: {', '.join(found.spans) or 'it came from no rows'}")
    blocks = source.rows(found, inputs[0])
    first = next(blocks, None)
    if first is None:
        raise Failure(f"no rows of {inputs[0]} are recorded that are behind this event")
    count = rowfiles.write(_with(first, blocks), file, naming_of(found, inputs[0]))
    note(f"{counted(count, 'row', 'rows')}{_whose(found, inputs[0], count)} in {file}")
    if file.suffix == rowfiles.NPY:
        note(f"an {rowfiles.NPY} file holds values alone; {rowfiles.CSV} has times and keys too")


def _whose(found: Trace, name: str, count: int) -> str:
    """Return which rows of an input were written, among how many."""
    span = found.spans[name]
    of = f" of {span.count:,}" if span.count not in (None, count) else ""
    if span.key is None:
        return f"{of} of {name}"
    return f" of {name}: those of {span.key} among {'all' if span.count is None else f'{span.count:,}'},"


def _with(first: Rows, others: Iterator[Rows]) -> Iterator[Rows]:
    yield first
    yield from others


def _run_events(found: Trace) -> list[dict[str, Any]]:
    from edgeflow_proto.openlineage import run_events

    try:
        return run_events(found)
    except ValueError as error:
        raise Failure(f"there is no run to tell of: {error}") from None
