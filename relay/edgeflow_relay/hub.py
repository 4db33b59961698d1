"""Where devices connect: one stream each, blobs beside. The only file of the relay that knows gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict

from edgeflow_proto.event import Event, decode_block, events
from edgeflow_proto.v1 import device_pb2, relay_pb2, service_pb2, service_pb2_grpc
from edgeflow_relay.counters import Counters
from edgeflow_relay.registry import Registry
from edgeflow_relay.settings import Settings
from edgeflow_relay.store import events as stored
from edgeflow_relay.store.blobs import Blobs
from edgeflow_relay.store.database import Database

log = logging.getLogger("edgeflow.relay")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
CHUNK = 1 << 20
MAX_MESSAGE = 16 << 20
HELLO_S = 10.0
IN_FLIGHT = 64  # batches of one device being stored
VERSION = "0.1.0"
OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.so_reuseport", 0),
]


class Refused(ValueError):
    """A device sent what cannot be used; its stream ends with this as the reason."""


class Stream:
    """One device's stream: what it sends is taken in order, what it is told goes through a queue."""

    def __init__(self, hub: Hub, device: str) -> None:
        self.hub = hub
        self.device = device
        self.outbox: asyncio.Queue[relay_pb2.RelayMessage | None] = asyncio.Queue()
        self.storing = asyncio.Semaphore(IN_FLIGHT)
        self.told_revision = -1

    def end(self) -> None:
        """Let the stream end once its outbox is empty."""
        self.outbox.put_nowait(None)

    def wake(self) -> None:
        """Send the desired state again, because it changed."""
        self.hub.spawn(self.desire())

    async def desire(self) -> None:
        """Tell the device what it should run, unless it was told this revision."""
        wanted = await self.hub.registry.wanted(self.device)
        if wanted.revision <= self.told_revision:
            return
        self.told_revision = wanted.revision
        pipelines = [
            relay_pb2.Desired(name=name, digest=digest, manifest=manifest)
            for name, (digest, manifest) in wanted.pipelines.items()
        ]
        state = relay_pb2.DesiredState(revision=wanted.revision, pipelines=pipelines)
        await self.outbox.put(relay_pb2.RelayMessage(desired=state))

    async def take(self, message: device_pb2.DeviceMessage) -> None:
        """Act on a message; raises Refused."""
        kind = message.WhichOneof("message")
        if kind == "events":
            await self.storing.acquire()  # backpressure: a device that is ahead of the disk is not read
            self.hub.spawn(self._store(message.events))
        elif kind == "heartbeat":
            heartbeat = MessageToDict(message.heartbeat, preserving_proto_field_name=True)
            await self.hub.registry.heartbeat(self.device, _numbers(heartbeat))
        elif kind == "status":
            s = message.status
            status = {"name": s.name, "digest": s.digest, "state": s.state, "reason": s.reason}
            await self.hub.registry.status(self.device, {**status, "revision": s.revision})
        else:
            raise Refused(f"unexpected {kind or 'empty message'}")

    async def _store(self, batch: device_pb2.EventBatch) -> None:
        try:
            last = await self.hub.store(self.device, batch)
        except Exception as error:  # the batch is not acknowledged, so the device sends it again
            log.error("%s: events %d…: %s", self.device, batch.first, error)
            self.end()
            return
        finally:
            self.storing.release()
        ack = relay_pb2.EventAck(journal_id=batch.journal_id, sequence=last)
        await self.outbox.put(relay_pb2.RelayMessage(ack=ack))


class Hub(service_pb2_grpc.FleetServicer, service_pb2_grpc.BlobsServicer):
    """The services."""

    def __init__(
        self, settings: Settings, database: Database, registry: Registry, blobs: Blobs, counters: Counters
    ) -> None:
        self.settings = settings
        self.database = database
        self.registry = registry
        self.blobs = blobs
        self.counters = counters
        self.streams: dict[str, Stream] = {}
        self.stored = asyncio.Event()  # replaced at each set: new events for the mirror and live readers
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, job: Any) -> None:
        """Run a coroutine beside the others."""
        task = asyncio.get_running_loop().create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def Connect(
        self, requests: AsyncIterator[device_pb2.DeviceMessage], context: Any
    ) -> AsyncIterator[relay_pb2.RelayMessage]:
        """Serve one device."""
        try:
            hello = await self._hello(requests)
            stream = await self._open(hello)
        except Refused as error:
            self.counters["messages_refused_total"] += 1
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            return
        reader = asyncio.get_running_loop().create_task(self._listen(stream, requests))
        try:
            while (message := await stream.outbox.get()) is not None:
                yield message
            if reader.done() and isinstance(reader.exception(), Refused):
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(reader.exception()))
        finally:
            reader.cancel()
            self._close(stream)

    async def _hello(self, requests: AsyncIterator[device_pb2.DeviceMessage]) -> device_pb2.Hello:
        try:
            async with asyncio.timeout(HELLO_S):
                first = await anext(requests)
        except (TimeoutError, StopAsyncIteration):
            raise Refused("no hello") from None
        hello = first.hello
        if first.WhichOneof("message") != "hello" or not NAME.fullmatch(hello.device):
            raise Refused("the first message must be a hello with a device name of letters, digits, . _ -")
        if not NAME.fullmatch(hello.fleet):
            raise Refused(f"not a fleet name: {hello.fleet!r}")
        return hello

    async def _open(self, hello: device_pb2.Hello) -> Stream:
        """Register the device; an older stream of the same name ends."""
        device = hello.device
        if device in self.streams:
            self.streams[device].end()
        stream = Stream(self, device)
        await self.registry.hello(device, hello.fleet, MessageToDict(hello, preserving_proto_field_name=True))
        self.streams[device] = stream
        self.registry.online[device] = stream.wake
        self.counters["streams_total"] += 1
        self.counters["streams"] = len(self.streams)
        self.registry.changed()
        await stream.outbox.put(relay_pb2.RelayMessage(welcome=await self._welcome(hello)))
        await stream.desire()
        log.info("%s connected", device)
        return stream

    async def _welcome(self, hello: device_pb2.Hello) -> relay_pb2.Welcome:
        ids = [journal.journal_id for journal in hello.journals]
        acked = await self.database.read(lambda connection: stored.acked(connection, hello.device, ids))
        acks = [relay_pb2.EventAck(journal_id=journal, sequence=number) for journal, number in acked.items()]
        interval = self.settings.heartbeat_ms
        return relay_pb2.Welcome(relay_version=VERSION, heartbeat_interval_ms=interval, acked=acks)

    async def _listen(self, stream: Stream, requests: AsyncIterator[device_pb2.DeviceMessage]) -> None:
        silence = 4 * self.settings.heartbeat_ms / 1000 + 5
        try:
            while True:
                async with asyncio.timeout(silence):
                    message = await anext(requests)
                await stream.take(message)
        except Refused as error:
            self.counters["messages_refused_total"] += 1
            log.warning("%s: %s", stream.device, error)
            raise
        except (StopAsyncIteration, TimeoutError, grpc.RpcError):
            log.info("%s: the stream ended", stream.device)
        finally:
            stream.end()

    def _close(self, stream: Stream) -> None:
        if self.streams.get(stream.device) is stream:
            del self.streams[stream.device]
            self.registry.online.pop(stream.device, None)
            self.registry.changed()
        self.counters["streams"] = len(self.streams)

    async def store(self, device: str, batch: device_pb2.EventBatch) -> int:
        """Store a batch and remember how far its journal is stored; returns the last sequence number.

        A block that cannot be read is kept apart and acknowledged: sent again it would be no better.
        """
        try:
            found, error = list(_expanded(device, batch)), ""
        except ValueError as problem:
            found, error = [], str(problem)
        last = batch.first + (len(found) or batch.count) - 1

        def job(connection: Any) -> int:
            if error:
                numbers = (batch.first, batch.count)
                stored.reject(connection, device, batch.journal_id, numbers, batch.block, error)
            new = stored.insert(connection, device, found) if found else 0
            stored.acknowledge(connection, device, batch.journal_id, batch.pipeline, last)
            return new

        new = await self.database.write(job)
        self._count(device, len(found), new, error)
        return last

    def _count(self, device: str, found: int, new: int, error: str) -> None:
        if error:
            self.counters["blocks_rejected_total"] += 1
            log.error("%s: a block is set aside: %s", device, error)
        self.counters["events_stored_total"] += new
        self.counters["events_duplicate_total"] += found - new
        if new:
            rung, self.stored = self.stored, asyncio.Event()
            rung.set()

    async def wait_stored(self, seconds: float) -> None:
        """Return when events were stored, or after so long."""
        rung = self.stored
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await rung.wait()

    async def Fetch(self, request: Any, context: Any) -> AsyncIterator[service_pb2.BlobChunk]:
        """Send a blob from an offset."""
        path = self.blobs.path(request.digest)
        if path is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such blob")
            return
        if request.offset > path.stat().st_size:
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, "the offset is beyond the end")
        with path.open("rb") as file:
            file.seek(request.offset)
            while data := await asyncio.to_thread(file.read, CHUNK):
                yield service_pb2.BlobChunk(data=data)

    async def stop(self) -> None:
        """End every stream; what is being stored is finished."""
        for stream in list(self.streams.values()):
            stream.end()
        while self._tasks:
            await asyncio.wait(self._tasks)


def _expanded(device: str, batch: device_pb2.EventBatch) -> list[Event]:
    if not NAME.fullmatch(batch.journal_id) or not re.fullmatch(r"[a-z_][a-z0-9-]{0,62}", batch.pipeline):
        raise ValueError(f"not a journal's name: {batch.journal_id!r} of {batch.pipeline!r}")
    block = decode_block(batch.block)
    if block.count != batch.count or batch.first < 1:
        raise ValueError(f"a block of {block.count} events was sent as {batch.count} from {batch.first}")
    return list(events(block, batch.first, batch.journal_id, device, batch.pipeline))


def _numbers(value: Any) -> Any:
    """Undo protobuf's JSON form, in which 64-bit numbers are strings."""
    if isinstance(value, dict):
        return {key: _numbers(item) if key not in _TEXTS else item for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?\d{1,19}", value) else value


_TEXTS = {"name", "digest", "origin", "state", "reason", "clock_quality"}


async def listen(hub: Hub, settings: Settings) -> tuple[Any, int]:
    """Start the gRPC server; returns it and its port. Raises OSError when the port cannot be had."""
    server = grpc.aio.server(options=OPTIONS)
    service_pb2_grpc.add_FleetServicer_to_server(hub, server)
    service_pb2_grpc.add_BlobsServicer_to_server(hub, server)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        port = server.add_insecure_port(f"{host}:{settings.grpc_port}")
    except RuntimeError as error:
        raise OSError(f"port {settings.grpc_port}: {error}") from None
    await server.start()
    return server, port
