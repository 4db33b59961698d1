"""``edgeflow events``: what devices decided."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from edgeflow_tools import whom
from edgeflow_tools.terminal import emit, json_option, note
from edgeflow_tools.times import since_option

if TYPE_CHECKING:
    from edgeflow_tools.client import Server

PATH = "/api/v1/events"
PAGE = 1000
Filter = dict[str, str | int | None]


@click.command(epilog="Example: edgeflow events --pipeline bearing-watch --since 1h --follow")
@whom.options
@click.option("--pipeline", metavar="NAME", help="Only this pipeline's.")
@click.option("--type", "type_", metavar="TYPE", help="Only events of this type.")
@since_option
@click.option("--limit", metavar="N", type=click.IntRange(min=0), help="Only the newest N.")
@click.option("--follow", is_flag=True, help="Go on with new ones until Ctrl-C; past ones only if asked for.")
@click.option("--ids", is_flag=True, help="Begin each line with the event's id, which trace takes.")
@json_option
def command(since: str | None, limit: int | None, follow: bool, **rest: Any) -> None:
    """Print events of a fleet or of a device; with --json as CloudEvents, one a line.

    A relay's come in the order in which they reached it, so those of a device that was offline come late; a
    device's own (--to) in the order of their times.
    """
    server, name = whom.whom(rest["to"], rest["device"], rest["relay"], fleet=True)
    chosen: Filter = {"device": name, "pipeline": rest["pipeline"], "type": rest["type_"]}
    show = emit if rest["as_json"] else partial(_show, ids=rest["ids"])
    cursor = None
    if not follow or since is not None or limit is not None:
        past = Past(server, chosen, since)
        for event in past if limit is None else deque(past, maxlen=limit):
            show(event)
        cursor = past.cursor
        if not past.found:
            _remark(server, chosen["pipeline"])
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            for event in server.stream(PATH, after=cursor, **chosen):
                show(event)


class Past:
    """Events up to now; `cursor` is where new ones begin once all were taken."""

    def __init__(self, server: Server, chosen: Filter, since: str | None) -> None:
        self._server = server
        self._chosen = chosen
        self._since = since
        self.cursor = "0"
        self.found = False  # any

    def __iter__(self) -> Iterator[dict[str, Any]]:
        from edgeflow_tools.client import RELAY

        # A device does not search by time.
        query = self._chosen | ({"since": self._since} if self._server.kind == RELAY else {})
        more = True
        while more:
            page = self._server.get(PATH, after=self.cursor, limit=PAGE, **query)
            self.cursor = page["next"]
            more = bool(page["events"]) or page.get("more", False)
            for event in page["events"]:
                if event["time"] >= (self._since or ""):
                    self.found = True
                    yield event


def _remark(server: Server, pipeline: str | int | None) -> None:
    """Say so where there is no event because there is no such pipeline."""
    from edgeflow_proto.event import AGENT
    from edgeflow_proto.pipeline.problem import near_miss

    if pipeline is None:
        return
    devices = server.get("/api/v1/devices")["devices"] if server.kind == "relay" else []
    listed = [server.get("/api/v1/pipelines"), *devices]
    known = {AGENT, *(found["name"] for each in listed for found in each["pipelines"])}
    if pipeline not in known:
        note(f"{server.url} knows no pipeline '{pipeline}' ({near_miss(str(pipeline), known)})")


def _show(event: dict[str, Any], *, ids: bool) -> None:
    _, _, device, _, pipeline = event["source"].split("/", 4)
    subject = f" {event['subject']}" if "subject" in event else ""
    severity = event["severity"] if event["severity"] != "info" else ""
    line = f"{event['time']}  {device}/{pipeline:<16} {severity:<8} {event['type']}{subject}  {_data(event)}"
    click.echo(f"{event['id']:<24}  {line}" if ids else line)


def _data(event: dict[str, Any]) -> str:
    """Return what an event says; of a set-up, which is long, what it comes to."""
    from edgeflow_proto.setup import TYPE
    from edgeflow_proto.trace_words import set_up

    if event["type"] == TYPE:
        return set_up(event["data"])
    return " ".join(f"{name}={_value(value)}" for name, value in event["data"].items())


def _value(value: Any) -> str:
    """Return a value as JSON, a number to as many places as a float32 has."""
    return f"{value:.7g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
