"""``edgeflow devices``: the fleet as the relay knows it."""

from __future__ import annotations

import time
from typing import Any

import click

from edgeflow_tools.terminal import emit, json_option
from edgeflow_tools.whom import relay_option


@click.command(epilog="Example: edgeflow devices --relay http://127.0.0.1:7000")
@relay_option
@json_option
def command(relay: str | None, as_json: bool) -> None:
    """List the devices of a relay, and what runs on each."""
    from edgeflow_tools import tables
    from edgeflow_tools.client import RELAY, Server

    devices = Server(RELAY, relay).met().get("/api/v1/devices")["devices"]
    if as_json:
        emit({"devices": devices})
    elif not devices:
        click.echo("no device has said hello yet")
    else:
        headings = ("device", "fleet", "state", "events waiting", "pipelines")
        tables.show(headings, [_row(device) for device in devices])


def _row(device: dict[str, Any]) -> tuple[str, ...]:
    from edgeflow_tools import tables

    away = tables.duration(max(0.0, time.time() - device["seen_ns"] / 1e9))
    state = "online" if device["online"] else f"offline, seen {away} ago"
    state += "; another agent calls itself so too" if device["rival"] else ""
    return (device["name"], device["fleet"], state, f"{device['backlog'] or 0:,}", _pipelines(device))


def _pipelines(device: dict[str, Any]) -> str:
    """Say what runs; of what the relay wants, also what became of it where it does not."""
    told = {pipeline["name"]: pipeline["state"] for pipeline in device["pipelines"]}
    for name, digest in device["desired"].items():
        outcome = device["deployments"].get(name, {})
        if outcome.get("digest") != digest:
            told[name] = f"{told[name]}, another is wanted" if name in told else "wanted"
        elif outcome["state"] not in ("active", "removed"):
            told[name] = outcome["state"]
    return ", ".join(f"{name} ({state})" for name, state in sorted(told.items()))
