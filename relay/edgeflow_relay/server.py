"""The server under the application: uvicorn, told to leave signals and logging alone and wait for nobody."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Generator
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from edgeflow_relay.descriptors import shares

REQUEST_S = 10.0
_END_S = 1


class Server(uvicorn.Server):
    """Serves until `should_exit` is set; signals are the process's own matter."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals alone."""
        yield


class Connection(HttpToolsProtocol):
    """Ends when a request does not come, or not wholly but for its body, within `REQUEST_S`."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, unless there are too many connections to tell anything."""
        super().connection_made(transport)
        if len(self.connections) > shares().http_most:
            transport.abort()
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what came, and wait for the rest of a request that it began."""
        super().data_received(data)
        if getattr(self.cycle, "response_complete", True):  # there is none before the first request
            self._wait()

    def on_headers_complete(self) -> None:
        """Wait no longer: a request is here."""
        self._stop()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer: nobody is there."""
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._late is None and not self.transport.is_closing():
            self._late = self.loop.call_later(REQUEST_S, self.transport.close)

    def _stop(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def make_server(app: ASGIApp) -> Server:
    """Return a server, to be run with ``serve(sockets=[…])``."""
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    options: dict[str, Any] = {
        "http": Connection, "ws": "none", "loop": "none", "lifespan": "off", "log_config": None,
        "access_log": False, "proxy_headers": False, "server_header": False,
        "limit_concurrency": shares().http, "timeout_graceful_shutdown": _END_S,
    }  # fmt: skip
    return Server(uvicorn.Config(app, **options))
