"""``edgeflow status``: how a device fares."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from edgeflow_tools import whom
from edgeflow_tools.terminal import UNWELL, counted, emit, json_option

if TYPE_CHECKING:
    from edgeflow_tools.client import Server

RUNNING = "running"
STEP_ERRORS = "step_errors_total"
_FIGURES = ("rows_total", "inferences_total", "events_total", "rows_lost_total", STEP_ERRORS)
_HEADINGS = (
    "pipeline", "state", "from", "rows", "inferences", "events", "rows lost", "step errors", "restarts",
    "p99",
)  # fmt: skip


@click.command(epilog="Example: edgeflow status --to http://127.0.0.1:7080")
@whom.options
@json_option
def command(to: str | None, device: str | None, relay: str | None, as_json: bool) -> None:
    """Show a device, its pipelines, and its way to brokers and the relay.

    Exit code 1 says that a pipeline is not running, has dropped rows on errors, misses a broker, or has no
    room for its events or for what it records. A device of the relay's (--device) is shown as the relay last
    heard of it.
    """
    server, name = whom.whom(to, device, relay)
    if name is None and server.kind == "relay":
        raise click.UsageError("say which --device of the relay's")
    well = _own(server, as_json) if name is None else _heard(server, name, as_json)
    raise SystemExit(0 if well else UNWELL)


def _own(server: Server, as_json: bool) -> bool:
    """Show what a device says; return whether all is well."""
    about = server.get("/api/v1/device")
    pipelines = server.get("/api/v1/pipelines")["pipelines"]
    if as_json:
        emit({"device": about, "pipelines": pipelines})
    else:
        _show(about, pipelines)
    running = all(pipeline["state"] == RUNNING and not pipeline["errors"] for pipeline in pipelines)
    return running and not about["degraded"]


def _heard(server: Server, name: str, as_json: bool) -> bool:
    """Show what a relay knows of a device; return whether all is well."""
    from edgeflow_tools import tables
    from edgeflow_tools.client import quoted

    found = server.get(f"/api/v1/devices/{quoted(name)}")
    pipelines = [dict(pipeline, restarts="", latency="") for pipeline in found["pipelines"]]
    if as_json:
        emit({"device": found, "pipelines": found["pipelines"]})
    else:
        away = tables.duration(max(0.0, time.time() - found["seen_ns"] / 1e9))
        state = "online" if found["online"] else "offline"
        about = f"{name} of {found['fleet']}, EdgeFlow {found['agent_version']}, {found['machine']}"
        waiting = counted(found["backlog"] or 0, "event waits", "events wait")
        tables.facts(("device", about), ("relay", f"{server.url}: {state}, heard {away} ago, {waiting}"))
        _table(pipelines)
    return found["online"] and all(pipeline["state"] == RUNNING for pipeline in pipelines)


def _show(about: dict[str, Any], pipelines: list[dict[str, Any]]) -> None:
    from edgeflow_tools import tables

    host = about["host"]
    tables.facts(
        ("device", f"{about['device']} of {about['fleet']}, EdgeFlow {about['version']}, {about['machine']}"),
        ("clock", f"{about['time']}, {about['clock_quality']}; up {tables.duration(about['uptime_s'])}"),
        ("host", f"CPU {host['cpu_percent']:.0f} %, {tables.size(host['memory_available'])} memory and "
                 f"{tables.size(host['disk_free'])} disk free"),
        ("storage", f"{tables.size(about['storage']['bytes'])} of {tables.size(about['storage']['budget'])}"),
        *(("broker", _broker(broker)) for broker in about["brokers"]),
        ("relay", _relay(about["relay"])),
        *(("degraded", what) for what in about["degraded"] if not what.startswith("broker ")),
    )  # fmt: skip
    _table([dict(pipeline, latency=_latency(pipeline)) for pipeline in pipelines])


def _broker(broker: dict[str, Any]) -> str:
    from edgeflow_tools import tables

    state = "connected" if broker["connected"] else f"not connected ({broker['reason']})"
    return f"{broker['name']} at {broker['address']}: {state} for {tables.duration(broker['since_s'])}"


def _relay(relay: dict[str, Any]) -> str:
    if not relay["address"]:
        return "none is set"
    state = "connected" if relay["connected"] else f"not connected ({relay['error'] or 'no answer'})"
    waiting = counted(relay["backlog"], "event waits", "events wait")
    return f"{relay['address']}: {state}, {waiting}"


def _latency(pipeline: dict[str, Any]) -> str:
    p99 = pipeline["latency_us"]["decision"]["p99"]
    return "" if p99 is None else f"{p99 / 1e3:,.1f} ms"


def _table(pipelines: list[dict[str, Any]]) -> None:
    from edgeflow_tools import tables

    if pipelines:
        click.echo()
    tables.show(_HEADINGS, [_row(pipeline) for pipeline in pipelines])
    for pipeline in pipelines:
        for line in (*_errors(pipeline), *_rejected(pipeline["counters"])):
            click.echo(f"{pipeline['name']}: {line}")


def _row(pipeline: dict[str, Any]) -> tuple[str, ...]:
    counts = (f"{_total(pipeline['counters'], name):,}" for name in _FIGURES)
    about = (pipeline["name"], pipeline["state"], pipeline["origin"])
    return (*about, *counts, f"{pipeline['restarts']}", pipeline["latency"])


def _total(counters: dict[str, int], name: str) -> int:
    """Return the sum of a counter over its labels."""
    return sum(count for key, count in counters.items() if key.partition("{")[0] == name)


def _errors(pipeline: dict[str, Any]) -> list[str]:
    """Return what is wrong, a line each: of an error with a traceback the line that says what it is."""
    errors = [f"{where}: {text.partition(chr(10))[0]}" for where, text in pipeline.get("errors", {}).items()]
    errors += [f"warning: {text}" for text in pipeline.get("warnings", ())]
    return [pipeline["reason"], *errors] if pipeline["reason"] else errors


def _rejected(counters: dict[str, int]) -> list[str]:
    """Return what was rejected, a line per input."""
    from edgeflow_agent.core.counters import parse

    found: dict[str, list[str]] = {}
    for name, count in counters.items():
        sample = parse(name, count)
        if sample is not None and sample.name == "input_rejected_total" and count:
            found.setdefault(sample.labels["input"], []).append(f"{count:,} {sample.labels['reason']}")
    return [f"inputs.{name}: rejected {', '.join(reasons)}" for name, reasons in found.items()]
