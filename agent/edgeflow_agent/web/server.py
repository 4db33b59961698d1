"""The server under the application: uvicorn, told to leave signals and logging alone."""

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
_END_S = 1
FIRST_REQUEST_S = 10.0  # after a connection was made


class Protocol(HttpToolsProtocol):
    """Closes a connection on which no request comes: it takes the place of one that asks."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, but not for ever."""
        super().connection_made(transport)
        self._patience = self.loop.call_later(FIRST_REQUEST_S, transport.close)

    def on_headers_complete(self) -> None:
        """A request has come."""
        self._patience.cancel()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._patience.cancel()
        super().connection_lost(exc)


class Server(uvicorn.Server):
    """Serves until `should_exit` is set; signals are the process's own matter."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals alone."""
        yield


def make_server(app: ASGIApp) -> Server:
    """Return a server, to be run with ``serve(sockets=[bind(…)])``."""
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app, http=Protocol, ws="none", loop="none", lifespan="off", log_config=None, access_log=False,
        proxy_headers=False, server_header=False, limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=_END_S,
    )  # fmt: skip
    return Server(config)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one. Raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=MAX_CONNECTIONS)
