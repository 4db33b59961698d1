"""The device's HTTP endpoint: its routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from edgeflow_agent.web import metrics, page, views
from edgeflow_agent.web.events import EVENT_STREAM, Events
from edgeflow_agent.web.guard import Guard
from edgeflow_agent.web.inputs import Inputs
from edgeflow_agent.web.local import Local
from edgeflow_agent.web.logs import Logs
from edgeflow_agent.web.pipelines import Pipelines
from edgeflow_agent.web.recorded import Recorded
from edgeflow_agent.web.tapped import Tapped

REFRESH_S = 1.0
MAX_PAGES = 32


class Status:
    """The page, its stream, and the answers that tell how the device is."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._pages = 0

    async def page(self, request: Request) -> Response:
        """Return the status page."""
        headers = {"content-security-policy": page.content_security_policy()}
        return HTMLResponse(page.render(self._local), headers=headers)

    async def stream(self, request: Request) -> Response:
        """Stream what changes on the page."""
        if self._pages >= MAX_PAGES:
            return JSONResponse({"error": "too many pages are open"}, 503, {"retry-after": "5"})
        return StreamingResponse(self._changes(), media_type=EVENT_STREAM)

    async def _changes(self) -> AsyncIterator[bytes]:
        changes = page.Changes(self._local)
        self._pages += 1
        try:
            while not self._local.stopping:
                yield b"data: %s\n\n" % msgspec.json.encode(list(changes.next()))
                await self._local.tick.wait(REFRESH_S)
        finally:
            self._pages -= 1

    async def healthz(self, request: Request) -> Response:
        """Say that this process is alive, and whose it is."""
        return JSONResponse({"status": "ok", "server": "device"})

    async def readyz(self, request: Request) -> Response:
        """Say whether all that is wanted runs, and if not, what does not; and what else is amiss."""
        reasons = views.readiness(self._local)
        found = {"ready": not reasons, "reasons": reasons, "degraded": views.degraded(self._local)}
        return JSONResponse(found, 503 if reasons else 200)

    async def metrics(self, request: Request) -> Response:
        """Return every counter for Prometheus."""
        return Response(metrics.render(self._local), media_type=metrics.CONTENT_TYPE)

    async def device(self, request: Request) -> Response:
        """Return who the device is."""
        return JSONResponse(views.device(self._local))

    async def failed(self, request: Request, error: Exception) -> Response:
        """Say why there is no answer: people on a page, programs as JSON."""
        assert isinstance(error, HTTPException)
        if "text/html" not in request.headers.get("accept", "") or request.url.path.startswith("/api/"):
            return JSONResponse({"error": error.detail}, error.status_code, error.headers)
        headers = {**(error.headers or {}), "content-security-policy": page.content_security_policy()}
        return HTMLResponse(page.render_refusal(self._local, error.detail), error.status_code, headers)


def make_app(local: Local, staging: Path) -> Starlette:
    """Return the application; bundles are staged below `staging`."""
    status, pipelines = Status(local), Pipelines(local, staging)
    events, inputs, recorded = Events(local), Inputs(local), Recorded(local)
    one = "/api/v1/pipelines/{name}"
    routes = [
        Route("/", status.page),
        Route("/events/{id}", events.page),
        Route("/healthz", status.healthz),
        Route("/readyz", status.readyz),
        Route("/metrics", status.metrics),
        Route("/api/v1/device", status.device),
        Route("/api/v1/status/stream", status.stream),
        Route("/api/v1/pipelines", pipelines.list),
        Route(one, pipelines.get),
        Route(one, pipelines.put, methods=["PUT"]),
        Route(one, pipelines.delete, methods=["DELETE"]),
        Route(one + "/inputs/{input}", inputs.post, methods=["POST"]),
        Route(one + "/tap/{edge}", Tapped(local).stream),
        Route(one + "/recording", recorded.recording),
        Route(one + "/files/{file:path}", recorded.file),
        Route("/api/v1/recordings", recorded.names),
        Route("/api/v1/logs", Logs(local).list),
        Route("/api/v1/events", events.list),
        Route("/api/v1/events/{id}", events.one),
        Route("/api/v1/events/{id}/trace", events.trace),
        Route("/api/v1/events/{id}/rows/{input}", recorded.rows),
    ]
    guard = Middleware(Guard, slot=local.slot)
    return Starlette(routes=routes, middleware=[guard], exception_handlers={HTTPException: status.failed})
