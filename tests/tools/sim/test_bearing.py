"""The sensor process: what it says it sent is what a subscriber gets."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from edgeflow_tools.sim.bearing import PER_MESSAGE, Run, as_sent, payload
from edgeflow_tools.sim.vibration import Bearing, vibration
from tests.support.mosquitto import Mosquitto
from tests.support.processes import eventually

pytestmark = pytest.mark.system
TOPIC = "plant/p1/accel"


@pytest.fixture
def broker(mosquitto: Path, tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(mosquitto, tmp_path / "broker").start()
    yield broker
    broker.stop()


class Subscriber:
    """Keeps every message of the sensor's topic."""

    def __init__(self, port: int) -> None:
        self.payloads: list[bytes] = []
        subscribed = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2, "subscriber", clean_session=False)
        self.client.on_message = lambda _client, _data, message: self.payloads.append(message.payload)
        self.client.on_connect = lambda client, *_: client.subscribe(TOPIC, 1)
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert subscribed.wait(20)

    def samples(self) -> dict[int, list[float]]:
        messages = [json.loads(payload) for payload in self.payloads]
        return {message["n"]: message["data"] for message in messages}

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def subscriber(broker: Mosquitto) -> Iterator[Subscriber]:
    subscriber = Subscriber(broker.port)
    yield subscriber
    subscriber.close()


def start(port: int, *options: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "edgeflow_tools.sim.bearing",
        "--port",
        str(port),
        "--topic",
        TOPIC,
        *options,
    ]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def told(sensor: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    out, _ = sensor.communicate(timeout=60)
    return [json.loads(line) for line in out.splitlines()]


def test_the_record_is_what_was_sent_and_numbered(
    broker: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    record = tmp_path / "sent.npy"
    sensor = start(broker.port, "--seconds", "2", "--seed", "5", "--record", str(record), "--trace")
    *messages, end = told(sensor)
    assert sensor.returncode == 0
    assert end == {"sent": 2000, "acknowledged": 2000, "fault_at": 800}
    assert [message["first"] for message in messages] == list(range(0, 2000, PER_MESSAGE))
    eventually(lambda: len(subscriber.payloads) == 20, "all messages came")
    received = np.concatenate([values for _, values in sorted(subscriber.samples().items())])
    sent, times = np.load(record), np.load(record.with_suffix(".times.npy"))
    np.testing.assert_array_equal(received.astype(np.float32), sent)
    np.testing.assert_array_equal(sent, as_sent(vibration(2000, Bearing(), 5, 800)))
    assert times.tolist() == [message["published_ns"] for message in messages]
    assert (np.diff(times) > 0).all()


def test_a_broker_that_restarts_costs_no_sample(broker: Mosquitto, subscriber: Subscriber) -> None:
    sensor = start(broker.port, "--seconds", "5", "--life", "60")
    eventually(lambda: len(subscriber.payloads) > 5, "messages come")
    broker.stop()
    broker.start()
    (end,) = told(sensor)
    assert (sensor.returncode, end["sent"], end["acknowledged"]) == (0, 5000, 5000)
    eventually(lambda: len(subscriber.samples()) == 50, "every message came")


def test_sigterm_ends_it_early_with_nothing_unsent(broker: Mosquitto, subscriber: Subscriber) -> None:
    sensor = start(broker.port)
    eventually(lambda: len(subscriber.payloads) > 2, "messages come")
    sensor.send_signal(signal.SIGTERM)
    (end,) = told(sensor)
    assert sensor.returncode == 0
    assert end["sent"] == end["acknowledged"] == PER_MESSAGE * len(subscriber.samples())


def test_without_a_broker_it_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgeflow_tools.sim.bearing", "--port", "1", "--seconds", "1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("no broker at 127.0.0.1:1")


def test_bearings_follow_one_another_each_damaged_in_its_own_time() -> None:
    run = Run(seed=1, seconds=5.0, life=2.0)
    messages = list(run.messages())
    assert len(messages) == 50
    second = as_sent(vibration(2000, Bearing(), 2, run.fault_at)).reshape(-1, PER_MESSAGE)
    np.testing.assert_array_equal(messages[20:40], second)


def test_numbers_survive_the_way_through_json() -> None:
    samples = as_sent(vibration(PER_MESSAGE, Bearing(), 1, None))
    message = json.loads(payload(700, samples))
    assert message["n"] == 700
    np.testing.assert_array_equal(np.array(message["data"], np.float32), samples)
