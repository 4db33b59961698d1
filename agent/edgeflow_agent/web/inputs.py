"""``POST /api/v1/pipelines/{name}/inputs/{input}``: payloads of local programs, handed to `io`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgeflow_agent.core.board import labelled
from edgeflow_agent.core.messages import Posted
from edgeflow_agent.web import bodies
from edgeflow_agent.web.local import Local
from edgeflow_agent.web.posts import Busy

MAX_BYTES = 1 << 20
UNKNOWN = "unknown_input"  # begins `io`'s reason when no http input of that name is served
_DECODERS = {
    "application/json": "json",
    "application/cbor": "cbor",
    "application/octet-stream": "raw",
}


class Inputs:
    """The route."""

    def __init__(self, local: Local) -> None:
        self._local = local

    async def post(self, request: Request) -> Response:
        """Take one payload."""
        name, input = request.path_params["name"], request.path_params["input"]
        decoder = _DECODERS.get(bodies.media_type(request))
        if name not in self._local.pipelines:
            return self._refused(404, "unknown", f"no pipeline {name}")
        if decoder is None:
            return self._refused(415, "type", f"send one of {', '.join(_DECODERS)}")
        try:
            body = await bodies.read(request, MAX_BYTES)
        except bodies.TooLarge as error:
            return self._refused(413, "size", str(error))
        return await self._hand_over(name, input, decoder, body)

    async def _hand_over(self, name: str, input: str, decoder: str, body: bytes) -> Response:
        try:
            posted = await self._local.posts.post(name, input, decoder, body)
        except Busy:
            return self._refused(429, "busy", "more is waiting than io takes; try again")
        except TimeoutError:
            return self._refused(504, "timeout", "io has not answered; the payload may have been taken")
        except OSError as error:
            return self._refused(503, "unavailable", str(error))
        return self._answer(posted)

    def _answer(self, posted: Posted) -> Response:
        if posted.reason.startswith(UNKNOWN):
            return self._refused(404, "unknown", posted.reason)
        if posted.reason:
            return self._refused(400, "rejected", posted.reason)
        return JSONResponse({"accepted": posted.accepted}, 202)

    def _refused(self, code: int, reason: str, words: str) -> Response:
        self._local.slot.counter(labelled("posts_rejected_total", reason=reason)).add()
        headers = {"retry-after": "1"} if code in (429, 503) else {}
        return JSONResponse({"error": words}, code, headers)
