"""``/api/v1/pipelines/{name}/tap/{edge}``: live rows of an edge, at a bounded cost to the pipeline.

The worker copies at most `rate` rows a second while somebody listens; the others it counts, in ``skipped``
of the row that follows them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from edgeflow_agent.core import messages
from edgeflow_agent.core.channel import Channel
from edgeflow_agent.web.events import EVENT_STREAM
from edgeflow_agent.web.local import Local
from edgeflow_agent.web.taps import Refused, following

JSON_LINES = "application/x-ndjson"
MAX_TAPS = 32
RATE, MAX_RATE = 10.0, 100.0  # rows a second
MAX_LIMIT = 1_000_000
_RENEW_S = 1.0


class Tapped:
    """The route."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._taps = 0

    async def stream(self, request: Request) -> Response:
        """Stream an edge as JSON lines, or as server-sent events when those are accepted.

        The first message says what the rows are; each that follows is one row.
        """
        try:
            rate, limit = _asked(request)
            channel, head = await self._listen(request.path_params, rate)
        except (ValueError, Refused, TimeoutError, ConnectionError) as error:
            return _failure(error)
        media = EVENT_STREAM if EVENT_STREAM in request.headers.get("accept", "") else JSON_LINES
        return StreamingResponse(self._messages(channel, head, media, limit), media_type=media)

    async def _listen(self, path: dict[str, str], rate: float) -> tuple[Channel, bytes]:
        """Return the way to a worker and what its rows are; raises as `Taps.listen` does."""
        if path["name"] not in self._local.pipelines:
            raise Refused("no such pipeline")
        if self._taps >= MAX_TAPS:
            raise ConnectionError("too many listen")
        return await self._local.taps.listen(path["name"], path["edge"], rate)

    async def _messages(self, channel: Channel, head: bytes, media: str, limit: int) -> AsyncIterator[bytes]:
        """Yield messages until the worker, or whoever listens, is gone."""
        form, quiet = (b"data: %s\n\n", b":\n\n") if media == EVENT_STREAM else (b"%s\n", b"\n")
        self._taps += 1
        try:
            yield form % head
            async for row in self._rows(channel):
                yield form % row if row else quiet  # tells both ends that the other is there
                limit -= bool(row)
                if limit == 0:
                    return
        finally:
            self._taps -= 1
            channel.close()

    async def _rows(self, channel: Channel) -> AsyncIterator[bytes]:
        """Yield rows as they come, and nothing each second without one; renew the tap on the way."""
        clock = asyncio.get_running_loop().time
        renewed = clock()
        while not self._local.stopping:
            row = b""
            with contextlib.suppress(TimeoutError):
                try:
                    message = await following(channel, _RENEW_S)
                except ConnectionError:
                    return
                row = message.row if isinstance(message, messages.TapRow) else b""
            if clock() - renewed >= _RENEW_S:
                channel.send(messages.TapRenewed())
                renewed = clock()
            yield row


def _asked(request: Request) -> tuple[float, int]:
    """Read rows per second and how many in all (-1: no end); raises ValueError."""
    asked = request.query_params
    if unknown := set(asked) - {"rate", "limit"}:
        raise ValueError(f"unknown parameter {min(unknown)!r}; known: limit, rate")
    try:
        rate, limit = float(asked.get("rate", RATE)), int(asked.get("limit", "-1"))
    except ValueError:
        raise ValueError("rate and limit are numbers") from None
    if not 0.01 <= rate <= MAX_RATE:
        raise ValueError(f"rate is 0.01 to {MAX_RATE:g} rows a second")
    if limit != -1 and not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"limit is 1 to {MAX_LIMIT}")
    return rate, limit


def _failure(error: Exception) -> Response:
    if isinstance(error, TimeoutError):
        return JSONResponse({"error": "the pipeline's worker has not answered"}, 504)
    if isinstance(error, ConnectionError):
        return JSONResponse({"error": str(error)}, 503, {"retry-after": "1"})
    return JSONResponse({"error": str(error)}, 404 if isinstance(error, Refused) else 400)
