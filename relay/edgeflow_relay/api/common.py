"""What every endpoint shares: answers, errors, and who may change things."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from edgeflow_relay.counters import Counters
from edgeflow_relay.hub import Hub
from edgeflow_relay.registry import Registry
from edgeflow_relay.settings import LOOPBACK, Settings
from edgeflow_relay.store.blobs import Blobs
from edgeflow_relay.store.database import Database

SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Relay:
    """The parts an endpoint may use."""

    settings: Settings
    database: Database
    registry: Registry
    blobs: Blobs
    hub: Hub
    counters: Counters


def relay_of(request: Request) -> Relay:
    """Return the relay that serves a request."""
    relay: Relay = request.app.state.relay
    return relay


def error(status: int, what: str, **more: Any) -> JSONResponse:
    """Return an error answer."""
    return JSONResponse({"error": what, **more}, status)


class LocalOnly:
    """Refuses requests that a page of another site made a browser send (DNS rebinding, cross-site posts)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is local."""
        if scope["type"] == "http":
            request = Request(scope)
            origin = request.headers.get("origin")
            foreign = (
                request.method not in SAFE and origin is not None and not _local(urlsplit(origin).netloc)
            )
            if foreign or not _local(request.headers.get("host", "")):
                await error(403, "this is served to programs of this machine only")(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _local(netloc: str) -> bool:
    return (urlsplit(f"//{netloc}").hostname or "") in LOOPBACK
