"""``edgeflow logs``: what the processes of a device say, and what the authors' code prints there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from edgeflow_tools.terminal import Failure, counted, emit, json_option, note
from edgeflow_tools.times import since_option

PATH = "/api/v1/logs"
LEVELS = ("debug", "info", "warning", "error", "critical")
MAX_LINES = 1000
LOOK_S = 0.3
_UNCERTAIN = ("unsynchronised", "corrected")

Line = dict[str, Any]


@click.command(epilog="Example: edgeflow logs bearing-watch --level warning --follow")
@click.argument("name", required=False, metavar="[PIPELINE|PROCESS]")
@click.option("--to", metavar="URL", help="The device's address (EDGEFLOW_DEVICE, http://127.0.0.1:7080).")
@click.option(
    "--store",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A device's data folder, in place of --to: its agent need not run.",
)
@click.option(
    "--level", type=click.Choice(LEVELS), default="debug", help="Only lines of at least this level."
)
@since_option
@click.option(
    "--limit", metavar="N", type=click.IntRange(1, MAX_LINES), default=100, show_default=True,
    help="Only the newest N.",
)  # fmt: skip
@click.option("--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
@json_option
def command(name: str | None, to: str | None, store: Path | None, **rest: Any) -> None:
    """Print the newest lines of a device's logs, of all its processes in the order they were written.

    Name a pipeline for all that concerns it (its worker, its prints, its inputs and outputs), or a process:
    agentd, io, link, worker. A time is marked with ~ where the device's clock was not known for certain.
    """
    if to is not None and store is not None:
        raise click.UsageError("give either --to or --store")
    asked = {"name": name or "", "level": rest["level"], "since": rest["since"] or "", "limit": rest["limit"]}
    source = _Store(store, asked) if store is not None else _Device(to, asked)
    show = emit if rest["as_json"] else _show
    for line in source.newest():
        show(line)
    source.remark(name)
    if rest["follow"]:
        with contextlib.suppress(KeyboardInterrupt):
            for line in source.following():
                show(line)


class _Device:
    """The logs of a device that runs, over its endpoint."""

    def __init__(self, to: str | None, asked: dict[str, Any]) -> None:
        from edgeflow_tools import whom

        self._server = whom.whom(to, None, None).server
        self._asked = asked
        self._page: dict[str, Any] = {}

    def newest(self) -> list[Line]:
        """Return the newest lines."""
        self._page = self._server.get(PATH, **self._asked)
        lines: list[Line] = self._page["lines"]
        return lines

    def following(self) -> Iterator[Line]:
        """Yield the lines behind those, for ever."""
        asked = {option: value for option, value in self._asked.items() if option != "limit"}
        yield from self._server.stream(PATH, after=self._page["next"], **asked)

    def remark(self, name: str | None) -> None:
        """Say what was amiss with what was asked for."""
        _remark(name, self._page["names"], self._pipelines, self._page["lines"], self._page["unreadable"])

    def _pipelines(self) -> list[str]:
        return [found["name"] for found in self._server.get("/api/v1/pipelines")["pipelines"]]


class _Store:
    """The logs in a data folder."""

    def __init__(self, store: Path, asked: dict[str, Any]) -> None:
        from edgeflow_agent.store.logs import Page, Query, Reader
        from edgeflow_agent.store.state import timeline
        from edgeflow_tools.readable import refused

        if not (store / "logs").is_dir():
            raise Failure(f"{store} holds no logs: it is no agent's data folder, or none has run there yet")
        if why := refused(store / "logs"):
            raise Failure(why)
        self._reader = Reader(store / "logs", timeline(store / "state"))
        self._journals = store / "journals"
        self._query, self._page = Query(**asked), Page()

    def newest(self) -> list[Line]:
        """Return the newest lines."""
        import msgspec

        self._page = self._reader.newest(self._query)
        return [msgspec.to_builtins(line) for line, _ in self._page.lines]

    def following(self) -> Iterator[Line]:
        """Yield the lines behind those, for ever."""
        import msgspec

        positions = self._page.positions
        while True:
            page = self._reader.following(positions, self._query)
            positions = page.positions
            yield from (msgspec.to_builtins(line) for line, _ in page.lines)
            if len(page.lines) < self._query.limit:
                time.sleep(LOOK_S)

    def remark(self, name: str | None) -> None:
        """Say what was amiss with what was asked for."""
        _remark(name, self._reader.names(), self._pipelines, self._page.lines, self._page.unreadable)

    def _pipelines(self) -> list[str]:
        from edgeflow_proto.event import AGENT

        folders = self._journals.iterdir() if self._journals.is_dir() else ()
        return [path.name for path in folders if path.name != AGENT]


def _remark(
    name: str | None,
    names: list[str],
    pipelines: Callable[[], list[str]],
    lines: list[Any],
    unreadable: int,
) -> None:
    """Say what cannot be read, and why there is no line of a `name`: `names` have some, `pipelines` may."""
    from edgeflow_proto.pipeline.problem import near_miss

    if unreadable:
        note(f"{counted(unreadable, 'line was', 'lines were')} torn and cannot be read")
    if name is None or lines or name in names:
        return
    known = pipelines()
    if name in known:
        note(f"nothing is logged of '{name}' yet")
    else:
        hint = near_miss(name, sorted({*names, *known})) or "nothing is logged at all"
        note(f"nothing is logged of '{name}' ({hint})")


def _show(line: Line) -> None:
    from edgeflow_agent.core.logs import left_out

    who = "/".join(part for part in (line["process"], line.get("pipeline", "")) if part)
    level = line["level"] if line["level"] != "info" else ""
    mark = "~" if line["clock"] in _UNCERTAIN else " "
    more = left_out(line.get("suppressed", 0))
    click.echo(f"{line['time']}{mark} {who:<24} {level:<8} {line['message']}{more}")
    if line.get("traceback"):
        click.echo("    " + line["traceback"].rstrip().replace("\n", "\n    "))
