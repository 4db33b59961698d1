"""Where devices connect: a stream each, blobs beside it. The only file of the relay that knows gRPC.

Messages are taken as bytes and read here, so that one that cannot be read ends its own stream with a
reason and nothing else.
Sources: grpc.github.io/grpc/core, "Channel arguments"; gRPC A8 (client-side keepalive).
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import time
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from edgeflow_proto.v1 import device_pb2, relay_pb2, service_pb2
from edgeflow_relay import wire
from edgeflow_relay.bell import Bell
from edgeflow_relay.boots import RIVAL_S, Boots
from edgeflow_relay.counters import Counters
from edgeflow_relay.descriptors import shares
from edgeflow_relay.intake import Intake
from edgeflow_relay.limited import Limited
from edgeflow_relay.registry import Registry
from edgeflow_relay.settings import Settings
from edgeflow_relay.store import journals, wishes
from edgeflow_relay.store.blobs import Blobs
from edgeflow_relay.store.database import Database
from edgeflow_relay.store.health import refusal
from edgeflow_relay.version import version
from edgeflow_relay.wire import Malformed

log = logging.getLogger("edgeflow.relay")
HELLO_S = 10.0
CHUNK = 2 << 20
MAX_MESSAGE = 64 << 20
GRACE_S = 2.0
REFUSED, UNTOLD = "devices cannot be served", "what became of deployments cannot be stored"
MAX_UNTOLD = 256  # outcomes that wait until the store takes them, per stream
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", -1),
    # A device pings every 20 s; one that does so oftener than this is not cut off as an abuser.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_time_ms", 20_000),
    # The kernel too ends a connection on which nothing sent is acknowledged for this long (TCP_USER_TIMEOUT).
    ("grpc.keepalive_timeout_ms", 60_000),
    ("grpc.http2.ping_timeout_ms", 600_000),  # on a slow way an answer waits behind a block
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not shared
)
_Code = grpc.StatusCode
_Context = aio.ServicerContext[bytes, bytes]


class Ended(Exception):
    """A stream ends by our will; `code` and the message tell the device why."""

    def __init__(self, code: grpc.StatusCode, why: str) -> None:
        super().__init__(why)
        self.code = code


def listening(host: str, port: int, what: str) -> socket.socket:
    """Return a listening socket; port 0 takes a free one. Raises OSError that says which port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(error.errno, f"{what} port {port}: {os.strerror(error.errno or 0)}") from None


class Stream:
    """What is to be said to one device: acknowledgements wait as one number per journal, wishes as a flag."""

    def __init__(self, hub: Hub, hello: device_pb2.Hello, context: _Context) -> None:
        self.device = hello.device
        self.boot = wire.about(hello).boot_id
        self.journals = frozenset(journal.journal_id for journal in hello.journals)
        self.untold: dict[str, wishes.Outcome] = {}  # what became of wishes, by name, not stored yet
        self._hub = hub
        self._context = context
        self._acks: dict[str, int] = {}
        self._wish = True
        self._asked_ns: int | None = None  # the device's time since boot when it asked for the time
        self._todo = Bell()
        self._ending = asyncio.Event()
        self._reason: Ended | None = None
        self.heard = asyncio.get_running_loop().time()  # what came last; infinite while that is taken in

    @property
    def silence(self) -> float:
        """How many seconds we wait for the device to say something; negative when it is not up to it."""
        return asyncio.get_running_loop().time() - self.heard

    def wish(self) -> None:
        """Send what is desired of the device: it changed."""
        self._wish = True
        self._todo.ring()

    def ack(self, journal: str, sequence: int) -> None:
        """Say that a journal is stored up to `sequence`."""
        self._acks[journal] = sequence
        self._todo.ring()

    def tell_time(self, asked_ns: int) -> None:
        """Say what our clock reads to a device that asked at its boot time `asked_ns`."""
        self._asked_ns = asked_ns
        self._todo.ring()

    def replaced(self) -> None:
        """End: the device has opened another stream."""
        self.end(Ended(_Code.ABORTED, "the device has opened another stream"))

    def end(self, reason: Ended) -> None:
        """End for this reason."""
        self._reason = self._reason or reason
        self._ending.set()

    async def converse(self, welcome: relay_pb2.Welcome) -> None:
        """Hear and answer until the device is done; raises Ended and Malformed."""
        await self._send(relay_pb2.RelayMessage(welcome=welcome))
        hub = self._hub
        await _first_of(hub.listen(self, self._context), hub.watch(self), self._tell(), self._ended())

    async def _ended(self) -> None:
        await self._ending.wait()
        assert self._reason is not None
        raise self._reason

    async def _tell(self) -> None:
        while True:
            if self._wish:
                self._wish = False
                await self._send(await self._hub.desired(self.device))
            while self._acks:
                journal = next(iter(self._acks))
                ack = relay_pb2.EventAck(journal_id=journal, sequence=self._acks.pop(journal))
                await self._send(relay_pb2.RelayMessage(ack=ack))
            if self._asked_ns is not None:
                answer = relay_pb2.TimeAnswer(boot_time_ns=self._asked_ns, wall_time_ns=time.time_ns())
                self._asked_ns = None
                await self._send(relay_pb2.RelayMessage(time=answer))
            if not self._wish:
                await self._todo.wait()

    async def _send(self, message: relay_pb2.RelayMessage) -> None:
        await self._context.write(message.SerializeToString())


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Run until one is done, and end the others; raises what the first one raised."""
    tasks = [asyncio.get_running_loop().create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


class Hub:
    """Both services, and the server under them."""

    def __init__(
        self, settings: Settings, database: Database, registry: Registry, intake: Intake, blobs: Blobs,
        counters: Counters,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._database = database
        self._registry = registry
        self._intake = intake
        self._blobs = blobs
        self._counters = counters
        self._limited = Limited(log)
        self._open: set[Stream] = set()
        self._boots = Boots(2 * settings.heartbeat.seconds)
        self._taken, self._most = 0, shares().streams
        most = ("grpc.max_allowed_incoming_connections", shares().devices_most)
        self._server = aio.server(options=(*_OPTIONS, most))
        self._server.add_generic_rpc_handlers(self._handlers())

    def _handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        methods: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {
            "Fleet": {"Connect": grpc.stream_stream_rpc_method_handler(self.connect)},
            "Blobs": {"Fetch": grpc.unary_stream_rpc_method_handler(self.fetch)},
        }
        services = service_pb2.DESCRIPTOR.services_by_name
        return tuple(
            grpc.method_handlers_generic_handler(services[name].full_name, handlers)
            for name, handlers in methods.items()
        )

    async def start(self) -> int:
        """Listen; returns the port. Raises OSError when it cannot be had."""
        name, wanted = self._settings.host, self._settings.grpc_port
        listening(name, wanted, "gRPC").close()  # gRPC itself would write pages to standard error
        try:
            port = self._server.add_insecure_port(f"[{name}]:{wanted}" if ":" in name else f"{name}:{wanted}")
        except RuntimeError as error:
            raise OSError(f"gRPC port {wanted}: {error}") from None
        await self._server.start()
        return port

    async def stop(self) -> None:
        """End every stream and the server."""
        for stream in list(self._open):
            stream.end(Ended(_Code.UNAVAILABLE, "the relay is stopping"))
        await self._server.stop(GRACE_S)

    # Fleet

    async def connect(self, _: object, context: _Context) -> None:
        """Serve a device's stream for as long as it lasts."""
        self._taken += 1
        try:
            await self._serve(context)
        except Malformed as error:
            self._counters["malformed_total"] += 1
            self._limited.warning(context.peer(), f"refused: {error}")
            await context.abort(_Code.INVALID_ARGUMENT, str(error))
        except Ended as error:
            await context.abort(error.code, str(error))
        except Exception as error:  # ends this stream, and the device tries again
            await self._failed(context, error)
        finally:
            self._taken -= 1

    async def _failed(self, context: _Context, error: Exception) -> None:
        why = refusal(error)
        if why:
            self._database.health.refused(REFUSED, why)
            self._limited.warning(REFUSED, why)
            await context.abort(_Code.UNAVAILABLE, f"the relay cannot store: {why}")
        log.error("%s: a stream failed", context.peer(), exc_info=error)  # nobody foresaw it
        await context.abort(_Code.INTERNAL, f"the relay failed: {error!r}")

    async def _serve(self, context: _Context) -> None:
        self._check_room()
        hello = await self._hello(context)
        stream = Stream(self, hello, context)
        self._check_rival(stream, context)
        self._open.add(stream)
        try:
            await self._registry.register(hello.device, wire.about(hello))
            self._counters["streams_total"] += 1
            self._counters["streams_replaced_total"] += self._registry.connect(hello.device, stream)
            log.info("%s: connected", hello.device)
            await stream.converse(await self._welcome(hello))
        finally:
            self._open.discard(stream)
            self._registry.disconnect(hello.device, stream)
            log.info("%s: its stream ended", hello.device)

    def _check_room(self) -> None:
        """Refuse a stream that would take descriptors which the store and HTTP need."""
        if self._taken > self._most:
            self._counters["streams_refused_total"] += 1
            why = f"{self._most} streams are open, and the relay may open no more files (see ulimit -n)"
            self._limited.warning("a stream is refused", why)
            raise Ended(_Code.RESOURCE_EXHAUSTED, why)

    def _check_rival(self, stream: Stream, context: _Context) -> None:
        """Refuse a device whose name another agent has."""
        seconds, words = self._rival(stream), f"two agents call themselves so; the one at {context.peer()}"
        if seconds:
            self._counters["streams_rivals_total"] += 1
            self._registry.claimed(stream.device, seconds)
            self._limited.warning(stream.device, f"{words} is refused")
            raise Ended(_Code.ALREADY_EXISTS, f"another agent calls itself {stream.device!r}")
        if self._boots.admit(stream.device, stream.boot):
            self._registry.claimed(stream.device)
            self._limited.warning(stream.device, f"{words} comes back, now that the other is gone")

    def _rival(self, stream: Stream) -> float:
        """Return for how many seconds a device counts as another one of its name; 0 when it does not.

        It is another one where no journal is the same, or where the boots cannot be those of one device.
        """
        others = [known for known in self._open if known.device == stream.device]
        held = [known.journals for known in others if known.journals and stream.journals]
        if any(journals.isdisjoint(stream.journals) for journals in held):
            return RIVAL_S
        return self._boots.rival(stream.device, stream.boot, {known.boot for known in others})

    async def _hello(self, context: _Context) -> device_pb2.Hello:
        try:
            async with asyncio.timeout(HELLO_S):
                message = await self._read(context)
        except TimeoutError:
            raise Ended(_Code.DEADLINE_EXCEEDED, f"no hello within {HELLO_S:g} s") from None
        if message is None or message.WhichOneof("message") != "hello":
            raise Malformed("a stream begins with a hello")
        wire.check_hello(message.hello)
        if message.hello.fleet != self._settings.fleet:
            why = f"this relay serves fleet {self._settings.fleet!r}, not {message.hello.fleet[:80]!r}"
            self._limited.warning(message.hello.device, f"refused: {why}")
            raise Ended(_Code.FAILED_PRECONDITION, why)
        return message.hello

    async def _read(self, context: _Context) -> device_pb2.DeviceMessage | None:
        """Return the next message, ``None`` when the device sends no more."""
        data: object = await context.read()  # bytes, or EOF
        return wire.parse(device_pb2.DeviceMessage, data) if isinstance(data, bytes) else None

    async def _welcome(self, hello: device_pb2.Hello) -> relay_pb2.Welcome:
        ids = [journal.journal_id for journal in hello.journals]
        acked = await self._database.read(partial(journals.acked, device=hello.device, ids=ids))
        acks = [relay_pb2.EventAck(journal_id=journal, sequence=last) for journal, last in acked.items()]
        interval = self._settings.heartbeat // 10**6
        return relay_pb2.Welcome(
            relay_version=version(),
            heartbeat_interval_ms=interval,
            acked=acks,
            wall_time_ns=time.time_ns(),
        )

    async def desired(self, device: str) -> relay_pb2.RelayMessage:
        """Return all that is desired of a device."""
        revision, wanted = await self._database.read(partial(wishes.wishes, device=device))
        self._database.health.works(REFUSED)
        pipelines = [relay_pb2.Desired(name=w.name, digest=w.digest, manifest=w.manifest) for w in wanted]
        return relay_pb2.RelayMessage(desired=relay_pb2.DesiredState(revision=revision, pipelines=pipelines))

    async def listen(self, stream: Stream, context: _Context) -> None:
        """Take what a device says until it says no more; raises Malformed."""
        while (message := await self._read(context)) is not None:
            self._meet(stream)
            stream.heard = math.inf
            if self._boots.heard(stream.device, stream.boot):
                self._registry.claimed(stream.device)
            await self._take(stream, message)
            stream.heard = asyncio.get_running_loop().time()

    async def watch(self, stream: Stream) -> None:
        """Show a device as offline while nothing is heard.

        Its stream goes on: a block may take minutes to come, and only the pings under the stream tell that
        from a device that is gone.
        """
        after = self._settings.offline_after.seconds
        while True:
            silence = stream.silence
            await asyncio.sleep(after - silence if 0 <= silence < after else after)
            if stream.silence >= after:
                self._miss(stream)

    def _miss(self, stream: Stream) -> None:
        if stream in self._open:
            self._open.discard(stream)
            self._registry.disconnect(stream.device, stream)
            self._counters["streams_silent_total"] += 1
            words = "%s: nothing heard for %g s: shown as offline"
            log.warning(words, stream.device, self._settings.offline_after.seconds)
        elif self._registry.online(stream.device):
            stream.replaced()
        else:
            stream.wish()  # what changed meanwhile: it may hear us all the same

    def _meet(self, stream: Stream) -> None:
        """Show a device as online again that was missed."""
        if stream in self._open:
            return
        if self._registry.online(stream.device):
            stream.replaced()
            return
        self._open.add(stream)
        self._registry.connect(stream.device, stream)
        stream.wish()
        log.info("%s: heard again", stream.device)

    async def _take(self, stream: Stream, message: device_pb2.DeviceMessage) -> None:
        device, kind = stream.device, message.WhichOneof("message")
        if kind == "events":
            batch = wire.batch(device, message.events)
            self._registry.heard(device)
            await self._intake.put(batch, partial(stream.ack, batch.journal, batch.last))
        elif kind == "heartbeat":
            self._counters["heartbeats_total"] += 1
            self._registry.heard(device, wire.heartbeat(message.heartbeat))
            await self._note(stream)
            if message.heartbeat.asks_time:
                stream.tell_time(message.heartbeat.boot_time_ns)
        elif kind == "status":
            stream.untold[message.status.name] = wire.outcome(message.status)
            await self._note(stream)
        else:
            raise Malformed("a message that is neither events nor a heartbeat nor a status")

    async def _note(self, stream: Stream) -> None:
        """Store what a device said became of its wishes; what is refused waits for its next heartbeat."""
        for name, outcome in list(stream.untold.items()):
            work = partial(wishes.tell, device=stream.device, name=name, outcome=outcome)
            try:
                known = await self._database.write(work)
            except Exception as error:
                why = refusal(error)
                if not why or len(stream.untold) > MAX_UNTOLD:
                    raise
                self._database.health.refused(UNTOLD, why)
                return
            del stream.untold[name]
            self._noted(stream.device, name, known=known)

    def _noted(self, device: str, name: str, *, known: bool) -> None:
        self._database.health.works(UNTOLD)
        if known:
            self._registry.heard(device)
            self._registry.changed.ring()
        else:
            self._limited.warning(device, f"it speaks of a pipeline that is not known here: {name}")

    # Blobs

    async def fetch(self, request: bytes, context: _Context) -> None:
        """Send a blob from an offset on."""
        try:
            asked = wire.parse(service_pb2.BlobRequest, request)
        except Malformed as error:
            self._counters["malformed_total"] += 1
            await context.abort(_Code.INVALID_ARGUMENT, str(error))
        path = await asyncio.to_thread(self._blobs.path, asked.digest)
        if path is None:
            await context.abort(_Code.NOT_FOUND, f"no blob {asked.digest[:64]!r}")
        size = (await asyncio.to_thread(path.stat)).st_size
        if asked.offset > size:
            await context.abort(_Code.OUT_OF_RANGE, f"it has {size} bytes; asked from {asked.offset}")
        self._counters["blobs_served_total"] += 1
        await _send_file(path, asked.offset, context)


async def _send_file(path: Path, offset: int, context: _Context) -> None:
    """Send a file, open only while it is read: a device that takes its time holds no descriptor."""
    while data := await asyncio.to_thread(_chunk, path, offset):
        await context.write(service_pb2.BlobChunk(data=data).SerializeToString())
        offset += len(data)


def _chunk(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(CHUNK)
