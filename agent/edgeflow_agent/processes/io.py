"""`io`: all conversation with sensors and actuators, in one thread.

Being one thread, it is the one writer of every ring and needs no locks. A turn of the loop takes what
has come on every socket, up to a bound each, then lets readers see the new rows, and only then acknowledges
messages and acts.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec
from setproctitle import setproctitle

from edgeflow_agent import config
from edgeflow_agent.core import footprint, logs, messages, shm
from edgeflow_agent.core.board import Board
from edgeflow_agent.core.broker import Broker
from edgeflow_agent.core.channel import Channel, Closed
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.reactor import Reactor
from edgeflow_agent.core.spawn import inherited
from edgeflow_agent.deploy.bundle import Bundle
from edgeflow_agent.flow.served import Effects, House, Served, ServedInput, writer
from edgeflow_agent.inputs.base import inputs
from edgeflow_agent.inputs.decode.base import DecodeError
from edgeflow_agent.inputs.http import HttpInput
from edgeflow_agent.outputs.base import outputs
from edgeflow_proto.pipeline.graph import Graph

if TYPE_CHECKING:
    from edgeflow_agent.inputs.broker import PahoBroker

log = logging.getLogger("edgeflow.io")
TURN_S = 0.25
SLOW_NS = 10**9
DRAIN_S = 1.0  # how long a stop waits for what is on its way
POSTS_PER_TURN = 64
MAX_ANSWERS = 1000


class Io:
    """The process."""

    def __init__(self, channel: Channel, start: messages.StartIo, fds: list[int]) -> None:
        """`fds` are the board and the posts socket; raises Rejected or OSError for the settings file."""
        self._settings = config.read(Path(start.settings) if start.settings else None)
        self._channel = channel
        self._reactor = Reactor()
        self._slot = Board(fds[0]).slot(start.slot)
        self._posts = Channel(socket.socket(fileno=fds[1]), messages.Post)
        self._answers: deque[messages.Posted] = deque()
        self._house = House(
            self._reactor, self._slot, Path(start.files), self._broker, self._endpoint, channel.send
        )
        self._served: dict[str, Served] = {}
        self._brokers: dict[str, PahoBroker] = {}
        self._slow_at = 0

    def run(self) -> None:
        """Serve until told to stop, or until `agentd` is gone."""
        self._reactor.watch(self._channel.fileno(), self._hear)
        self._reactor.watch(self._posts.fileno(), self._receive_posts)
        self._hear()  # pipelines come before messages do: what a kept session sends has takers
        for name, settings in self._settings.brokers.items():
            if settings.will is not None:
                self._broker(name)
        self._reactor.after(footprint.SETTLED_S, footprint.trim)
        self._reactor.run(self._turn, TURN_S)
        self._drain()
        for served in self._served.values():
            served.close()
        for broker in self._brokers.values():
            broker.stop()

    def _turn(self) -> None:
        now = boottime_ns()
        self._slot.beat()
        for served in self._served.values():
            served.turn(now)
        for broker in self._brokers.values():
            broker.turn(now)
        while self._answers and self._posts.send(self._answers[0]):
            self._answers.popleft()
        if now - self._slow_at >= SLOW_NS:
            self._slow_at = now
            for served in self._served.values():
                served.slow_turn(now)

    def _drain(self) -> None:
        """Take what has come already, and let outputs finish, for a short while."""
        deadline = time.monotonic() + DRAIN_S

        def turn() -> None:
            self._turn()
            busy = [served.effects.receive() or not served.effects.idle for served in self._served.values()]
            if not any(busy) or time.monotonic() > deadline:
                self._reactor.stop()

        self._reactor.run(turn, 0.01)

    # what agentd says

    def _hear(self) -> None:
        try:
            while (received := self._channel.receive()) is not None:
                self._heard(*received)
        except Closed:
            self._reactor.stop()

    def _heard(self, message: object, fds: list[int]) -> None:
        if isinstance(message, messages.Attach):
            self._attach(message, fds)
        elif isinstance(message, messages.BindWriter):
            served = self._served.get(message.pipeline)
            if served is None or message.input not in served.inputs:
                shm.close(*fds)
            else:
                served.inputs[message.input].bind(fds[0], fds[1])
        elif isinstance(message, messages.Detach):
            self._detach(message.pipeline)
        elif isinstance(message, messages.Stop):
            self._reactor.stop()

    def _attach(self, message: messages.Attach, fds: list[int]) -> None:
        self._detach(message.pipeline)
        try:
            graph = Bundle(Path(message.folder), message.params).graph
        except (ValueError, OSError) as error:  # the other pipelines are served
            shm.close(*fds)
            reason = f"{type(error).__name__}: {error}"[:1000]
            extra = {"pipeline": message.pipeline}
            log.error("%s cannot be served: %s", message.pipeline, reason, extra=extra)
            for spec in message.rings:
                self._channel.send(messages.InputFailed(message.pipeline, spec.input, reason))
            return
        self._served[message.pipeline] = self._serve(message, graph, fds)

    def _serve(self, message: messages.Attach, graph: Graph, fds: list[int]) -> Served:
        folder = Path(message.folder)
        makes = inputs(node.kind for node in graph.inputs.values())
        found: dict[str, ServedInput] = {}
        for spec, memory, ready, credit in zip(message.rings, fds[2::3], fds[3::3], fds[4::3], strict=True):
            node = graph.inputs[spec.input]
            served = ServedInput(self._house, writer(memory, spec), node, makes.get(node.kind), folder)
            served.bind(ready, credit)
            found[spec.input] = served
        ends = outputs(node.kind for node in graph.outputs.values() if node.options.effect)
        effects = Effects(self._house, graph, (fds[0], fds[1]), ends)
        for served in found.values():
            served.open()
        return Served(found, effects)

    def _detach(self, pipeline: str) -> None:
        served = self._served.pop(pipeline, None)
        if served is not None:
            served.close()

    # brokers

    def _broker(self, name: str) -> Broker:
        """Return a broker of the settings, connecting to it at its first use; raises LookupError."""
        if name not in self._brokers:
            if name not in self._settings.brokers:
                known = ", ".join(self._settings.brokers)
                raise LookupError(f"no broker '{name}' in the device's settings (known: {known})")
            from edgeflow_agent.inputs.broker import PahoBroker

            broker = PahoBroker(
                name,
                self._settings.brokers[name],
                f"edgeflow-{self._settings.device}",
                self._reactor,
                self._slot,
                self._channel.send,
            )
            broker.start()
            self._brokers[name] = broker
        return self._brokers[name]

    def _endpoint(self, name: str) -> config.Endpoint:
        """Return an endpoint of the settings; raises LookupError."""
        if name not in self._settings.endpoints:
            known = ", ".join(self._settings.endpoints) or "none"
            raise LookupError(f"no endpoint '{name}' in the device's settings (known: {known})")
        return self._settings.endpoints[name]

    # posts

    def _receive_posts(self) -> None:
        for _ in range(POSTS_PER_TURN):
            if len(self._answers) >= MAX_ANSWERS:
                return
            try:
                received = self._posts.receive()
            except Closed:
                self._reactor.forget(self._posts.fileno())
                return
            except msgspec.MsgspecError as error:
                log.error("not a post: %s", error)
                continue
            if received is None:
                return
            message, fds = received
            assert isinstance(message, messages.Post)
            self._answers.append(self._post(message, fds))

    def _post(self, post: messages.Post, fds: list[int]) -> messages.Posted:
        try:
            source = self._source(post)
            source.check_size(post.size)
            body = os.pread(fds[0], post.size, 0) if fds else post.body
            return messages.Posted(post.ticket, source.post(body, post.decoder), 0)
        except DecodeError as error:
            return messages.Posted(post.ticket, 0, 1, str(error)[:1000])
        except OSError as error:
            return messages.Posted(post.ticket, 0, 1, f"io: {error}")
        finally:
            shm.close(*fds)

    def _source(self, post: messages.Post) -> HttpInput:
        served = self._served.get(post.pipeline)
        found = served.inputs.get(post.input) if served is not None else None
        if found is None or not isinstance(found.source, HttpInput):
            raise DecodeError(
                "unknown_input", f"pipeline '{post.pipeline}' has no http input '{post.input}' now"
            )
        return found.source


def main() -> int:
    """Run the process that `agentd` started; returns its exit code."""
    channel = Channel(inherited(), messages.ToIo)
    setproctitle("edgeflow io")
    message, fds = channel.wait()
    if not isinstance(message, messages.StartIo):
        return 2
    logs.keep(message.logs, "io", Board(fds[0]).slot(message.slot))
    Io(channel, message, fds).run()
    return 0


def live() -> NoReturn:
    """Be that process, to its end."""
    logs.begin()
    code = main()
    logging.shutdown()
    os._exit(code)  # a thread may still be trying to connect


if __name__ == "__main__":
    live()
