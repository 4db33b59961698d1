"""``edgeflow tap``: live rows of any edge of a running pipeline."""

from __future__ import annotations

import contextlib
import json
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from edgeflow_tools.terminal import emit, json_option, note

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOWN = 8  # values of a row or column in one line


@click.command(epilog="Example: edgeflow tap bearing-watch score --rate 2")
@click.argument("pipeline")
@click.argument("edge")
@click.option("--to", metavar="URL", help="The device's address (EDGEFLOW_DEVICE, http://127.0.0.1:7080).")
@click.option(
    "--rate", type=click.FloatRange(0.01, 100), default=10, show_default=True, help="Rows a second."
)
@click.option("--count", metavar="N", type=click.IntRange(min=1), help="End after N rows.")
@json_option
def command(pipeline: str, edge: str, to: str | None, rate: float, count: int | None, as_json: bool) -> None:
    """Show the rows of an edge as they come: of an input, a step, or a port such as alarm.state.

    At most --rate rows a second are copied; the others are counted ("skipped"). The pipeline goes on as
    before: whoever is slow to read misses rows. Ctrl-C ends it. "edgeflow run --explain" lists the edges.
    """
    with contextlib.suppress(KeyboardInterrupt):
        for row in islice(_rows(pipeline, edge, to, rate), count):
            if as_json:
                emit(row)
            else:
                click.echo(_line(row))


def _rows(pipeline: str, edge: str, to: str | None, rate: float) -> Iterator[dict[str, Any]]:
    """Yield rows, over ends of the worker and of the connection too; raises Failure at the start."""
    from edgeflow_tools import whom
    from edgeflow_tools.client import quoted

    server = whom.whom(to, None, None).server
    path = f"/api/v1/pipelines/{quoted(pipeline)}/tap/{quoted(edge)}"
    for message in server.stream(path, rate=str(rate)):
        if "edge" in message:
            note(_head(message))
        else:
            yield message


def _head(head: dict[str, Any]) -> str:
    shape = "?" if head["shape"] is None else head["shape"]
    clipped = "; the first values of each row" if head["clipped"] else ""
    return f"{head['edge']}: rows of {shape} {head['dtype'] or '?'}{clipped}"


def _line(row: dict[str, Any]) -> str:
    parts = [row["time"], row.get("key", "")]
    parts += [f"{name}={_value(value)}" for name, value in row.get("data", {}).items()]
    parts += [_value(row["values"])] if "values" in row else []
    parts += [f"({row['skipped']:,} skipped)"] if "skipped" in row else []
    return "  ".join(part for part in parts if part)


def _value(value: Any) -> str:
    """Return a value in a line: numbers to as many places as a float32 has, of long lists the beginning."""
    if isinstance(value, list):
        more = f", … {len(value)}" if len(value) > SHOWN else ""
        return f"[{', '.join(map(_value, value[:SHOWN]))}{more}]"
    return f"{value:.7g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
