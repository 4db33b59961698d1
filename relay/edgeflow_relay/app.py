"""The relay: one process, one loop; HTTP for people and programs, gRPC for devices."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware

from edgeflow_relay.api import events, fleet, page
from edgeflow_relay.api.common import LocalOnly, Relay
from edgeflow_relay.counters import Counters
from edgeflow_relay.hub import Hub, listen
from edgeflow_relay.mirror import Mirror
from edgeflow_relay.registry import Registry
from edgeflow_relay.settings import Settings
from edgeflow_relay.store.blobs import Blobs
from edgeflow_relay.store.database import Database

GRACE_S = 3.0


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handling: the relay stops its parts in order."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


def application(relay: Relay) -> Starlette:
    """Return the HTTP application."""
    app = Starlette(routes=[*fleet.ROUTES, *events.ROUTES, *page.ROUTES], middleware=[Middleware(LocalOnly)])
    app.state.relay = relay
    return app


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; raises OSError when a port cannot be had."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    relay = _parts(settings)
    sock = _bound(settings)
    grpc_server, grpc_port = await listen(relay.hub, settings)
    mirror = asyncio.create_task(
        Mirror(settings, relay.database, relay.registry, relay.hub, relay.counters).run()
    )
    config = uvicorn.Config(
        application(relay), log_level="warning", lifespan="off", timeout_graceful_shutdown=1, access_log=False
    )
    server = _Server(config)
    http = asyncio.create_task(server.serve(sockets=[sock]))
    sys.stdout.write(json.dumps({"http": sock.getsockname()[1], "grpc": grpc_port}) + "\n")
    sys.stdout.flush()
    await asyncio.wait([asyncio.create_task(stopping.wait()), http], return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    mirror.cancel()
    await relay.hub.stop()
    await grpc_server.stop(GRACE_S)
    await asyncio.gather(http, mirror, return_exceptions=True)
    await asyncio.to_thread(relay.database.close)


def _parts(settings: Settings) -> Relay:
    database = Database(settings.database_url)
    registry, blobs, counters = Registry(database), Blobs(Path(settings.data) / "blobs"), Counters()
    hub = Hub(settings, database, registry, blobs, counters)
    return Relay(settings, database, registry, blobs, hub, counters)


def _bound(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((settings.host, settings.http_port))
    return sock


def main(settings: Settings) -> None:
    """Run the relay in this process; raises OSError when the folder or a port cannot be had."""
    Path(settings.data).mkdir(parents=True, exist_ok=True)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name, value in (("http-port", 0), ("grpc-port", 0), ("data", "relay-data"), ("fleet", "default")):
        parser.add_argument(f"--{name}", default=value, type=type(value))
    parser.add_argument("--broker")
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    main(Settings(**vars(parser.parse_args())))
