"""The relay: one process, one loop; HTTP for people and programs, gRPC for devices.

python -m edgeflow_relay.app --config relay.yaml
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from edgeflow_proto.pipeline.problem import Rejected
from edgeflow_relay.api import devices, events, pipelines, probes
from edgeflow_relay.api.common import Refusal, Relay, TooLarge, failure
from edgeflow_relay.api.guard import Guard
from edgeflow_relay.counters import Counters
from edgeflow_relay.descriptors import allow_descriptors
from edgeflow_relay.hub import Hub, listening
from edgeflow_relay.intake import Intake
from edgeflow_relay.mirror import Mirror
from edgeflow_relay.registry import Registry
from edgeflow_relay.server import Server, make_server
from edgeflow_relay.settings import Settings, SettingsError, read
from edgeflow_relay.store.blobs import Blobs
from edgeflow_relay.store.database import Database, open_database
from edgeflow_relay.web import page

log = logging.getLogger("edgeflow.relay")


class Ports(NamedTuple):
    """Where the relay listens."""

    http: int
    grpc: int


def make_app(relay: Relay) -> Starlette:
    """Return the HTTP application."""
    handlers = {
        Refusal: _refused, TooLarge: _too_large, HTTPException: _failed,
        OSError: _disk, DBAPIError: _disk,
    }  # fmt: skip
    app = Starlette(
        routes=[*devices.ROUTES, *pipelines.ROUTES, *events.ROUTES, *probes.ROUTES, *page.routes()],
        middleware=[Middleware(Guard, counters=relay.counters)],
        exception_handlers=handlers,
    )
    app.state.relay = relay
    return app


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    if page.wanted(request):
        return page.refusal(error.status, str(error))
    return failure(error.status, str(error), **error.more)


async def _too_large(_: Request, error: Exception) -> Response:
    return failure(413, str(error))


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if page.wanted(request):
        return page.refusal(error.status_code, error.detail)
    return failure(error.status_code, error.detail)


async def _disk(_: Request, error: Exception) -> Response:
    log.error("a request failed: %s", error)
    return failure(507, f"cannot be stored: {getattr(error, 'orig', None) or error}")


async def serve(settings: Settings, ready: Callable[[Ports], None]) -> None:
    """Serve until SIGTERM or SIGINT; calls `ready` when both ports answer.

    Raises OSError when the folder or a port cannot be had.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    with listening(settings.host, settings.http_port, "HTTP") as sock:
        database = await asyncio.to_thread(open_database, Path(settings.data))
        try:
            await _Process(settings, database).run(sock, stopping, ready)
        finally:
            await asyncio.to_thread(database.close)


class _Process:
    """The parts, and the order in which they begin and end."""

    def __init__(self, settings: Settings, database: Database) -> None:
        counters, registry = Counters(), Registry(database)
        intake = Intake(database, counters)
        blobs, uploads = Blobs(Path(settings.data) / "blobs"), Path(settings.data) / "uploads"
        shutil.rmtree(uploads, ignore_errors=True)
        uploads.mkdir()
        broker, mirror = settings.mirror, None
        if broker is not None:
            mirror = Mirror(broker, settings.fleet, database, registry, counters, intake.stored)
        self._hub = Hub(settings, database, registry, intake, blobs, counters)
        self._relay = Relay(settings, counters, database, blobs, uploads, registry, intake, mirror)

    async def run(self, sock: socket.socket, stopping: asyncio.Event, ready: Callable[[Ports], None]) -> None:
        relay, server = self._relay, make_server(make_app(self._relay))
        await relay.registry.load()
        ports = Ports(sock.getsockname()[1], await self._hub.start())
        loop = asyncio.get_running_loop()
        http, intake = loop.create_task(server.serve([sock])), loop.create_task(relay.intake.run())
        others = [loop.create_task(relay.registry.run())]
        if relay.mirror is not None:
            others.append(loop.create_task(relay.mirror.run()))
        ready(ports)
        stop = loop.create_task(stopping.wait())
        ended, _ = await asyncio.wait([stop, http, intake, *others], return_when=asyncio.FIRST_COMPLETED)
        await self._end(server, http, intake, others)
        for task in ended:
            task.result()  # raises what no part of it expected

    async def _end(
        self,
        server: Server,
        http: asyncio.Task[None],
        intake: asyncio.Task[None],
        others: list[asyncio.Task[None]],
    ) -> None:
        """Take nothing more in, then store what is here, then tell the mirror's broker."""
        relay = self._relay
        relay.stopping = True
        relay.stored.ring()
        relay.ticks.ring()
        server.should_exit = True
        await self._hub.stop()
        relay.intake.close()
        await asyncio.gather(http, intake, return_exceptions=True)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await relay.registry.save()


def print_ports(ports: Ports) -> None:
    """Print ``{"http": port, "grpc": port}``."""
    with contextlib.suppress(OSError):  # nobody reads it
        sys.stdout.write(f"{json.dumps(ports._asdict())}\n")
        sys.stdout.flush()


def main(settings: Settings, say: Callable[[Ports], None] = print_ports) -> None:
    """Run the relay in this process until SIGTERM or Ctrl-C; says its ports when it is ready.

    Raises OSError when the folder or a port cannot be had.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    allow_descriptors()

    def ready(ports: Ports) -> None:
        _note(settings, ports)
        say(ports)

    asyncio.run(serve(settings, ready))


def _note(settings: Settings, ports: Ports) -> None:
    if settings.ports_file is not None:
        target = Path(settings.ports_file)
        temporary = target.with_name(f"{target.name}.{os.getpid()}")
        temporary.write_text(json.dumps(ports._asdict()))
        temporary.rename(target)


def _settings(arguments: list[str]) -> Settings:
    """Read the command line; raises SettingsError, Rejected or OSError."""
    parser = argparse.ArgumentParser(prog="python -m edgeflow_relay.app", description="The relay of a fleet.")
    parser.add_argument("--config", type=Path, help="settings file")
    for name in ("host", "data", "fleet", "broker", "ports-file"):
        parser.add_argument(f"--{name}")
    for name in ("http-port", "grpc-port"):
        parser.add_argument(f"--{name}", type=int, help="0 takes a free one")
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    config = given.pop("config", None)
    return msgspec.structs.replace(read(config), **given) if config else Settings(**given)


def run(arguments: list[str]) -> int:
    """Run the relay as a program; returns its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    try:
        main(_settings(arguments))
    except (SettingsError, Rejected, OSError) as error:
        log.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
