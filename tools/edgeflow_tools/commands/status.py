"""``edgeflow status``: how a device fares."""

from __future__ import annotations

from typing import Any

import click

from edgeflow_tools.terminal import UNWELL, emit, json_option

RUNNING = "running"


@click.command(epilog="Example: edgeflow status --device http://127.0.0.1:7080")
@click.option("--device", metavar="URL", help="Default: EDGEFLOW_DEVICE, else http://127.0.0.1:7080.")
@json_option
def command(device: str | None, as_json: bool) -> None:
    """Show a device, its pipelines and its way to the relay.

    Exit code 1 says that a pipeline is not running.
    """
    from edgeflow_tools.client import DEVICE, Server

    server = Server(DEVICE, device)
    about = server.get("/api/v1/device")
    pipelines = server.get("/api/v1/pipelines")["pipelines"]
    if as_json:
        emit({"device": about, "pipelines": pipelines})
    else:
        _show(about, pipelines)
    raise SystemExit(UNWELL if any(pipeline["state"] != RUNNING for pipeline in pipelines) else 0)


def _show(about: dict[str, Any], pipelines: list[dict[str, Any]]) -> None:
    from edgeflow_tools import tables

    host = about["host"]
    tables.facts(
        ("device", f"{about['device']} of {about['fleet']}, EdgeFlow {about['version']}, {about['machine']}"),
        ("clock", f"{about['time']}, {about['clock_quality']}; up {tables.duration(about['uptime_s'])}"),
        ("host", f"CPU {host['cpu_percent']:.0f} %, {tables.size(host['memory_available'])} memory and "
                 f"{tables.size(host['disk_free'])} disk free"),
        ("relay", _relay(about["relay"])),
    )  # fmt: skip
    if pipelines:
        click.echo()
    headings = ("pipeline", "state", "from", "rows", "inferences", "events", "rows lost", "restarts", "p99")
    tables.show(headings, [_row(pipeline) for pipeline in pipelines])
    for pipeline in pipelines:
        for where, error in _errors(pipeline).items():
            click.echo(f"{pipeline['name']}: {where}{error}")


def _relay(relay: dict[str, Any]) -> str:
    if not relay["address"]:
        return "none is set"
    state = "connected" if relay["connected"] else f"not connected ({relay['error'] or 'no answer'})"
    return f"{relay['address']}: {state}, {relay['backlog']:,} events wait"


def _row(pipeline: dict[str, Any]) -> tuple[str, ...]:
    p99 = pipeline["latency_us"]["decision"]["p99"]
    names = ("rows_total", "inferences_total", "events_total", "rows_lost_total")
    counts = (f"{_total(pipeline['counters'], name):,}" for name in names)
    latency = "" if p99 is None else f"{p99 / 1e3:,.1f} ms"
    return (
        pipeline["name"],
        pipeline["state"],
        pipeline["origin"],
        *counts,
        f"{pipeline['restarts']:,}",
        latency,
    )


def _total(counters: dict[str, int], name: str) -> int:
    """Return the sum of a counter over its labels."""
    return sum(count for key, count in counters.items() if key.partition("{")[0] == name)


def _errors(pipeline: dict[str, Any]) -> dict[str, str]:
    errors = {f"{where}: ": text for where, text in pipeline["errors"].items()}
    return errors | ({"": pipeline["reason"]} if pipeline["reason"] else {})
