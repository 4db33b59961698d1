"""The status page: rendered here, refreshed by one stream of fragments, nothing fetched from elsewhere.

A fragment is the content of one element by its id; the page asks to be loaded anew when there is another
set of them. All text is escaped here and nowhere else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from functools import cache
from html import escape
from pathlib import Path

import msgspec

from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.messages import PipelineStatus
from edgeflow_agent.web import feed, status
from edgeflow_agent.web.local import Local
from edgeflow_proto import trace_page
from edgeflow_proto.event import Event
from edgeflow_proto.trace import Trace

Fragments = dict[str, str]
RECENT = 12
_ORIGINS = {"relay": "from the relay", "http": "put here over HTTP", "folder": "from the folder"}
_TONES = {"running": "good", "starting": "off", "stopped": "off", "failing": "bad", "refused": "bad"}


@cache
def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text()


@cache
def content_security_policy() -> str:
    """Return the policy under which nothing runs but the page's own style and script."""
    sources = (f"'sha256-{_sha256(_asset(name))}'" for name in ("page.css", "page.js"))
    style, script = sources
    rest = "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return f"default-src 'none'; style-src {style}; script-src {script}; {rest}"


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def render(local: Local) -> str:
    """Return the whole page."""
    content = fragments(local)
    cards = "".join(_card(pipeline, content) for pipeline in _pipelines(local))
    main = (
        f"{_section('device', content)}{_section('relay', content)}"
        f"{cards or '<section><p class=quiet>No pipeline runs here yet.</p></section>'}"
        f"{_section('recent', content)}"
    )
    foot = (
        "<a href=/metrics>metrics</a> <a href=/api/v1/device>device</a> "
        "<a href=/api/v1/pipelines>pipelines</a> <a href=/api/v1/events>events</a>"
        "<span id=live class=quiet>not live</span>"
    )
    name = local.settings.device
    return _document(local, name, main, foot) + f"<script>{_asset('page.js')}</script></body></html>"


def render_trace(local: Local, trace: Trace) -> str:
    """Return the page that explains an event."""
    raw = f'<a href="/api/v1/events/{escape(trace.event["id"])}/trace">JSON</a>'
    heading, content = trace_page.title(trace), trace_page.body(trace)
    return _document(local, heading, content, f"<a href=/>device</a> {raw}") + "</body></html>"


def render_refusal(local: Local, words: str) -> str:
    """Return the page that says why there is no other."""
    main = f"<section><p>{escape(words)}</p></section>"
    return _document(local, "Not here", main, "<a href=/>device</a>") + "</body></html>"


def _document(local: Local, title: str, main: str, foot: str) -> str:
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{escape(title)} · EdgeFlow</title>"
        '<meta name=viewport content="width=device-width, initial-scale=1"><link rel=icon href="data:,">'
        f"<style>{_asset('page.css')}</style></head><body>"
        f"<header><h1>{escape(title)}</h1><p>EdgeFlow · fleet {escape(local.settings.fleet)}</p></header>"
        f"<main>{main}</main><footer>{foot}</footer>"
    )


def _section(name: str, content: Fragments) -> str:
    return f'<section id="{name}">{content[name]}</section>'


def _card(pipeline: PipelineStatus, content: Fragments) -> str:
    inner = "".join(f'<div id="{name}">{content[name]}</div>' for name in _ids(pipeline))
    return f"<section class=pipeline>{inner}</section>"


def _ids(pipeline: PipelineStatus) -> tuple[str, str, str]:
    name = escape(pipeline.name)
    return f"head:{name}", f"figures:{name}", f"errors:{name}"


def fragments(local: Local) -> Fragments:
    """Return all that the page shows, by element."""
    ways = [*(("broker", *about) for about in status.brokers(local)), ("relay", *status.relay(local))]
    out = {
        "device": _figures(status.device(local)),
        "relay": "".join(f"<p>{_badge(way, tone)} {escape(words)}</p>" for way, tone, words in ways),
        "recent": _recent(local),
    }
    for pipeline in _pipelines(local):
        figures = _figures(status.pipeline(local, pipeline))
        contents = (_head(pipeline), figures, _errors(pipeline))
        out |= dict(zip(_ids(pipeline), contents, strict=True))
    return out


def _pipelines(local: Local) -> list[PipelineStatus]:
    return sorted(local.pipelines.values(), key=lambda pipeline: pipeline.name)


def _badge(text: str, tone: str) -> str:
    return f'<span class="badge {tone}">{escape(text)}</span>'


def _figures(figures: list[tuple[str, str]]) -> str:
    items = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(text)}</dd></div>" for label, text in figures)
    return f"<dl>{items}</dl>"


def _head(pipeline: PipelineStatus) -> str:
    since = status.duration(max(0, boottime_ns() - pipeline.since_ns) / 1e9)
    origin = _ORIGINS.get(pipeline.origin, pipeline.origin)
    reason = f"<p class=reason>{escape(pipeline.reason)}</p>" if pipeline.reason else ""
    return (
        f"<h2>{escape(pipeline.name)} {_badge(pipeline.state, _TONES.get(pipeline.state, 'off'))}</h2>"
        f'<p class=quiet>{escape(origin)} · <code title="{escape(pipeline.digest)}">'
        f"{escape(pipeline.digest[:12])}</code> · for {since}</p>{reason}"
    )


def _errors(pipeline: PipelineStatus) -> str:
    warnings = "".join(f"<p class=warn>{escape(warning)}</p>" for warning in pipeline.warnings)
    return warnings + "".join(
        f"<details><summary>last error of <b>{escape(step)}</b>: {escape(_first_line(trace))}</summary>"
        f"<pre>{escape(trace)}</pre></details>"
        for step, trace in pipeline.errors.items()
    )


def _first_line(text: str) -> str:
    return text.partition("\n")[0][:200]


def _recent(local: Local) -> str:
    start = {journal: max(0, last - RECENT) for journal, last in feed.latest(local.journals).items()}
    query = feed.Query(local.settings.device, limit=RECENT * (len(start) + 1))
    newest = feed.page(local.journals, start, query).events[-RECENT:]
    rows = "".join(_row(event) for event, _ in reversed(newest))
    if not rows:
        return "<p class=quiet>No event yet.</p>"
    headings = "".join(f"<th>{heading}</th>" for heading in ("time", "pipeline", "type", "subject", "data"))
    return f"<h2>Newest events</h2><table><tr>{headings}</tr>{rows}</table>"


def _row(event: Event) -> str:
    data = " ".join(f"{name}={_value(value)}" for name, value in event.data.items())
    cells = [event.time[:19].replace("T", " "), event.pipeline, event.type, event.subject or "", data[:160]]
    cells = [*map(escape, cells)]
    cells[2] = f'<a href="/events/{escape(event.id)}">{cells[2]}</a>'
    inner = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr class="{escape(event.severity)}">{inner}</tr>'


def _value(value: object) -> str:
    """Return a value as JSON, a number to as many places as a float32 has."""
    return f"{value:.7g}" if isinstance(value, float) else msgspec.json.encode(value).decode()


class Changes:
    """The fragments that differ from those sent before, for one reader of the stream."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._sent: Fragments = {}

    def next(self) -> Iterator[tuple[str, str]]:
        """Yield element id and content of what changed since the call before."""
        now = fragments(self._local)
        for name, content in now.items():
            if self._sent.get(name) != content:
                yield name, content
        if self._sent and self._sent.keys() != now.keys():
            yield "", ""  # the page has another shape: load it anew
        self._sent = now
