"""What every endpoint shares: the relay's parts, answers, and bodies that are never longer than asked for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from edgeflow_relay.bell import Bell
from edgeflow_relay.counters import Counters
from edgeflow_relay.intake import Intake
from edgeflow_relay.mirror import Mirror
from edgeflow_relay.registry import Registry
from edgeflow_relay.settings import Settings
from edgeflow_relay.store.blobs import Blobs
from edgeflow_relay.store.database import Database

EVENT_STREAM = "text/event-stream"


@dataclass(slots=True)
class Relay:
    """The parts an endpoint may use."""

    settings: Settings
    counters: Counters
    database: Database
    blobs: Blobs
    uploads: Path  # what is being sent lies here
    registry: Registry
    intake: Intake
    mirror: Mirror | None
    stopping: bool = False
    streams: int = 0  # open event streams

    @property
    def stored(self) -> Bell:
        """Rings when there are new events."""
        return self.intake.stored

    @property
    def ticks(self) -> Bell:
        """Rings when a device came, went or was heard."""
        return self.registry.changed


class TooLarge(ValueError):
    """A body is longer than what is taken."""


class Refusal(Exception):
    """A request is answered with this status and these words."""

    def __init__(self, status: int, words: str, **more: Any) -> None:
        super().__init__(words)
        self.status = status
        self.more = more


def relay_of(request: Request) -> Relay:
    """Return the relay that serves a request."""
    relay = request.app.state.relay
    assert isinstance(relay, Relay)
    return relay


def answer(value: Any, status: int = 200) -> Response:
    """Return a value as JSON; numbers that JSON has no word for become null."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def failure(status: int, words: str, **more: Any) -> Response:
    """Return ``{"error": words, …}``."""
    return answer({"error": words, **more}, status)


async def body(request: Request, limit: int) -> bytes:
    """Return a body; raises TooLarge above `limit` bytes, before having taken more than that."""
    _check_announced(request, limit)
    taken = bytearray()
    async for chunk in request.stream():
        taken += chunk
        if len(taken) > limit:
            raise TooLarge(f"more than {limit} bytes")
    return bytes(taken)


async def spool(request: Request, path: Path, limit: int) -> None:
    """Write a body to a new file; raises TooLarge, or OSError when the disk refuses."""
    _check_announced(request, limit)
    size = 0
    with await asyncio.to_thread(path.open, "xb") as file:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise TooLarge(f"more than {limit} bytes")
            await asyncio.to_thread(file.write, chunk)


def _check_announced(request: Request, limit: int) -> None:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise TooLarge(f"{length[:20]} bytes; {limit} are taken")


def media_type(request: Request) -> str:
    """Return the content type without parameters, in lower case (RFC 9110, section 8.3)."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
