"""A trace as HTML, for the pages of device and relay alike; each puts its own head around it.

All text is escaped here. Nothing is fetched from elsewhere, and no script is needed.
"""

from __future__ import annotations

from html import escape
from urllib.parse import quote

from edgeflow_proto.trace import Trace
from edgeflow_proto.trace_plot import plots
from edgeflow_proto.trace_words import ROWS, Section, sections


def title(trace: Trace) -> str:
    """Return what the page is called, not escaped."""
    return f"{trace.event['type']} · {trace.pipeline} on {trace.device}"


def body(trace: Trace) -> str:
    """Return the content of the page; where rows are recorded here, with their curves and the way to them."""
    drawn = {ROWS: "".join(_recorded(trace, name) for name, found in trace.rows.items() if found.count)}
    return "".join(_section(section, drawn.get(section.title, "")) for section in sections(trace))


def _recorded(trace: Trace, name: str) -> str:
    link = f"/api/v1/events/{quote(trace.event['id'])}/rows/{quote(name)}"
    return f'{plots(name, trace.rows[name])}<p><a href="{link}">{escape(name)}.csv</a></p>'


def _section(section: Section, more: str) -> str:
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in section.rows)
    kind = " class=facts" if section.rows and len(section.rows[0]) == 2 else ""  # names with what they are
    table = f"<table{kind}>{rows}</table>" if rows else ""
    words = f"<p class=quiet>{escape(section.words)}</p>" if section.words else ""
    return f"<section><h2>{escape(section.title)}</h2>{table}{words}{more}</section>"
