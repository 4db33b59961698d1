"""``/api/v1/events``: pages, a live stream, single events.

The live stream holds nothing per reader but its positions: one that is slow is written to no faster than
it reads, and what it has not had yet is read from the journals when it has room.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from edgeflow_agent.store.journal import JournalError
from edgeflow_agent.web import feed, page, portions, traces
from edgeflow_agent.web.local import Local
from edgeflow_proto.event import CONTENT_TYPE, Event, identity
from edgeflow_proto.trace import Trace

EVENT_STREAM = "text/event-stream"
MAX_LIMIT = 1000
MAX_STREAMS = 64
_STREAM_PAGE = 1000
_IDLE_S = 10.0


class Events:
    """The routes."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._streams = 0

    async def list(self, request: Request) -> Response:
        """Return a page of events, or the live stream when that is what is accepted."""
        try:
            query, start = self._asked(request)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        if EVENT_STREAM in request.headers.get("accept", ""):
            return self._stream(query, start)
        self._local.look()
        found = feed.page(self._local.journals, start or {}, query)
        body = {
            "events": [event.to_json() for event, _ in found.events],
            "next": feed.encode(found.positions),
            "more": found.more,
        }
        return Response(msgspec.json.encode(body), media_type="application/json")

    def _asked(self, request: Request) -> tuple[feed.Query, feed.Positions | None]:
        """Read what is asked for; raises ValueError. No start is ``None``."""
        asked = {name: value for name, value in request.query_params.items() if value or name == "after"}
        unknown = set(asked) - {"after", "limit", "pipeline", "type"}
        if unknown:
            raise ValueError(f"unknown parameter {min(unknown)!r}; known: after, limit, pipeline, type")
        limit = asked.get("limit", "100")
        if not (limit.isdecimal() and 1 <= int(limit[:9]) <= MAX_LIMIT):
            raise ValueError(f"limit is 1 to {MAX_LIMIT}, not {limit[:20]!r}")
        cursor = request.headers.get("last-event-id") or asked.get("after")
        query = feed.Query(self._local.settings.device, asked.get("pipeline"), asked.get("type"), int(limit))
        return query, None if cursor is None else feed.decode(cursor)

    def _stream(self, query: feed.Query, start: feed.Positions | None) -> Response:
        if self._streams >= MAX_STREAMS:
            return JSONResponse({"error": "too many streams"}, 503, {"retry-after": "5"})
        query = replace(query, limit=_STREAM_PAGE)
        return StreamingResponse(self._messages(query, start), media_type=EVENT_STREAM)

    async def _messages(self, query: feed.Query, start: feed.Positions | None) -> AsyncIterator[bytes]:
        """Yield server-sent events from `start` on, from now on when it is ``None``."""
        local = self._local
        positions = feed.latest(local.journals) if start is None else start
        clock = asyncio.get_running_loop().time
        self._streams += 1
        try:
            yield f"retry: 1000\nid: {feed.encode(positions)}\n\n".encode()
            said = clock()
            while not local.stopping:
                found = feed.page(local.journals, positions, query)
                positions = found.positions
                if found.events:  # sending them takes as long as the reader likes: look again before waiting
                    yield b"".join(_message(event, cursor) for event, cursor in found.events)
                    said = clock()
                elif clock() - said >= _IDLE_S:
                    yield b":\n\n"  # tells both ends that the other is there
                    said = clock()
                elif found.more:
                    await asyncio.sleep(0)  # nothing of it was asked for; others want to be served meanwhile
                else:
                    await local.commits.wait(_IDLE_S)
        finally:
            self._streams -= 1

    async def one(self, request: Request) -> Response:
        """Return one event by its id."""
        try:
            journal, sequence = identity(request.path_params["id"])
            self._local.look()
            event = feed.find(self._local.journals, journal, sequence, self._local.settings.device)
        except (ValueError, JournalError) as error:
            return JSONResponse({"error": str(error)}, 404)
        if event is None:
            return JSONResponse({"error": "no such event on this device"}, 404)
        return Response(msgspec.json.encode(event.to_json()), media_type=CONTENT_TYPE)

    async def trace(self, request: Request) -> Response:
        """Return what explains an event: its set-up, the path to it, its rows, and what was lost nearby."""
        found = await traced(self._local, request)
        return Response(msgspec.json.encode(found.to_json()), media_type="application/json")

    async def page(self, request: Request) -> Response:
        """Return the page that explains an event."""
        found = await traced(self._local, request)
        headers = {"content-security-policy": page.content_security_policy()}
        return HTMLResponse(page.render_trace(self._local, found), headers=headers)


async def traced(local: Local, request: Request) -> Trace:
    """Return the trace of the event that is asked for; raises HTTPException where there is none."""
    event, device = request.path_params["id"], local.settings.device
    try:
        local.look()
        found = await portions.result(traces.look(local.journals, local.recordings, device, event))
    except (ValueError, JournalError) as error:
        raise HTTPException(404, str(error)) from None
    if found is None:
        raise HTTPException(404, "no such event on this device")
    return found


def _message(event: Event, cursor: str) -> bytes:
    return b"id: %s\ndata: %s\n\n" % (cursor.encode(), msgspec.json.encode(event.to_json()))
