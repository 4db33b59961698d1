"""A trace as HTML, for the pages of device and relay alike; each puts its own head around it.

All text is escaped here. Nothing is fetched from elsewhere, and no script is needed.
"""

from __future__ import annotations

from html import escape

from edgeflow_proto.trace import Trace
from edgeflow_proto.trace_words import Section, sections


def title(trace: Trace) -> str:
    """Return what the page is called, not escaped."""
    return f"{trace.event['type']} · {trace.pipeline} on {trace.device}"


def body(trace: Trace) -> str:
    """Return the content of the page."""
    return "".join(map(_section, sections(trace)))


def _section(section: Section) -> str:
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in section.rows)
    kind = " class=facts" if section.rows and len(section.rows[0]) == 2 else ""  # names with what they are
    table = f"<table{kind}>{rows}</table>" if rows else ""
    words = f"<p class=quiet>{escape(section.words)}</p>" if section.words else ""
    return f"<section><h2>{escape(section.title)}</h2>{table}{words}</section>"
