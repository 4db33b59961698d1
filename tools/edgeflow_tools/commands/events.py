"""``edgeflow events``: what devices decided."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from edgeflow_tools.terminal import emit, json_option

if TYPE_CHECKING:
    from edgeflow_tools.client import Server

PATH = "/api/v1/events"
PAGE = 1000
Filter = dict[str, str | int | None]


def _since(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Read a moment, or how long ago it was, as event times are written."""
    from edgeflow_proto.event import wall_time
    from edgeflow_proto.pipeline.units import Duration

    if value is None:
        return None
    with contextlib.suppress(ValueError):
        return wall_time(time.time_ns() - Duration.parse(value))
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter("give a time such as 2025-01-31T12:00Z, or how long ago: 10min") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return wall_time(round(moment.timestamp() * 1e6) * 1000)


@click.command(epilog="Example: edgeflow events --pipeline bearing-watch --since 1h --follow")
@click.option("--relay", metavar="URL", help="Default: EDGEFLOW_RELAY, else http://127.0.0.1:7000.")
@click.option(
    "--device", metavar="NAME|URL", help="Only this device's; an URL asks the device, not the relay."
)
@click.option("--pipeline", metavar="NAME", help="Only this pipeline's.")
@click.option("--type", "type_", metavar="TYPE", help="Only events of this type.")
@click.option(
    "--since", metavar="TIME", callback=_since, help="2025-01-31T12:00Z (UTC unless said), or 10min."
)
@click.option("--limit", metavar="N", type=click.IntRange(min=0), help="Only the newest N.")
@click.option("--follow", is_flag=True, help="Go on with new ones until Ctrl-C; past ones only if asked for.")
@json_option
def command(
    relay: str | None, device: str | None, since: str | None, limit: int | None, follow: bool, **rest: Any
) -> None:
    """Print events, oldest first; with --json as CloudEvents, one a line."""
    server, name = _server(relay, device)
    chosen: Filter = {"device": name, "pipeline": rest["pipeline"], "type": rest["type_"]}
    show = emit if rest["as_json"] else _show
    cursor = None
    if not follow or since is not None or limit is not None:
        past = Past(server, chosen, since)
        for event in past if limit is None else deque(past, maxlen=limit):
            show(event)
        cursor = past.cursor
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            for event in server.stream(PATH, after=cursor, **chosen):
                show(event)


def _server(relay: str | None, device: str | None) -> tuple[Server, str | None]:
    """Return whom to ask, and the device's name where one is among many."""
    from edgeflow_tools.client import DEVICE, RELAY, Server

    if device is not None and "://" in device:
        if relay is not None:
            raise click.UsageError("give a device's URL or --relay, not both")
        return Server(DEVICE, device), None
    alone = "EDGEFLOW_DEVICE" in os.environ and "EDGEFLOW_RELAY" not in os.environ
    if relay is None and device is None and alone:
        return Server(DEVICE), None
    return Server(RELAY, relay), device


class Past:
    """Events up to now; `cursor` is where new ones begin once all were taken."""

    def __init__(self, server: Server, chosen: Filter, since: str | None) -> None:
        self._server = server
        self._chosen = chosen
        self._since = since
        self.cursor = "0"

    def __iter__(self) -> Iterator[dict[str, Any]]:
        from edgeflow_tools.client import RELAY

        # A device does not search by time.
        query = self._chosen | ({"since": self._since} if self._server.kind == RELAY else {})
        more = True
        while more:
            page = self._server.get(PATH, after=self.cursor, limit=PAGE, **query)
            self.cursor = page["next"]
            more = bool(page["events"]) or page.get("more", False)
            yield from (event for event in page["events"] if event["time"] >= (self._since or ""))


def _show(event: dict[str, Any]) -> None:
    _, _, device, _, pipeline = event["source"].split("/", 4)
    subject = f" {event['subject']}" if "subject" in event else ""
    data = " ".join(f"{name}={_value(value)}" for name, value in event["data"].items())
    severity = event["severity"] if event["severity"] != "info" else ""
    click.echo(f"{event['time']}  {device}/{pipeline:<16} {severity:<8} {event['type']}{subject}  {data}")


def _value(value: Any) -> str:
    """Return a value as JSON, a number to as many places as a float32 has."""
    return f"{value:.7g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
