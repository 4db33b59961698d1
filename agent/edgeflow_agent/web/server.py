"""The server under the application: uvicorn, told to leave signals and logging alone."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp

MAX_CONNECTIONS = 256
_END_S = 1


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
        app, http="httptools", ws="none", loop="none", lifespan="off", log_config=None, access_log=False,
        proxy_headers=False, server_header=False, limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=_END_S,
    )  # fmt: skip
    return Server(config)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one. Raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=MAX_CONNECTIONS)
