"""``/api/v1/events``: pages, counts, a live stream.

The live stream holds nothing per reader but a row number: one that is slow is written to no faster than it
reads, and what it has not had yet is read from the store when it has room.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from edgeflow_proto.trace import Trace
from edgeflow_relay.api.common import EVENT_STREAM, Refusal, Relay, answer, relay_of
from edgeflow_relay.store import events, traces
from edgeflow_relay.store.events import Page, Query

MAX_LIMIT = 10_000
MAX_STREAMS = 256
IDLE_S = 10.0
_STREAM_PAGE = 500
_PAUSE_S = 0.02  # between two looks: many small commits go out as one page
_FILTERS = ("device", "pipeline", "type", "since", "until")
_PARAMETERS = (*_FILTERS, "after", "limit", "last")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LARGEST = 1 << 62
_INT64 = 1 << 63


class Asked(NamedTuple):
    """What a request asks for. `after` is a row number, ``None`` where none is given."""

    query: Query
    after: int | None
    limit: int
    last: int | None


def asked(request: Request) -> Asked:
    """Read the parameters; raises Refusal. An empty one is one that is not given."""
    given = {name: value for name, value in request.query_params.items() if value}
    unknown = sorted(set(given) - set(_PARAMETERS))
    if unknown:
        raise Refusal(400, f"unknown parameter {unknown[0][:60]!r}; known: {', '.join(_PARAMETERS)}")
    query = Query(
        given.get("device"), given.get("pipeline"), given.get("type"),
        _moment("since", given.get("since")), _moment("until", given.get("until")),
    )  # fmt: skip
    cursor = request.headers.get("last-event-id") or given.get("after")
    limit = _number("limit", given.get("limit", "100"), 1, MAX_LIMIT)
    last = _number("last", given["last"], 0, MAX_LIMIT) if "last" in given else None
    return Asked(query, None if cursor is None else _number("after", cursor, 0, _LARGEST), limit, last)


def _number(name: str, text: str, least: int, most: int) -> int:
    if text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most:
        return int(text)
    raise Refusal(400, f"{name} is a number from {least} to {most}, not {text[:40]!r}")


def _moment(name: str, text: str | None) -> int | None:
    """Read RFC 3339 as nanoseconds since 1970, or the first or last of those that the store has."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(400, f"{name} is a time such as 2025-01-31T12:00:00Z, not {text[:40]!r}") from None
    if moment.tzinfo is None:
        raise Refusal(400, f"{name} says no time zone: {text[:40]!r} (add Z for UTC)")
    return max(-_INT64, min(_INT64 - 1, (moment - _EPOCH) // timedelta(microseconds=1) * 1000))


async def index(request: Request) -> Response:
    """Return a page of events, or the live stream when that is what is accepted."""
    relay, wanted = relay_of(request), asked(request)
    await _check_cursor(relay, wanted.after)
    if EVENT_STREAM in request.headers.get("accept", ""):
        return await _stream(relay, wanted)
    page = await _past(relay, wanted)
    bodies = ",".join(body for _, body in page.rows)
    more = "true" if page.more else "false"
    text = f'{{"events":[{bodies}],"next":"{page.next}","more":{more}}}'
    return Response(text, media_type="application/json")


async def _check_cursor(relay: Relay, after: int | None) -> None:
    newest = await relay.database.read(events.newest_row)
    if after is not None and after > newest:
        words = f"there is no row {after} yet; the newest is {newest}: the store was put back, so begin anew"
        raise Refusal(410, words, newest=str(newest))


async def _past(relay: Relay, wanted: Asked) -> Page:
    if wanted.last is not None:
        return await relay.database.read(partial(events.last, query=wanted.query, count=wanted.last))
    work = partial(events.page, query=wanted.query, after=wanted.after or 0, limit=wanted.limit)
    return await relay.database.read(work)


async def _stream(relay: Relay, wanted: Asked) -> Response:
    if relay.streams >= MAX_STREAMS:
        raise Refusal(503, "too many streams are open")
    begin = Page([], wanted.after or 0, more=True)
    if wanted.after is None:
        begin = await _past(relay, wanted._replace(last=wanted.last or 0))
    return StreamingResponse(_messages(relay, wanted.query, begin), media_type=EVENT_STREAM)


async def _messages(relay: Relay, query: Query, begin: Page) -> AsyncIterator[str]:
    """Yield server-sent events (HTML standard, section 9.2): those of `begin`, then what follows them."""
    relay.streams += 1
    rings, page = -1, begin
    try:
        yield f"retry: 1000\nid: {begin.rows[0][0] - 1 if begin.rows else begin.next}\n\n"
        while not relay.stopping:
            if page.rows:  # sending takes as long as the reader likes: look again before waiting
                yield "".join(f"id: {row}\ndata: {body}\n\n" for row, body in page.rows)
            elif not page.more and not await relay.stored.wait(IDLE_S, since=rings):
                yield ":\n\n"  # tells both ends that the other is there
            await asyncio.sleep(_PAUSE_S)
            rings = relay.stored.rings
            work = partial(events.page, query=query, after=page.next, limit=_STREAM_PAGE)
            page = await relay.database.read(work)
    finally:
        relay.streams -= 1


async def count(request: Request) -> Response:
    """Return how many events the filters find."""
    query = asked(request).query
    return answer({"count": await relay_of(request).database.read(partial(events.count, query=query))})


async def trace(request: Request) -> Response:
    """Return what explains an event: its set-up, the path to it, its rows, and what was lost nearby."""
    return answer((await traced(request)).to_json())


async def traced(request: Request) -> Trace:
    """Return the trace of the event that a path names; raises Refusal."""
    name, device = request.path_params["id"], request.query_params.get("device") or None
    try:
        found = await relay_of(request).database.read(partial(traces.find, event_id=name, device=device))
    except ValueError as error:
        raise Refusal(404, str(error)) from None
    except traces.SeveralError as error:
        raise Refusal(409, f"several devices have an event of this id: {error}; add ?device=NAME") from None
    if found is None:
        raise Refusal(404, "no such event is stored here")
    return found


ROUTES = [
    Route("/api/v1/events", index),
    Route("/api/v1/events/count", count),
    Route("/api/v1/events/{id}/trace", trace),
]
