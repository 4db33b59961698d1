"""A real relay process, and devices that speak to it over real gRPC."""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from edgeflow_proto.event import Block, Clock, Column
from edgeflow_proto.v1 import device_pb2, relay_pb2, service_pb2
from edgeflow_proto.v1.service_pb2_grpc import BlobsStub, FleetStub
from tests.support.processes import end, eventually

CLOCK = Clock("boot-1", 1_700_000_000_000_000_000, "synchronised")


class Relay:
    """`python -m edgeflow_relay.app` with a store of its own; its ports stay the same over restarts."""

    def __init__(self, folder: Path, *extra: str) -> None:
        self.folder = folder
        self.extra = extra
        self.before: tuple[str, ...] = ()  # the program that starts it, with its arguments
        self.http = self.grpc = 0
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> Relay:
        command = [
            *self.before, sys.executable, "-m", "edgeflow_relay.app", "--data", str(self.folder / "store"),
            "--http-port", str(self.http), "--grpc-port", str(self.grpc), *self.extra,
        ]  # fmt: skip
        with (self.folder / "relay.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log
        ports = json.loads(line)
        self.http, self.grpc = ports["http"], ports["grpc"]
        return self

    @property
    def log(self) -> str:
        return (self.folder / "relay.log").read_text(errors="replace")

    def stop(self) -> int:
        assert self.process is not None
        end(self.process)
        return self._gone()

    def kill(self) -> int:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        return self._gone()

    def _gone(self) -> int:
        process, self.process = self.process, None
        assert process is not None
        assert process.stdout is not None
        process.stdout.close()
        return process.returncode

    def close(self) -> None:
        if self.process is not None:
            self.stop()

    # HTTP

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=30)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def json(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        status, text = self.request(method, path, body, **headers)
        return status, json.loads(text)

    def get(self, path: str) -> Any:
        status, found = self.json("GET", path)
        assert status == 200, found
        return found

    def device(self, name: str) -> Any:
        return self.get(f"/api/v1/devices/{name}")

    def events(self, **query: str) -> list[dict[str, Any]]:
        """Return every event that a query finds, in the order of arrival."""
        out: list[dict[str, Any]] = []
        after, more = "0", True
        filters = "".join(f"&{name}={value}" for name, value in query.items())
        while more:
            page = self.get(f"/api/v1/events?limit=1000&after={after}{filters}")
            out += page["events"]
            after, more = page["next"], page["more"]
        return out

    def metric(self, name: str) -> int:
        text = self.request("GET", "/metrics")[1].decode()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))

    @contextlib.contextmanager
    def stream(self, path: str, last_id: str = "") -> Iterator[Iterator[tuple[str, str]]]:
        """Open server-sent events; gives an iterator of (id, data)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=30)
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        try:
            yield _messages(response)
        finally:
            response.close()
            connection.close()


def _messages(response: http.client.HTTPResponse) -> Iterator[tuple[str, str]]:
    number = ""
    for line in response:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name == "id":
            number = value
        elif name == "data":
            yield number, value


@dataclass
class FakeDevice:
    """A device's stream, as an agent would open it."""

    relay: Relay
    name: str = "dev-1"
    fleet: str = "default"
    revision: int = 0
    journals: tuple[str, ...] = ()
    boot: str = "boot-1"
    messages: list[relay_pb2.RelayMessage] = field(default_factory=list)
    error: grpc.RpcError | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def open(self, *, hello: bool = True) -> FakeDevice:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 << 20)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.relay.grpc}", options=options)
        self.outbox: queue.Queue[device_pb2.DeviceMessage | None] = queue.Queue()
        self.messages, self.error, self.done = [], None, threading.Event()
        self.call = FleetStub(self.channel).Connect(iter(self.outbox.get, None))
        threading.Thread(target=self._listen, args=(self.call, self.done), daemon=True).start()
        if hello:
            self.outbox.put(self.hello())
            eventually(lambda: self.messages or self.done.is_set(), "the relay answers a hello")
        return self

    def _listen(self, call: Any, done: threading.Event) -> None:
        try:
            for message in call:
                self.messages.append(message)
        except grpc.RpcError as error:
            self.error = error
        done.set()

    def hello(self) -> device_pb2.DeviceMessage:
        journals = [device_pb2.JournalState(journal_id=name, pipeline="watch") for name in self.journals]
        return device_pb2.DeviceMessage(
            hello=device_pb2.Hello(
                device=self.name, fleet=self.fleet, agent_version="0.1", boot_id=self.boot, machine="x86_64",
                revision=self.revision, journals=journals,
            )
        )  # fmt: skip

    def send(self, message: device_pb2.DeviceMessage) -> None:
        self.outbox.put(message)

    def batch(
        self, first: int, data: bytes, count: int, journal: str = "j1", pipeline: str = "watch"
    ) -> None:
        self.send(
            device_pb2.DeviceMessage(
                events=device_pb2.EventBatch(
                    journal_id=journal, pipeline=pipeline, first=first, count=count, block=data
                )
            )
        )

    def block(
        self, first: int, count: int = 1, journal: str = "j1", pipeline: str = "watch", **more: Any
    ) -> None:
        self.batch(first, block(first, count, **more), count, journal, pipeline)

    def heartbeat(self, **values: Any) -> None:
        self.send(device_pb2.DeviceMessage(heartbeat=device_pb2.Heartbeat(**values)))

    def status(self, **values: Any) -> None:
        self.send(device_pb2.DeviceMessage(status=device_pb2.DeploymentStatus(**values)))

    # what was heard

    @property
    def welcome(self) -> relay_pb2.Welcome:
        assert self.messages, self.refusal
        assert self.messages[0].WhichOneof("message") == "welcome"
        return self.messages[0].welcome

    @property
    def welcomed(self) -> dict[str, int]:
        return {ack.journal_id: ack.sequence for ack in self.welcome.acked}

    @property
    def desired(self) -> list[relay_pb2.DesiredState]:
        return [m.desired for m in self.messages if m.WhichOneof("message") == "desired"]

    @property
    def acked(self) -> dict[str, int]:
        out: dict[str, int] = {}
        for message in self.messages:
            if message.WhichOneof("message") == "ack":
                out[message.ack.journal_id] = message.ack.sequence
        return out

    def await_ack(self, sequence: int, journal: str = "j1") -> None:
        eventually(lambda: self.acked.get(journal, 0) >= sequence, f"{sequence} of {journal} acknowledged")

    @property
    def refusal(self) -> tuple[str, str]:
        """Why the stream ended: the code's name and the words."""
        assert self.done.wait(30)
        assert self.error is not None
        return self.error.code().name, self.error.details() or ""  # type: ignore[attr-defined]

    def fetch(self, digest: str, offset: int = 0) -> bytes:
        request = service_pb2.BlobRequest(digest=digest, offset=offset)
        return b"".join(chunk.data for chunk in BlobsStub(self.channel).Fetch(request))

    def close(self) -> None:
        self.outbox.put(None)
        self.call.cancel()
        self.done.wait(10)
        self.channel.close()


def block(first: int, count: int = 1, **more: Any) -> bytes:
    """Return a block of events whose value is their sequence number."""
    numbers = range(first, first + count)
    values: dict[str, Any] = {
        "output": "alarm", "type": "watch.alarm", "severity": "info", "count": count, "clock": CLOCK,
        "t": struct.pack(f"<{count}q", *(n * 1_000_000_000 for n in numbers)),
        "data": (Column("value", "float64", (), struct.pack(f"<{count}d", *numbers)),),
    }  # fmt: skip
    return Block(**values | more).encode()


def sequences(events: list[dict[str, Any]]) -> list[int]:
    return [int(event["sequence"]) for event in events]
