"""An HTTP server in a thread of the test, which answers as it is told and keeps what was posted to it."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class WebServer:
    """`answers` are the statuses of the next posts, with headers; 200 when there are none left."""

    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    hanging: threading.Event = field(default_factory=threading.Event)  # while set, nobody is answered
    bodies: list[Any] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/rows"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, told: WebServer) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.told = told

    def handle_error(self, *_: Any) -> None:  # whoever gave up waiting, or does not trust this one
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.told.connections += 1

    def do_POST(self) -> None:
        told = self.server.told
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        while told.hanging.is_set():
            time.sleep(0.01)
        status, headers = told.answers.pop(0) if told.answers else (200, {})
        if status == 200:
            told.bodies.append(body)
            told.headers.append(dict(self.headers))
            told.paths.append(self.path)
        self._answer(status, {"Content-Length": "0", **headers})

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = headers.get("Connection") == "close"

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def web_server(port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[WebServer]:
    """Serve until the context ends."""
    made = WebServer()
    with _Server(port, made) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        made.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield made
        finally:
            made.hanging.clear()
            server.shutdown()
            thread.join()
