"""Events of all journals as one sequence, from any point on, however the reader stops and resumes.

A cursor holds one sequence number per journal, as event ids joined by dots: each journal is read in its
own order, and between journals the earlier time goes first. An event's id is a cursor too.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from edgeflow_agent.store.readers import Journals, OpenJournal, Unreadable
from edgeflow_proto.event import Event, decode_block, event_id, events, identity
from edgeflow_proto.timeline import Timeline

log = logging.getLogger("edgeflow.web")
SCAN_BYTES = 2 << 20  # of blocks, for one page
_READ_BYTES = 64 << 10
_MAX_JOURNALS = 1024

Positions = dict[str, int]  # journal id → newest sequence number seen


def encode(positions: Positions) -> str:
    """Return the cursor of positions; ``0`` for the beginning of everything."""
    return ".".join(event_id(journal, sequence) for journal, sequence in positions.items()) or "0"


def decode(cursor: str) -> Positions:
    """Read a cursor; raises ValueError."""
    if cursor in ("", "0"):
        return {}
    parts = cursor.split(".")
    if len(parts) > _MAX_JOURNALS:
        raise ValueError("not a cursor: too long")
    return dict(identity(part) for part in parts)


@dataclass(frozen=True, slots=True)
class Query:
    """Which events: of one pipeline, of one type, at most `limit` at a time."""

    device: str
    pipeline: str | None = None
    type: str | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Page:
    """Events in order, each with the positions after it; then the positions to go on from.

    With `more` there is more to read at once, even if this page is empty.
    """

    events: list[tuple[Event, str]]
    positions: Positions
    more: bool


@dataclass(slots=True)
class _Budget:
    bytes: int


def latest(journals: Journals) -> Positions:
    """Return the positions behind the newest event of every journal."""
    return {journal.id: journal.bounds[1] for journal in _readable(journals)}


def page(journals: Journals, start: Positions, query: Query) -> Page:
    """Return the events after `start`; reads a bounded amount."""
    positions = dict(start)
    chosen = [j for j in _readable(journals) if query.pipeline in (None, j.pipeline)]
    budget = _Budget(SCAN_BYTES)
    streams = [_guarded(journals, journal, positions, query, budget) for journal in chosen]
    found: list[tuple[Event, str]] = []
    for event in heapq.merge(*streams, key=lambda event: event.t + event.clock.offset_ns):
        positions[event.journal] = event.sequence
        found.append((event, encode(positions)))
        if len(found) >= query.limit:
            break
    more = any(positions.get(j.id, 0) < j.bounds[1] for j in _readable(journals) if j in chosen)
    return Page(found, positions, more)


def find(journals: Journals, journal_id: str, sequence: int, device: str) -> Event | None:
    """Return one event, ``None`` when it is not here (any more)."""
    journal = journals.by_id(journal_id)
    if journal is None or sequence < 1:
        return None
    for first, count, data in journal.read(sequence - 1, 1):
        if first <= sequence < first + count:
            block = journals.timeline.dated(decode_block(data))
            return next(events(block, first, journal.id, device, journal.pipeline, sequence - first))
    return None


def _readable(journals: Journals) -> list[OpenJournal]:
    out = []
    for journal in journals:
        try:
            _ = journal.bounds
        except Unreadable as error:
            journals.drop(error)
        else:
            out.append(journal)
    return out


def _guarded(
    journals: Journals, journal: OpenJournal, positions: Positions, query: Query, budget: _Budget
) -> Iterator[Event]:
    try:
        yield from _events(journals.timeline, journal, positions, query, budget)
    except Unreadable as error:
        journals.drop(error)


def _events(
    timeline: Timeline, journal: OpenJournal, positions: Positions, query: Query, budget: _Budget
) -> Iterator[Event]:
    """Yield a journal's events. Resumed only when the event before was taken, so it may move the position."""
    while budget.bytes > 0:
        blocks = journal.read(positions.get(journal.id, 0), _READ_BYTES)
        if not blocks:
            return
        for first, count, data in blocks:
            budget.bytes -= len(data)
            after = positions.get(journal.id, 0)
            yield from _decoded(timeline, journal, first, data, query, max(0, after - first + 1))
            positions[journal.id] = max(after, first + count - 1)


def _decoded(
    timeline: Timeline, journal: OpenJournal, first: int, data: bytes, query: Query, skip: int
) -> Iterator[Event]:
    try:
        block = timeline.dated(decode_block(data))
    except ValueError as error:
        log.error("%s: the block at %d cannot be read: %s", journal.pipeline, first, error)
        return iter(())
    if query.type is not None and block.type != query.type:
        return iter(())
    return events(block, first, journal.id, query.device, journal.pipeline, skip)
