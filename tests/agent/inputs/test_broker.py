"""The connection to a broker against servers that behave badly; io's own tests have a real broker."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from edgeflow_agent import config
from edgeflow_agent.core import board
from edgeflow_agent.core.broker import Message, Target
from edgeflow_agent.core.messages import BrokerStatus
from edgeflow_agent.core.reactor import Reactor
from edgeflow_agent.inputs import broker as module
from edgeflow_agent.inputs.broker import MAX_IN_FLIGHT, PahoBroker

ACCEPTED = b"\x20\x02\x00\x00"


class Server:
    """Accepts connections, answers CONNECT with `answer`, refuses the first filter asked for, listens."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.connections = 0
        self.heard = b""
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self.server.accept()
                with peer:
                    self.connections += 1
                    peer.sendall(self.answer)
                    while data := peer.recv(65536):
                        self.heard += data
                        if (at := data.find(b"\x82")) >= 0:
                            peer.sendall(b"\x90\x04" + data[at + 2 : at + 4] + b"\x80\x01")

    def close(self) -> None:
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.thread.join(10)


@pytest.fixture
def silent() -> Iterator[Server]:
    server = Server(b"")
    yield server
    server.close()


@pytest.fixture
def deaf() -> Iterator[Server]:
    server = Server(ACCEPTED)
    yield server
    server.close()


class Io:
    """A loop with one connection."""

    def __init__(self, port: int) -> None:
        self.reactor = Reactor()
        self.told: list[BrokerStatus] = []
        self.slot = board.Board(board.create()).slot(1)
        settings = config.Broker(port=port)
        self.broker = PahoBroker(
            "local", settings, "edgeflow-test", self.reactor, self.slot, self.told.append
        )
        self.broker.start()

    def until(self, condition: Callable[[], bool], patience_s: float = 20.0) -> None:
        deadline = time.monotonic() + patience_s

        def turn() -> None:
            self.broker.turn(time.monotonic_ns())
            if condition() or time.monotonic() > deadline:
                self.reactor.stop()

        self.reactor.run(turn, 0.02)
        assert condition()


def test_a_broker_that_does_not_answer_is_left_and_tried_again(
    silent: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HANDSHAKE_S", 0.2)
    io = Io(silent.port)
    io.until(lambda: silent.connections >= 2)
    assert io.broker.session == 0
    io.broker.stop()


def test_a_connection_that_has_died_is_found_by_its_silence(
    deaf: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEEPALIVE_S", 1)
    monkeypatch.setattr(module, "TICK_S", 0.1)
    io = Io(deaf.port)
    io.until(lambda: io.broker.session == 1)
    io.until(lambda: io.broker.session == 2)
    assert b"\xc0\x00" in deaf.heard  # it was asked whether it is there
    assert sum(value for key, value in io.slot.read().items() if key.startswith("mqtt_reconnects")) == 1
    io.broker.stop()


def test_what_a_broker_does_not_acknowledge_is_bounded_and_never_done(deaf: Server) -> None:
    io = Io(deaf.port)
    io.until(lambda: io.broker.session == 1)
    done: list[int] = []
    taken = [io.broker.publish(Message("t", b"x", 1, False), lambda: done.append(1)) for _ in range(100)]
    assert sum(taken) == MAX_IN_FLIGHT
    assert done == []
    assert io.broker.publish(Message("t", b"x", 0, False), lambda: done.append(0)) is False
    io.broker.stop()


def test_what_is_not_a_topic_is_refused(deaf: Server) -> None:
    io = Io(deaf.port)
    io.until(lambda: io.broker.session == 1)
    with pytest.raises(ValueError, match="wildcard"):
        io.broker.publish(Message("a/+", b"", 0, False), lambda: None)
    io.broker.stop()


class Listener:
    """A subscriber that notes what it is told."""

    qos = 1

    def __init__(self, topic_filter: str) -> None:
        self.topic_filter = topic_filter
        self.told: list[str] = []

    def target(self, topic: str) -> Target | None:
        return None

    def too_large(self, topic: str, size: int) -> None: ...

    def redelivered(self) -> None: ...

    def refused(self, reason: str) -> None:
        self.told.append(reason)

    def reconnected(self, kept: bool) -> None: ...

    def failed(self, error: Exception) -> None: ...


def test_a_subscription_that_is_refused_is_told_to_those_who_wanted_it(deaf: Server) -> None:
    io = Io(deaf.port)
    forbidden, allowed = Listener("secret/#"), Listener("open/a")
    io.broker.subscribe(forbidden, 1000)
    io.broker.subscribe(allowed, 1000)
    io.until(lambda: bool(forbidden.told or allowed.told))
    refused, other = (forbidden, allowed) if forbidden.told else (allowed, forbidden)
    assert refused.told == [f"broker local does not allow subscribing to {refused.topic_filter}"]
    assert other.told == []
    io.broker.stop()
