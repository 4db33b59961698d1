"""The mirror against a real mosquitto: nothing is missed, whoever dies; repeats have the same id."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.relay.conftest import Connect
from tests.relay.harness import Relay
from tests.support.mosquitto import Mosquitto
from tests.support.processes import eventually

EVENTS = "edgeflow/plant-7/+/events/#"


class Listener:
    """A subscriber whose session outlives its connection."""

    def __init__(self, port: int, topic: str) -> None:
        self.messages: list[MQTTMessage] = []
        self._ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, f"listener-{topic}", protocol=MQTTv5)
        self._client.on_message = lambda _c, _u, message: self.messages.append(message)
        self._client.on_connect = lambda *_: self._client.subscribe(topic, 1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", port, properties=session)
        self._client.loop_start()
        assert self._ready.wait(20)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def ids(self) -> list[str]:
        return [json.loads(message.payload)["id"] for message in self.messages]


@pytest.fixture
def broker(mosquitto: Path, tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(mosquitto, tmp_path / "broker").start()
    yield broker
    broker.stop()


@pytest.fixture
def mirrored(own_relay: Relay, broker: Mosquitto) -> Relay:
    own_relay.extra = ("--fleet", "plant-7", "--broker", f"127.0.0.1:{broker.port}")
    own_relay.start()
    eventually(lambda: own_relay.metric("edgeflow_relay_mirror_connected"), "the mirror is connected")
    return own_relay


def test_events_and_states_are_published(mirrored: Relay, broker: Mosquitto, connect: Connect) -> None:
    events, states = Listener(broker.port, EVENTS), Listener(broker.port, "edgeflow/+/+/status")
    device = connect(mirrored, "press-3", fleet="plant-7")
    device.block(1, 3)
    device.block(1, 1, journal="own", pipeline="_agent", output="a/b+c#")
    device.await_ack(3)
    eventually(lambda: len(events.messages) == 4, "the events are published")
    by_topic: dict[str, list[Any]] = {}
    for message in events.messages:
        by_topic.setdefault(message.topic, []).append(json.loads(message.payload))
        assert message.qos == 1
        assert message.properties is not None
        assert message.properties.ContentType == "application/cloudevents+json"  # type: ignore[attr-defined]
    assert sorted(by_topic) == [
        "edgeflow/plant-7/press-3/events/_agent/a_b_c_",
        "edgeflow/plant-7/press-3/events/watch/alarm",
    ]
    assert by_topic["edgeflow/plant-7/press-3/events/watch/alarm"] == mirrored.events(pipeline="watch")

    device.close()
    eventually(lambda: [state(m)["status"] for m in states.messages][-1:] == ["offline"], "it is offline")
    assert [state(message)["status"] for message in states.messages] == ["online", "offline"]
    later = Listener(broker.port, "edgeflow/plant-7/press-3/status")
    eventually(lambda: later.messages, "the state is retained")
    assert (state(later.messages[0])["device"], later.messages[0].retain) == ("press-3", True)
    for listener in (events, states, later):
        listener.close()


def state(message: MQTTMessage) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(message.payload)
    return found


def test_nothing_is_missed_when_the_relay_is_killed(
    mirrored: Relay, broker: Mosquitto, connect: Connect
) -> None:
    listener = Listener(broker.port, EVENTS)
    for start in range(1, 4001, 1000):
        device = connect(mirrored, "killed", fleet="plant-7")
        for first in range(start, start + 1000, 50):
            device.block(first, 50)
        device.await_ack(start + 499)
        mirrored.kill()
        mirrored.start()
    device = connect(mirrored, "killed", fleet="plant-7")
    device.block(4001)
    device.await_ack(4001)
    stored = [event["id"] for event in mirrored.events()]
    eventually(lambda: set(listener.ids) == set(stored), "all is published")
    assert list(dict.fromkeys(listener.ids)) == stored, "first deliveries are in order"
    listener.close()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_nothing_is_missed_when_the_broker_is_away(
    mirrored: Relay, broker: Mosquitto, connect: Connect, end: str
) -> None:
    device = connect(mirrored, "away", fleet="plant-7")
    device.block(1, 100)
    eventually(lambda: mirrored.metric("edgeflow_relay_mirror_published_total") == 100, "100 are published")
    broker.stop() if end == "stop" else broker.kill()
    eventually(lambda: not mirrored.metric("edgeflow_relay_mirror_connected"), "the loss is noticed")
    words = f"mirror 127.0.0.1:{broker.port}: "
    told = (words + "the broker went away", words + "Server shutting down", words + "Connection refused")
    assert mirrored.get("/readyz")["degraded"][0] in told
    for first in range(101, 2101, 100):
        device.block(first, 100)
    device.await_ack(2100)
    eventually(lambda: mirrored.metric("edgeflow_relay_mirror_backlog") >= 0, "it answers")
    broker.start()
    listener = Listener(broker.port, EVENTS)
    states = Listener(broker.port, "edgeflow/plant-7/away/status")
    eventually(lambda: mirrored.metric("edgeflow_relay_mirror_published_total") >= 2100, "all are published")
    eventually(lambda: mirrored.metric("edgeflow_relay_mirror_backlog") == 0, "nothing waits")
    assert set(listener.ids) <= {event["id"] for event in mirrored.events()}
    eventually(lambda: states.messages, "a broker that forgot is told who is there")
    assert state(states.messages[-1])["status"] == "online"
    listener.close()
    states.close()


def test_what_was_before_the_first_mirror_is_left_alone(
    own_relay: Relay, broker: Mosquitto, connect: Connect
) -> None:
    own_relay.extra = ("--fleet", "plant-7")
    own_relay.start()
    device = connect(own_relay, "before", fleet="plant-7")
    device.block(1, 10)
    device.await_ack(10)
    own_relay.stop()
    own_relay.extra += ("--broker", f"127.0.0.1:{broker.port}")
    listener = Listener(broker.port, EVENTS)
    own_relay.start()
    eventually(lambda: own_relay.metric("edgeflow_relay_mirror_connected"), "the mirror is connected")
    device = connect(own_relay, "before", fleet="plant-7")
    device.block(11)
    eventually(lambda: listener.ids == ["j1-11"], "what is new is published")
    listener.close()


def test_what_the_broker_takes_none_of_is_skipped_and_counted(
    own_relay: Relay, mosquitto: Path, tmp_path: Path, connect: Connect
) -> None:
    broker = Mosquitto(mosquitto, tmp_path / "broker", "max_packet_size 5000\n").start()
    own_relay.extra = ("--fleet", "plant-7", "--broker", f"127.0.0.1:{broker.port}")
    own_relay.start()
    listener = Listener(broker.port, EVENTS)
    device = connect(own_relay, "large", fleet="plant-7")
    device.block(1, 1, fixed={"pad": "x" * 6000})
    device.block(2, 1)
    eventually(lambda: listener.ids == ["j1-2"], "the small one is published")
    assert own_relay.metric("edgeflow_relay_mirror_skipped_total") == 1
    assert "the broker takes none of" in own_relay.log
    listener.close()
    broker.stop()


def test_a_broker_that_refuses_is_asked_again_and_nothing_is_passed_over(
    own_relay: Relay, mosquitto: Path, tmp_path: Path, connect: Connect
) -> None:
    allowed = tmp_path / "allowed"
    allowed.write_text("topic read #\ntopic write edgeflow/plant-7/+/status\n")
    broker = Mosquitto(mosquitto, tmp_path / "broker", f"acl_file {allowed}\n").start()
    own_relay.extra = ("--fleet", "plant-7", "--broker", f"127.0.0.1:{broker.port}")
    own_relay.start()
    listener = Listener(broker.port, EVENTS)
    device = connect(own_relay, "refused", fleet="plant-7")
    device.block(1, 10)
    words = "the broker refuses what is published: Not authorized"
    eventually(lambda: words in own_relay.log, "the refusal is told")
    assert own_relay.metric("edgeflow_relay_mirror_published_total") == 0
    allowed.write_text("topic readwrite #\n")
    assert broker.process is not None
    broker.process.send_signal(signal.SIGHUP)  # read it again
    eventually(lambda: len(set(listener.ids)) == 10, "all is published once it may")
    listener.close()
    broker.stop()


def test_a_password_that_cannot_be_read_costs_the_mirror_alone(
    own_relay: Relay, tmp_path: Path, connect: Connect
) -> None:
    (tmp_path / "password").write_bytes(b"\xff\xfe")
    config = tmp_path / "relay.yaml"
    config.write_text(
        f"fleet: plant-7\nbroker: {{port: 9, username: a, password_file: {tmp_path}/password}}\n"
    )
    own_relay.extra = ("--config", str(config))
    own_relay.start()
    eventually(lambda: "can't decode" in own_relay.log, "the reason is told")
    device = connect(own_relay, "stored", fleet="plant-7")
    device.block(1)
    device.await_ack(1)
    assert own_relay.stop() == 0
