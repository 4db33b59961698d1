"""The relay's page, and what probes ask for."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from edgeflow_relay.api.common import Relay, relay_of
from edgeflow_relay.store import events as stored

EVERY_S = 2.0
_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;margin:1.5rem auto;max-width:64rem;padding:0 1rem}
h1{font-size:1.3rem}h2{font-size:1.05rem;margin-top:2rem}table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.3rem .7rem .3rem 0;border-bottom:1px solid #8884;vertical-align:top}
.on{color:#17803d}.off{color:#b3261e}small{opacity:.7}code{font-size:.85em;overflow-wrap:anywhere}
"""
_SCRIPT = """
new EventSource('/status/stream').onmessage=e=>{document.getElementById('live').innerHTML=JSON.parse(e.data)};
"""


async def page(request: Request) -> Response:
    """Devices, pipelines and the newest events; refreshed by one stream."""
    relay = relay_of(request)
    live = await _live(relay)
    return HTMLResponse(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>EdgeFlow relay</title><style>{_STYLE}</style><h1>EdgeFlow relay "
        f"<small>fleet {escape(relay.settings.fleet)}</small></h1><div id=live>{live}</div>"
        f"<script>{_SCRIPT}</script></html>"
    )


async def stream(request: Request) -> Response:
    """The live part again whenever something changed."""
    return StreamingResponse(_refreshed(relay_of(request)), media_type="text/event-stream")


async def _refreshed(relay: Relay) -> AsyncIterator[str]:
    while True:
        yield f"data: {json.dumps(await _live(relay))}\n\n"
        await relay.registry.wait(EVERY_S)


async def _live(relay: Relay) -> str:
    devices = await relay.registry.fleet()
    events = await relay.database.read(lambda connection: stored.latest(connection, 20))
    rows = "".join(_device(device) for device in devices) or "<tr><td>no device has said hello yet"
    happened = "".join(_event(event) for event in events) or "<tr><td>none yet"
    return f"<h2>Devices</h2><table>{rows}</table><h2>Newest events</h2><table>{happened}</table>"


def _device(device: dict[str, Any]) -> str:
    host = device["host"] or {}
    age = max(0, (time.time_ns() - device["seen_ns"]) // 10**9)
    state = (
        "<span class=on>online</span>" if device["online"] else f"<span class=off>offline</span> for {age} s"
    )
    runs = "<br>".join(
        f"{escape(p.get('name', ''))}: {escape(p.get('state', ''))} "
        f"<small>{escape(p.get('reason', '')[:200])} "
        f"<code>{escape(p.get('digest', '')[:12])}</code> from {escape(p.get('origin', ''))}</small>"
        for p in device["pipelines"]
    )
    load = f"cpu {float(host.get('cpu_percent', 0)):.0f} %" if host else ""
    return (
        f"<tr><td><b>{escape(device['name'])}</b><td>{state}<td>{runs or 'nothing runs'}<td>{load}"
        f"<td>backlog {int(device['backlog'] or 0)}"
    )


def _event(event: dict[str, Any]) -> str:
    data = ", ".join(f"{name} {value}" for name, value in event.get("data", {}).items())
    device = event["source"].split("/")[2]
    return (
        f"<tr><td><small>{escape(event['time'])}</small><td>{escape(device)}<td>{escape(event['type'])}"
        f"<td>{escape(event.get('subject') or '')}<td><code>{escape(data[:200])}</code>"
    )


async def healthz(_: Request) -> Response:
    """The process serves."""
    return JSONResponse({"ok": True})


async def readyz(request: Request) -> Response:
    """The database answers."""
    await relay_of(request).database.read(stored.newest)
    return JSONResponse({"ready": True})


async def metrics(request: Request) -> Response:
    """Prometheus."""
    return PlainTextResponse(relay_of(request).counters.text(), media_type="text/plain; version=0.0.4")


ROUTES = [
    Route("/", page),
    Route("/status/stream", stream),
    Route("/healthz", healthz),
    Route("/readyz", readyz),
    Route("/metrics", metrics),
]
