"""Talking to a device's or a relay's HTTP endpoint with the standard library."""

from __future__ import annotations

import contextlib
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import BadStatusLine, HTTPException, RemoteDisconnected
from typing import IO, Any

import click
import msgspec

from edgeflow_proto.pipeline.problem import Problem
from edgeflow_tools.terminal import Failure, Unwell, note

DEVICE, RELAY = "device", "relay"
_DEFAULTS = {
    DEVICE: ("EDGEFLOW_DEVICE", "http://127.0.0.1:7080"),
    RELAY: ("EDGEFLOW_RELAY", "http://127.0.0.1:7000"),
}
TAR = "application/x-tar"
TIMEOUT_S = 30.0
TRANSFER_S = 300.0  # of a bundle
STREAM_TIMEOUT_S = 60.0  # a stream says at least that it is there more often than that
RETRY_S = 1.0


class Refused(Unwell):
    """The request itself is refused: made again, it would be again."""


class Server:
    """A device or a relay. Every call raises Failure when it is not there or refuses."""

    def __init__(self, kind: str, url: str | None = None) -> None:
        """Without a `url`, the environment names it, else it is the usual one of this machine."""
        variable, usual = _DEFAULTS[kind]
        self.kind = kind
        self.url = (url or os.environ.get(variable) or usual).rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise Failure(f"not the address of a {kind}: {self.url!r} (for example {usual})")
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def met(self) -> Server:
        """Return this server, having made sure that it is of the kind it should be; raises Failure."""
        try:
            found = self.get("/healthz")
        except Unwell as error:
            raise Failure(f"{self.url}: that is no {self.kind} of EdgeFlow: {error.message}") from None
        kind = found.get("server") if isinstance(found, dict) else None
        if kind != self.kind:
            what = _instead(self.kind) if kind in _DEFAULTS else f"that is no {self.kind} of EdgeFlow"
            raise Failure(f"{self.url}: {what}")
        return self

    def get(self, path: str, **query: str | int | None) -> Any:
        """Return what is at a path; parameters that are ``None`` are left out."""
        return self._json("GET", path + _encoded(query))

    def put(self, path: str, body: bytes, content_type: str, timeout: float = TIMEOUT_S) -> Any:
        """Put a body at a path and return the answer."""
        return self._json("PUT", path, body, {"Content-Type": content_type}, timeout)

    def put_json(self, path: str, value: Any) -> Any:
        """Put a value at a path as JSON and return the answer."""
        return self.put(path, json.dumps(value).encode(), "application/json")

    @contextlib.contextmanager
    def body(self, path: str, accept: str, **query: str | int | None) -> Iterator[IO[bytes]]:
        """Open what is at a path, to be read as it comes; raises Failure, and where it ends too soon."""
        with self._open("GET", path + _encoded(query), None, {"Accept": accept}, TRANSFER_S) as response:
            try:
                yield response
            except (OSError, HTTPException) as error:
                raise Failure(f"{self.url}: the answer ended before it was whole: {error}") from None

    def _json(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = TIMEOUT_S,
    ) -> Any:
        with self._open(method, path, body, headers or {}, timeout) as response:
            try:
                return json.loads(response.read() or b"null")
            except (ValueError, OSError, HTTPException) as error:
                raise Failure(f"{self.url} gave no answer that can be read: {error}") from None

    def _open(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout: float
    ) -> IO[bytes]:
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            response: IO[bytes] = self._opener.open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error) from None
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(error, BadStatusLine) and not isinstance(error, RemoteDisconnected):
                raise Failure(f"{self.url}: that is not an HTTP server") from None
            reason = getattr(error, "reason", error)  # what lies behind a URLError
            raise Failure(
                f"no {self.kind} answers at {self.url}: {getattr(reason, 'strerror', None) or reason}"
            ) from None
        return response

    def _refusal(self, error: urllib.error.HTTPError) -> Failure:
        """Say what the other end found wrong, in its own words."""
        try:
            answer = json.loads(error.read())
        except (ValueError, OSError, HTTPException):
            answer = None
        told = answer if isinstance(answer, dict) else {}
        kind = Refused if 400 <= error.code < 500 else Unwell
        problems = told.get("problems")
        if isinstance(problems, list) and problems:
            return kind("\n".join(map(_line, problems)), problems=problems)
        return kind(f"{self.url}: {told.get('error') or f'{error.code} {error.reason}'}")

    def stream(self, path: str, **query: str | int | None) -> Iterator[Any]:
        """Yield the messages of a stream of server-sent events, over lost connections too, for ever.

        Raises Failure when the first connection cannot be made, or a later one is refused: where a store was
        put back, there is nothing to go on from.
        """
        last, told = "", False
        body: IO[bytes] | None = self._connect(path, query, last)
        while True:
            try:
                with body or self._connect(path, query, last) as stream:
                    body, told = None, False
                    for number, data in messages(stream, last):
                        last = number
                        if data:
                            yield json.loads(data)
            except Refused:
                raise
            except (OSError, HTTPException, Failure) as error:
                if not told:
                    note(f"{self.url} was lost ({error}); trying again")
                told = True
            time.sleep(RETRY_S)

    def _connect(self, path: str, query: dict[str, str | int | None], last: str) -> IO[bytes]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
        return self._open("GET", path + _encoded(query), None, headers, STREAM_TIMEOUT_S)


def _instead(kind: str) -> str:
    """Return what to say where the address is that of the other kind of server: what the command takes."""
    context = click.get_current_context(silent=True)
    taken = context.params if context is not None else {}
    if kind == DEVICE:
        named = "use --device NAME for a device of its own"
        own = "give a device's own address"
        return f"that is a relay; {named if 'device' in taken else own}"
    also = ", or --to with this one" if "to" in taken else ""
    return f"that is a device; give the address of a relay{also}"


def messages(body: IO[bytes], last: str) -> Iterator[tuple[str, str]]:
    """Yield ``(last id, data)`` of each server-sent event; data may be empty.

    Source: HTML standard, section 9.2.6.
    """
    data: list[str] = []
    for raw in body:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id" and line:
            last = value
        elif name == "data" and line:
            data.append(value)
        elif not line:
            yield last, "\n".join(data)
            data = []


def _encoded(query: dict[str, str | int | None]) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return "?" + urllib.parse.urlencode(given) if given else ""


def quoted(name: str) -> str:
    """Return a name as one part of a path."""
    return urllib.parse.quote(name, safe="")


def _line(problem: Any) -> str:
    """Return a problem as its line, whether it came as that or taken apart."""
    try:
        return str(msgspec.convert(problem, Problem))
    except msgspec.ValidationError:
        return str(problem)
