"""A stand-in for the relay that does what a real one should not: keep silent, forget, know too much."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc

from edgeflow_proto.bundle import sha256
from edgeflow_proto.v1 import service_pb2, service_pb2_grpc
from edgeflow_proto.v1.device_pb2 import DeploymentStatus, DeviceMessage, EventBatch, Heartbeat, Hello
from edgeflow_proto.v1.relay_pb2 import DesiredState, EventAck, RelayMessage, Welcome

CHUNK = 1000


@dataclass
class StandInRelay(service_pb2_grpc.FleetServicer, service_pb2_grpc.BlobsServicer):  # type: ignore[misc]
    """Speaks the wire protocol on a port that stays the same over `stop` and `start`."""

    silent: bool = False  # never welcomes
    forgetful: bool = False  # never acknowledges
    acked: dict[str, int] = field(default_factory=dict)
    desired: DesiredState | None = None
    blobs: dict[str, bytes] = field(default_factory=dict)
    cut_after: int = 0  # end a blob's stream after so many chunks
    hellos: list[Hello] = field(default_factory=list)
    heartbeats: list[Heartbeat] = field(default_factory=list)
    batches: list[EventBatch] = field(default_factory=list)
    statuses: list[DeploymentStatus] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    port: int = 0
    server: grpc.Server | None = None

    def start(self) -> StandInRelay:
        self.server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_FleetServicer_to_server(self, self.server)
        service_pb2_grpc.add_BlobsServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        self.server.start()
        return self

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop(0).wait(10)
            self.server = None

    def add(self, data: bytes) -> str:
        digest = sha256(data)
        self.blobs[digest] = data
        return digest

    @property
    def received(self) -> list[tuple[str, int]]:
        """Every event as often as it came, in order: pipeline and sequence number."""
        return [(b.pipeline, b.first + i) for b in self.batches for i in range(b.count)]

    # the service

    def Connect(self, requests: Iterator[DeviceMessage], context: Any) -> Iterator[RelayMessage]:
        self.hellos.append(next(requests).hello)
        out: queue.Queue[RelayMessage] = queue.Queue()
        threading.Thread(target=self._take, args=(requests, out), daemon=True).start()
        if not self.silent:
            acked = [EventAck(journal_id=journal, sequence=last) for journal, last in self.acked.items()]
            yield RelayMessage(welcome=Welcome(heartbeat_interval_ms=200, acked=acked))
            if self.desired is not None:
                yield RelayMessage(desired=self.desired)
        while context.is_active():
            try:
                yield out.get(timeout=0.05)
            except queue.Empty:
                continue

    def _take(self, requests: Iterator[DeviceMessage], out: queue.Queue[RelayMessage]) -> None:
        try:
            for message in requests:
                self._one(message, out)
        except Exception:
            pass

    def _one(self, message: DeviceMessage, out: queue.Queue[RelayMessage]) -> None:
        kind = message.WhichOneof("message")
        if kind == "heartbeat":
            self.heartbeats.append(message.heartbeat)
        elif kind == "status":
            self.statuses.append(message.status)
        elif kind == "events":
            batch = message.events
            self.batches.append(batch)
            if not self.forgetful:
                last = batch.first + batch.count - 1
                self.acked[batch.journal_id] = max(last, self.acked.get(batch.journal_id, 0))
                out.put(RelayMessage(ack=EventAck(journal_id=batch.journal_id, sequence=last)))

    def Fetch(self, request: Any, context: Any) -> Iterator[service_pb2.BlobChunk]:
        self.offsets.append(request.offset)
        data = self.blobs.get(request.digest)
        if data is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such blob")
        for index, start in enumerate(range(request.offset, len(data or b""), CHUNK)):
            if self.cut_after and index >= self.cut_after:
                context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            yield service_pb2.BlobChunk(data=(data or b"")[start : start + CHUNK])
