"""The server under the application: uvicorn, told to leave signals and logging alone and wait for nobody."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_CONNECTIONS = 256
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
        """Wait for the first request."""
        super().connection_made(transport)
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
    """Return a server, to be run with ``serve(sockets=[bind(…)])``."""
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app, http=Connection, ws="none", loop="none", lifespan="off", log_config=None, access_log=False,
        proxy_headers=False, server_header=False, limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=_END_S,
    )  # fmt: skip
    return Server(config)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one. Raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=MAX_CONNECTIONS)
