"""Events: asked for, counted, followed live."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from edgeflow_relay.api.common import Relay, error, relay_of
from edgeflow_relay.store import events as stored
from edgeflow_relay.store.events import Query

MAX_LIMIT = 10_000
KEEPALIVE_S = 15.0


def query_of(request: Request) -> Query:
    """Read the query parameters; raises ValueError naming a wrong one."""
    known = set(Query.__struct_fields__)
    for name in request.query_params.keys() - known:
        raise ValueError(f"unknown parameter '{name}' (known: {', '.join(sorted(known))})")
    given = {name: value for name, value in request.query_params.items() if value}
    try:
        query = msgspec.convert(given, Query, strict=False)
    except msgspec.ValidationError as problem:
        raise ValueError(str(problem)) from None
    return msgspec.structs.replace(query, limit=max(1, min(query.limit, MAX_LIMIT)))


async def list_events(request: Request) -> Response:
    """``{"events": [CloudEvents], "next": cursor}``; a live stream with ``Accept: text/event-stream``."""
    relay = relay_of(request)
    try:
        query = query_of(request)
    except ValueError as problem:
        return error(400, str(problem))
    if "text/event-stream" in request.headers.get("accept", ""):
        return await _stream(request, relay, query)
    found = await relay.database.read(lambda connection: stored.page(connection, query))
    following = str(found[-1][0] if found else query.after)
    body = f'{{"events":[{",".join(text for _, text in found)}],"next":"{following}"}}'
    return Response(body, media_type="application/json")


async def _stream(request: Request, relay: Relay, query: Query) -> Response:
    """Follow from ``Last-Event-ID``, else from ``after``, else from now on."""
    last = request.headers.get("last-event-id", "")
    if last.isdigit():
        query = msgspec.structs.replace(query, after=int(last))
    elif "after" not in request.query_params:
        query = msgspec.structs.replace(query, after=await relay.database.read(stored.newest))
    return StreamingResponse(_follow(relay, query), media_type="text/event-stream")


async def _follow(relay: Relay, query: Query) -> AsyncIterator[str]:
    """Read from the store again and again: a slow reader costs no memory and misses nothing."""
    yield ": following\n\n"
    while True:
        found = await relay.database.read(functools.partial(stored.page, query=query))
        for row, text in found:
            yield f"id: {row}\nevent: event\ndata: {text}\n\n"
        if found:
            query = msgspec.structs.replace(query, after=found[-1][0])
        else:
            await relay.hub.wait_stored(KEEPALIVE_S)
            yield ": still here\n\n"


async def count_events(request: Request) -> Response:
    """``{"count": n}`` for the same filters."""
    try:
        query = query_of(request)
    except ValueError as problem:
        return error(400, str(problem))
    count = await relay_of(request).database.read(lambda connection: stored.count(connection, query))
    return JSONResponse({"count": count})


ROUTES = [Route("/api/v1/events", list_events), Route("/api/v1/events/count", count_events)]
