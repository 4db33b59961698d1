"""``/api/v1/logs``: what the agent's processes and the authors' code say, its newest lines or a live stream.

The stream looks at the files a few times a second while somebody listens; nobody writes more slowly for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from edgeflow_agent.core.logs import Line
from edgeflow_agent.store import logs
from edgeflow_agent.store.logs import LEVELS, Page, Positions, Query, Reader
from edgeflow_agent.web.events import EVENT_STREAM
from edgeflow_agent.web.local import Local
from edgeflow_proto.event import instant, wall_time

MAX_LIMIT = 1000
MAX_STREAMS = 16
_KNOWN = ("after", "level", "limit", "name", "since")
_LOOK_S = 0.3
_IDLE_S = 10.0


class Logs:
    """The route."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._streams = 0

    async def list(self, request: Request) -> Response:
        """Return the newest lines, or those behind `after`; the live stream when that is what is accepted."""
        try:
            query, start = _asked(request)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        if EVENT_STREAM in request.headers.get("accept", ""):
            return self._stream(query, start)
        return Response(await asyncio.to_thread(self._page, query, start), media_type="application/json")

    def _reader(self) -> Reader:
        return Reader(Path(self._local.settings.data) / "logs", self._local.journals.timeline)

    def _page(self, query: Query, start: Positions | None) -> bytes:
        reader = self._reader()
        page = reader.newest(query) if start is None else reader.following(start, query)
        body = {
            "lines": [line for line, _ in page.lines],
            "next": logs.encode(page.positions),
            "unreadable": page.unreadable,
            "names": reader.names(),
        }
        return msgspec.json.encode(body)

    def _stream(self, query: Query, start: Positions | None) -> Response:
        if self._streams >= MAX_STREAMS:
            return JSONResponse({"error": "too many streams"}, 503, {"retry-after": "5"})
        query = replace(query, limit=MAX_LIMIT)
        return StreamingResponse(self._messages(query, start), media_type=EVENT_STREAM)

    async def _messages(self, query: Query, start: Positions | None) -> AsyncIterator[bytes]:
        """Yield server-sent events from `start` on, from now on when it is ``None``."""
        clock = asyncio.get_running_loop().time
        self._streams += 1
        try:
            positions = await asyncio.to_thread(self._reader().end) if start is None else start
            yield f"retry: 1000\nid: {logs.encode(positions)}\n\n".encode()
            said = clock()
            while not self._local.stopping:
                page = await asyncio.to_thread(self._following, positions, query)
                positions = page.positions
                if page.lines or clock() - said >= _IDLE_S:
                    yield b"".join(_message(line, cursor) for line, cursor in page.lines) or b":\n\n"
                    said = clock()
                if len(page.lines) < query.limit:
                    await asyncio.sleep(_LOOK_S)
        finally:
            self._streams -= 1

    def _following(self, positions: Positions, query: Query) -> Page:
        return self._reader().following(positions, query)


def _asked(request: Request) -> tuple[Query, Positions | None]:
    """Read what is asked for; raises ValueError. No start is ``None``."""
    asked: dict[str, Any] = {name: value for name, value in request.query_params.items() if value}
    if unknown := set(asked) - set(_KNOWN):
        raise ValueError(f"unknown parameter {min(unknown)!r}; known: {', '.join(_KNOWN)}")
    limit, level = asked.get("limit", "100"), asked.get("level", LEVELS[0])
    if not (limit.isdecimal() and 1 <= int(limit[:9]) <= MAX_LIMIT):
        raise ValueError(f"limit is 1 to {MAX_LIMIT}, not {limit[:20]!r}")
    if level not in LEVELS:
        raise ValueError(f"level is one of {', '.join(LEVELS)}, not {level[:20]!r}")
    cursor = request.headers.get("last-event-id") or asked.get("after")
    query = Query(asked.get("name", ""), level, _moment(asked.get("since", "")), int(limit))
    return query, None if cursor is None else logs.decode(cursor)


def _moment(text: str) -> str:
    """Return an RFC 3339 time as lines have it, in UTC with microseconds; raises ValueError."""
    return wall_time(instant(text)) if text else ""


def _message(line: Line, cursor: str) -> bytes:
    return b"id: %s\ndata: %s\n\n" % (cursor.encode(), msgspec.json.encode(line))
