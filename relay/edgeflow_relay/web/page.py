"""The status page: rendered here, refreshed by one stream of fragments, nothing fetched from elsewhere.

A fragment is the content of one element by its id. All text is escaped here and nowhere else.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from functools import cache, partial
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from edgeflow_proto import trace_page
from edgeflow_relay.api.common import EVENT_STREAM, Refusal, Relay, relay_of
from edgeflow_relay.api.events import traced
from edgeflow_relay.store import bundles, events, wishes
from edgeflow_relay.store.bundles import Version
from edgeflow_relay.store.devices import Known, Pipeline
from edgeflow_relay.store.wishes import Deployments
from edgeflow_relay.web.words import ago, amount, size

Fragments = dict[str, str]
REFRESH_S = 1.0
PAUSE_S = 0.25  # between two looks, however often devices are heard: a thousand are all the time
RECENT = 15
MAX_PAGES = 32
_SHOWN = 200  # rows of one table
_TONES = {"running": "good", "starting": "off", "stopped": "off", "failing": "bad", "refused": "bad"}
_SECTIONS = ("relay", "devices", "pipelines", "recent")


@cache
def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text()


@cache
def content_security_policy() -> str:
    """Return the policy under which nothing runs but the page's own style and script."""
    style, script = (f"'sha256-{_sha256(_asset(name))}'" for name in ("page.css", "page.js"))
    rest = "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return f"default-src 'none'; style-src {style}; script-src {script}; {rest}"


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


async def index(request: Request) -> Response:
    """Return the page."""
    relay = relay_of(request)
    content = await fragments(relay)
    main = "".join(f'<section id="{name}">{content[name]}</section>' for name in _SECTIONS)
    foot = (
        "<a href=/metrics>metrics</a> <a href=/api/v1/devices>devices</a> "
        "<a href=/api/v1/pipelines>pipelines</a> <a href=/api/v1/events>events</a>"
        "<span id=live class=quiet>not live</span>"
    )
    return _document(relay.settings.fleet, main, foot, f"<script>{_asset('page.js')}</script>")


async def event(request: Request) -> Response:
    """Return the page that explains an event."""
    trace = await traced(request)
    query = f"?{escape(request.url.query)}" if request.url.query else ""
    raw = f'<a href="/api/v1/events/{escape(trace.event["id"])}/trace{query}">JSON</a>'
    return _document(trace_page.title(trace), trace_page.body(trace), f"<a href=/>relay</a> {raw}")


def wanted(request: Request) -> bool:
    """Say whether a request is answered with a page: by people's browsers, but for what programs ask."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")


def refusal(status: int, words: str) -> Response:
    """Return the page that says why there is no other."""
    return _document(
        "Not here", f"<section><p>{escape(words)}</p></section>", "<a href=/>relay</a>", "", status
    )


def _document(title: str, main: str, foot: str, script: str = "", status: int = 200) -> Response:
    title = escape(title)
    html = (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{title} · EdgeFlow relay</title>"
        '<meta name=viewport content="width=device-width, initial-scale=1"><link rel=icon href="data:,">'
        f"<style>{_asset('page.css')}</style></head><body>"
        f"<header><h1>{title}</h1><p>EdgeFlow relay</p></header><main>{main}</main>"
        f"<footer>{foot}</footer>{script}</body></html>"
    )
    return HTMLResponse(html, status, {"content-security-policy": content_security_policy()})


class Pages:
    """Counts the open pages, so that they stay few."""

    def __init__(self) -> None:
        self._open = 0

    async def stream(self, request: Request) -> Response:
        """Stream what changes on the page."""
        if self._open >= MAX_PAGES:
            raise Refusal(503, "too many pages are open")
        return StreamingResponse(self._changes(relay_of(request)), media_type=EVENT_STREAM)

    async def _changes(self, relay: Relay) -> AsyncIterator[bytes]:
        sent: Fragments = {}
        self._open += 1
        try:
            while not relay.stopping:
                rings, now = relay.ticks.rings, await fragments(relay)
                changed = [(name, content) for name, content in now.items() if sent.get(name) != content]
                yield b"data: %s\n\n" % msgspec.json.encode(changed)
                sent = now
                await asyncio.sleep(PAUSE_S)
                await relay.ticks.wait(REFRESH_S, since=rings)
        finally:
            self._open -= 1


async def fragments(relay: Relay) -> Fragments:
    """Return all that the page shows, by element."""
    found = await relay.database.read(wishes.deployments)
    versions = await relay.database.read(bundles.versions)
    newest = await relay.database.read(partial(events.last, query=events.Query(), count=RECENT))
    return {
        "relay": _relay(relay),
        "devices": _devices(relay, found),
        "pipelines": _pipelines(versions, found),
        "recent": _recent(newest.rows[::-1]),
    }


def _table(title: str, headings: tuple[str, ...], rows: list[str], none: str) -> str:
    if not rows:
        return f"<h2>{title}</h2><p class=quiet>{none}</p>"
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    more = f"<p class=quiet>and {len(rows) - _SHOWN} more</p>" if len(rows) > _SHOWN else ""
    return f"<h2>{title}</h2><table><tr>{head}</tr>{''.join(rows[:_SHOWN])}</table>{more}"


def _row(*cells: str) -> str:
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _badge(text: str, tone: str) -> str:
    return f'<span class="badge {tone}">{escape(text)}</span>'


def _relay(relay: Relay) -> str:
    count = relay.counters
    figures = [
        ("devices online", f"{len(relay.registry.streams)} of {len(relay.registry.known)}"),
        ("stored since the start", amount(count["events_stored_total"])),
        ("came again", amount(count["events_duplicate_total"])),
        ("missing", amount(count["events_missing_total"])),
        ("blocks set aside", amount(count["blocks_rejected_total"])),
        ("refused messages", amount(count["malformed_total"])),
    ]
    items = "".join(f"<div><dt>{label}</dt><dd>{text}</dd></div>" for label, text in figures)
    return f"<dl>{items}</dl>{_store(relay)}{_mirror(relay)}"


def _store(relay: Relay) -> str:
    reasons = relay.database.health.reasons
    return "".join(f"<p>{_badge('store', 'bad')} {escape(reason)}</p>" for reason in reasons)


def _mirror(relay: Relay) -> str:
    mirror = relay.mirror
    if mirror is None:
        return f"<p>{_badge('mirror', 'off')} no MQTT broker is set</p>"
    words = f"{mirror.address}: {'connected' if mirror.connected else mirror.error}"
    waiting = f"{amount(mirror.backlog)} events wait"
    return f"<p>{_badge('mirror', 'good' if mirror.connected else 'bad')} {escape(words)}, {waiting}</p>"


def _devices(relay: Relay, found: dict[str, Deployments]) -> str:
    rows = [_device(relay, known, found.get(known.name)) for known in relay.registry]
    headings = ("device", "", "pipelines", "host", "events waiting", "agent")
    return _table("Devices", headings, rows, "No device has said hello yet.")


def _device(relay: Relay, known: Known, deployments: Deployments | None) -> str:
    online = relay.registry.online(known.name)
    heartbeat = known.heartbeat
    running = "<br>".join(
        _running(pipeline, online) for pipeline in (heartbeat.pipelines if heartbeat else ())
    )
    return _row(
        f"<b>{escape(known.name)}</b>",
        _badge("online", "good") if online else f"{_badge('offline', 'bad')} {ago(known.last_seen_ns)}",
        running + _unmet(known, deployments) or "<span class=quiet>nothing</span>",
        _host(known),
        amount(heartbeat.backlog) if heartbeat else "–",
        f"{escape(known.about.agent_version)} <span class=quiet>{escape(known.about.machine)}</span>",
    )


def _running(pipeline: Pipeline, online: bool) -> str:
    tone = _TONES.get(pipeline.state, "off") if online else "off"  # what was last heard
    reason = f" <span class=reason>{escape(pipeline.reason[:200])}</span>" if pipeline.reason else ""
    return (
        f"{escape(pipeline.name)} {_badge(pipeline.state, tone)} "
        f"<span class=quiet>{escape(pipeline.digest[:8])} from {escape(pipeline.origin)}</span>{reason}"
    )


def _unmet(known: Known, deployments: Deployments | None) -> str:
    """Say what is desired and does not run."""
    running = {p.name: p.digest for p in known.heartbeat.pipelines} if known.heartbeat else {}
    out = []
    for name, digest in (deployments.desired if deployments else {}).items():
        if running.get(name) != digest:
            told = deployments.outcomes.get(name) if deployments else None
            state, reason = (told.state, told.reason) if told and told.digest == digest else ("wanted", "")
            tone = "bad" if state == "refused" else "off"
            out.append(
                f"{escape(name)} {_badge(state, tone)} <span class=reason>{escape(reason[:300])}</span>"
            )
    return "".join(f"<div>{line}</div>" for line in out)


def _host(known: Known) -> str:
    host = known.heartbeat.host if known.heartbeat else None
    if host is None:
        return "–"
    cpu = f"CPU {host.cpu_percent:.0f} %, " if host.cpu_percent is not None else ""
    used = host.memory_total - host.memory_available
    heat = f", {host.temperature:.0f} °C" if host.temperature is not None else ""
    return f"{cpu}{size(used)} of {size(host.memory_total)}, disk free {size(host.disk_free)}{heat}"


def _pipelines(versions: list[Version], found: dict[str, Deployments]) -> str:
    latest: dict[str, Version] = {}
    for version in versions:
        latest.setdefault(version.manifest.name, version)
    wanted = [name for deployments in found.values() for name in deployments.desired]
    rows = [
        _row(
            f"<b>{escape(name)}</b>",
            f"<code>{escape(version.digest[:12])}</code>",
            ago(version.uploaded_ns),
            amount(wanted.count(name)),
        )
        for name, version in sorted(latest.items())
    ]
    headings = ("pipeline", "latest", "uploaded", "devices")
    return _table("Pipelines", headings, rows, "No pipeline was uploaded yet.")


def _recent(rows: list[tuple[int, str]]) -> str:
    shown = [_event(msgspec.json.decode(body)) for _, body in rows]
    headings = ("time", "device", "pipeline", "event", "of", "data")
    return _table("Newest events", headings, shown, "No event yet.")


def _event(event: dict[str, Any]) -> str:
    _, _, device, _, pipeline = event["source"].split("/", 4)
    data = msgspec.json.encode(event["data"]).decode()
    time = event["time"][:19].replace("T", " ")
    cells = [*map(escape, (time, device, pipeline, event["type"], event.get("subject", ""), data[:160]))]
    cells[3] = f'<a href="/events/{escape(event["id"])}?device={quote(device)}">{cells[3]}</a>'
    inner = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr class="{escape(event["severity"])}">{inner}</tr>'


def routes() -> list[Route]:
    """Return the page's routes."""
    return [Route("/", index), Route("/events/{id}", event), Route("/api/v1/status/stream", Pages().stream)]
