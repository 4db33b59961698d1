"""Posting to one HTTP server over one connection, with the standard library alone; this blocks."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from edgeflow_agent.config import Endpoint
from edgeflow_proto.pipeline.kinds.outputs import check_header

MAX_ANSWER = 1 << 16  # bytes of an answer that are read; a longer one ends the connection
_PASSING = frozenset((408, 425, 429))  # RFC 9110, 6585 and 8470: the same request may be taken later


class Answer(NamedTuple):
    """What a server said; `wait_s` is how long it asks to be left alone (RFC 9110, section 10.2.3)."""

    status: int
    wait_s: float = 0.0

    @property
    def taken(self) -> bool:
        """Whether the server has what was sent."""
        return 200 <= self.status < 300

    @property
    def passing(self) -> bool:
        """Whether the same may be taken when it is sent again."""
        return self.status in _PASSING or self.status >= 500


class Poster:
    """A connection that is made at need and kept for what follows."""

    def __init__(self, endpoint: Endpoint, path: str, headers: dict[str, str], timeout_s: float) -> None:
        """Raises OSError when a file of the endpoint cannot be read, ValueError when it holds no header."""
        parts = urlsplit(endpoint.url)
        self._host, self._port = parts.hostname or "", parts.port
        self._target = (parts.path.rstrip("/") + path if path else parts.path) or "/"
        if parts.query:
            self._target += f"?{parts.query}"
        self._tls = _tls(endpoint) if parts.scheme == "https" else None
        self._timeout_s = timeout_s
        self._headers = headers | endpoint.headers | _from_files(endpoint)
        self._headers["Content-Type"] = "application/json"
        self._connection: http.client.HTTPConnection | None = None

    def post(self, body: bytes) -> Answer:
        """Send a body and return the answer; raises OSError or HTTPException when there is none."""
        if self._connection is not None:
            try:
                return self._post(self._connection, body)
            except ConnectionError:  # the server ended a connection that was idle, as it may
                self.close()
        self._connection = self._connect()
        return self._post(self._connection, body)

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._tls)

    def _post(self, connection: http.client.HTTPConnection, body: bytes) -> Answer:
        try:
            connection.request("POST", self._target, body, self._headers)
            with connection.getresponse() as response:
                answer = Answer(response.status, _seconds(response.getheader("Retry-After")))
                if len(response.read(MAX_ANSWER)) == MAX_ANSWER or response.will_close:
                    self.close()
        except BaseException:
            self.close()
            raise
        return answer

    def close(self) -> None:
        """End the connection; the next post makes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _seconds(text: str | None) -> float:
    """Read a Retry-After that counts seconds; one that names a date would need a clock that is right."""
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 6 else 0.0


def _from_files(endpoint: Endpoint) -> dict[str, str]:
    found = {name: Path(file).read_text().strip() for name, file in endpoint.header_files.items()}
    for name, value in found.items():
        check_header(name, value, name)  # whose message does not show the value, as that of http.client does
    return found


def _tls(endpoint: Endpoint) -> ssl.SSLContext:
    files = endpoint.tls
    context = ssl.create_default_context(cafile=files.ca if files is not None else None)
    if files is not None and files.cert is not None:
        context.load_cert_chain(files.cert, files.key)
    return context
