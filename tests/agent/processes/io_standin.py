"""The test plays `agentd`, `link` and the workers for a real `io` process, and sensors and actuators."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from paho.mqtt import client as mqtt

from edgeflow_agent.core import board as boards
from edgeflow_agent.core import messages, shm, snapshot, spawn
from edgeflow_agent.core.channel import Channel, Closed
from edgeflow_agent.core.layout import RingSpec
from edgeflow_agent.core.logs import Keeping
from edgeflow_agent.core.ring import KEY_MASK, RingReader
from edgeflow_agent.core.snapshot import Snapshots
from edgeflow_proto.bundle import MANIFEST_FILE, PIPELINE_FILE, make_manifest
from edgeflow_proto.pipeline.check import graph_of
from edgeflow_proto.pipeline.graph import Graph
from tests.support.processes import eventually

Rows = npt.NDArray[Any]
T = TypeVar("T")


class _NoFiles:
    def read(self, name: str) -> bytes | None:
        return None


@dataclass
class Ring:
    """One ring with the test as its reader; `taken` is what was read so far."""

    spec: RingSpec
    memory: int
    reader: RingReader
    values: list[Rows] = field(default_factory=list)
    t: list[Rows] = field(default_factory=list)
    key: list[Rows] = field(default_factory=list)
    lost: int = 0

    def read(self) -> int:
        """Take what is there; return how many rows were taken in all."""
        self.reader.poll()
        self.lost += self.reader.lost()
        while (count := min(self.reader.head - self.reader.position, self.spec.margin)) > 0:
            batch = self.reader.view(count)
            self.values.append(batch.values.copy())
            self.t.append(batch.t.copy())
            self.key.append(batch.key.copy())
            self.reader.position += count
            self.reader.release(self.reader.position)
        return sum(map(len, self.t))

    def rows(self) -> Rows:
        return np.concatenate(self.values) if self.values else np.empty((0, *self.spec.shape))

    def times(self) -> Rows:
        return np.concatenate(self.t) if self.t else np.empty(0, np.int64)

    def gaps(self) -> list[tuple[int, int]]:
        """Return the rows that are marked, each with why."""
        marks = np.concatenate(self.key) >> 28 if self.key else np.empty(0, np.uint32)
        return [(int(row), int(marks[row])) for row in np.flatnonzero(marks)]

    def names(self) -> list[str]:
        return [self.reader.key_name(int(key) & KEY_MASK) for key in np.concatenate(self.key)]


@dataclass
class Pipeline:
    """What `agentd` holds for one pipeline, and the worker's end of its effects socket."""

    name: str
    folder: Path
    graph: Graph
    rings: dict[str, Ring]
    snapshots: int
    effects: tuple[socket.socket, socket.socket]

    def send(self, output: str, *rows: tuple[int, int, str, dict[str, Any]]) -> None:
        """Ask for an effect, as a worker does: rows of number, time, key and columns."""
        mark = [*self.graph.outputs].index(output)
        effect = messages.Effect(output, mark, tuple(messages.EffectRow(*row) for row in rows))
        channel = Channel(self.effects[0], messages.Effect)
        eventually(lambda: channel.send(effect), "io takes an effect")

    @property
    def marks(self) -> list[int]:
        return list(Snapshots(self.snapshots).marks())

    def close(self) -> None:
        for ring in self.rings.values():
            ring.reader.close()
        shm.close(self.snapshots, *(ring.memory for ring in self.rings.values()))
        for sock in self.effects:
            sock.close()


class AgentdStandIn:
    """Starts `io` as `agentd` does, and hears what it says."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.settings = folder / "device.yaml"
        self.settings.write_text(json.dumps({"device": "dev1", **settings}))
        self.files = folder / "files"
        self.board_fd = boards.create()
        self.slot = boards.Board(self.board_fd).slot(1)
        self.posts = spawn.pair()
        self.link = Channel(self.posts[1], messages.Posted)
        self.pipelines: dict[str, Pipeline] = {}
        self.ever: list[Pipeline] = []
        self.heard: list[object] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: Channel | None = None

    @property
    def log(self) -> str:
        return (self.folder / "io.log").read_text()

    def start(self) -> AgentdStandIn:
        """Start `io`, and attach every pipeline to it."""
        ours, theirs = spawn.pair()
        environment = {**os.environ, spawn.CONTROL_ENV: f"{theirs.fileno()}:{os.getpid()}"}
        with (self.folder / "io.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "edgeflow_agent.processes.io"], env=environment,
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip
        theirs.close()
        self.channel = Channel(ours, messages.FromIo)
        logs = Keeping(str(self.folder / "logs"), 4 << 20, 1)
        start = messages.StartIo(1, str(self.settings), str(self.files), logs)
        self.say(start, self.board_fd, self.posts[0].fileno())
        for pipeline in self.pipelines.values():
            self._attach(pipeline)
        return self

    def say(self, message: messages.Message, *fds: int) -> None:
        assert self.channel is not None
        assert self.channel.send(message, fds)

    def deploy(self, text: str, **files: bytes) -> Pipeline:
        """Make a bundle and what its pipeline shares, and attach it when `io` runs."""
        graph = graph_of(text, PIPELINE_FILE, _NoFiles(), {})
        folder = self.folder / "bundles" / graph.name
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            PIPELINE_FILE: text.encode(),
            **{name.replace("__", "."): data for name, data in files.items()},
        }
        for name, data in content.items():
            (folder / name).write_bytes(data)
        (folder / MANIFEST_FILE).write_bytes(make_manifest(graph.name, content, {}).encode())
        rings = {name: self._ring(graph, name) for name in graph.inputs}
        pipeline = Pipeline(graph.name, folder, graph, rings, snapshot.create(), spawn.pair())
        self.pipelines[graph.name] = pipeline
        self.ever.append(pipeline)
        if self.process is not None:
            self._attach(pipeline)
        return pipeline

    def _ring(self, graph: Graph, name: str) -> Ring:
        node = graph.inputs[name]
        spec = RingSpec(
            graph.name, name, node.intake.row_shape, node.intake.dtype, graph.capacity(name), 1,
            node.intake.max_keys if node.intake.key else 1, node.options.lossless,
        )  # fmt: skip
        memory = shm.create("ring", spec.size)
        return Ring(spec, memory, RingReader(memory, spec, node.intake.columns))

    def _attach(self, pipeline: Pipeline) -> None:
        fds = [pipeline.effects[1].fileno(), pipeline.snapshots]
        for ring in pipeline.rings.values():
            ready, credit = shm.eventfd(), shm.eventfd()
            fds += [ring.memory, ready, credit]
            ring.reader.bind(ready, credit)
            ring.reader.release(ring.reader.position)
        specs = tuple(ring.spec for ring in pipeline.rings.values())
        self.say(messages.Attach(pipeline.name, str(pipeline.folder), {}, specs), *fds)

    def rebind(self, pipeline: str, name: str) -> None:
        """Play a new worker: bind the reader anew, at the row it had come to."""
        ready, credit = shm.eventfd(), shm.eventfd()
        self.pipelines[pipeline].rings[name].reader.bind(ready, credit)
        self.say(messages.BindWriter(pipeline, name), ready, credit)

    def detach(self, pipeline: str) -> None:
        del self.pipelines[pipeline]
        self.say(messages.Detach(pipeline))

    def post(self, pipeline: str, name: str, decoder: str, body: bytes) -> messages.Posted:
        """Post as `link` does, a large body in a memfd; return the answer."""
        fds: tuple[int, ...] = ()
        message = messages.Post(1, pipeline, name, decoder, body, len(body))
        if len(body) > 1000:
            memory = shm.create("post", len(body))
            os.pwrite(memory, body, 0)
            fds, message = (memory,), messages.Post(1, pipeline, name, decoder, b"", len(body))
        assert self.link.send(message, fds)
        shm.close(*fds)
        answer, _ = eventually(self.link.receive, "io answers a post")
        assert isinstance(answer, messages.Posted)
        return answer

    def hear(self, *kinds: type[T]) -> list[T]:
        """Return all of these kinds that `io` has said so far."""
        with contextlib.suppress(Closed):
            while self.channel is not None and (received := self.channel.receive()) is not None:
                self.heard.append(received[0])
        return [message for message in self.heard if isinstance(message, kinds)]

    def count(self, name: str, **labels: str) -> int:
        """Add up the counters of that name that carry `labels`."""
        pairs = [f'{label}="{value}"' for label, value in labels.items()]
        found = self.slot.read().items()
        return sum(
            value for key, value in found if key.startswith(name) and all(pair in key for pair in pairs)
        )

    def connected(self, broker: str = "local") -> bool:
        return self.count("mqtt_connected", broker=broker) == 1

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self._close_channel()

    def stop(self) -> int:
        """Ask `io` to end as `agentd` does; return its exit code."""
        assert self.process is not None
        self.say(messages.Stop())
        code = self.process.wait(20)
        self.hear()
        self._close_channel()
        return code

    def close(self) -> None:
        if self.process is not None:
            self.kill()
        for sock in self.posts:
            sock.close()
        for pipeline in self.ever:
            pipeline.close()
        shm.close(self.board_fd)

    def _close_channel(self) -> None:
        self.process = None
        if self.channel is not None:
            self.channel.close()
            self.channel = None


class Client:
    """A sensor or an actuator: an MQTT client in a thread of its own."""

    def __init__(self, port: int, *topics: str) -> None:
        self.heard: list[mqtt.MQTTMessage] = []
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self.client.max_queued_messages_set(0)
        self.client.on_message = lambda client, data, message: self.heard.append(message)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        if topics:
            ready = threading.Event()
            self.client.on_subscribe = lambda *_: ready.set()
            self.client.subscribe([(topic, 1) for topic in topics])
            assert ready.wait(10)

    def send(self, topic: str, payload: Any, qos: int = 1, retain: bool = False) -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.client.publish(topic, data, qos, retain).wait_for_publish(30)

    def payloads(self, topic: str) -> list[Any]:
        return [json.loads(message.payload) for message in self.heard if message.topic == topic]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def ready(agentd: AgentdStandIn) -> None:
    eventually(agentd.connected, "io is connected")


def read(ring: Ring, count: int) -> None:
    eventually(lambda: ring.read() >= count, f"{count} rows in the ring")


def document(inputs: str, outputs: str = "  o: {from: SOURCE, event: t}", name: str = "watch") -> str:
    """Return a pipeline whose outputs read the first of `inputs`."""
    source = inputs.strip().partition(":")[0]
    names = [line.strip().partition(":")[0] for line in inputs.splitlines() if line.strip()]
    rest = "\n".join(f"  unused_{other}: {{from: {other}, event: t}}" for other in names[1:])
    outputs = outputs.replace("SOURCE", source)
    return f"edgeflow: 1\nname: {name}\ninputs:\n{inputs}\noutputs:\n{outputs}\n{rest}\n"
