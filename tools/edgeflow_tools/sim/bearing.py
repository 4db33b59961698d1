"""A vibration sensor in a process of its own: samples of a bearing, published over MQTT as they come.

    python -m edgeflow_tools.sim.bearing --port 1883 --seconds 20 --record sent.npy

A message is ``{"n": 1200, "data": [0.12, …]}``: the number of its first sample, and 100 samples in m/s². At
QoS 1 nothing is dropped: what the broker has not acknowledged is sent again, and waited for at the end.

Damage begins at 40 % of the bearing's life, which is the run, or as many seconds as ``--life`` says; then the
bearing is replaced. SIGTERM and Ctrl-C end the run early. Standard output has one JSON object a line: with
``--trace`` one per message as it is published, and at the end what was sent.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edgeflow_tools.sim.vibration import FAULT_AT, RATE, Bearing, Signal, vibration

PER_MESSAGE = 100
TOPIC = "plant/press-7/accel"
LIFE_S = 60.0
PATIENCE_S = 30.0
DECIMALS = 5


@dataclass(frozen=True, slots=True)
class Run:
    """What is to be sent: for `seconds` (``None``: until stopped), bearings that last `life` seconds each."""

    seed: int
    seconds: float | None
    life: float

    def messages(self) -> Iterator[Signal]:
        """Yield the samples of each message, ``(PER_MESSAGE,)``; the same ones for the same run."""
        lives = (self._bearing(self.seed + number) for number in itertools.count())
        count = None if self.seconds is None else int(self.seconds * RATE) // PER_MESSAGE
        return itertools.islice(itertools.chain.from_iterable(lives), count)

    def _bearing(self, seed: int) -> Signal:
        samples = vibration(self.samples, Bearing(), seed, self.fault_at)
        return as_sent(samples).reshape(-1, PER_MESSAGE)

    @property
    def samples(self) -> int:
        """How many a bearing gives: a whole number of messages."""
        return max(1, int(self.life * RATE) // PER_MESSAGE) * PER_MESSAGE

    @property
    def fault_at(self) -> int:
        """The sample at which damage begins, counted from the bearing's first."""
        return int(FAULT_AT * self.samples)


def as_sent(samples: Signal) -> Signal:
    """Return samples as whoever receives them reads them: rounded, then float32."""
    return np.round(samples.astype(np.float64), DECIMALS).astype(np.float32)


def payload(first: int, samples: Signal) -> bytes:
    """Return the message that carries samples numbered from `first` on."""
    data = [round(value, DECIMALS) for value in samples.tolist()]
    return json.dumps({"n": first, "data": data}, separators=(",", ":")).encode()


class Record:
    """What was sent, and when: CLOCK_BOOTTIME ns per message."""

    def __init__(self) -> None:
        self._samples = [np.empty(0, np.float32)]
        self._times: list[int] = []

    def add(self, samples: Signal, published_ns: int) -> None:
        """Take note of a message."""
        self._samples.append(samples)
        self._times.append(published_ns)

    def save(self, path: Path) -> None:
        """Write the samples, ``(n,)`` float32, and the times, ``(messages,)`` int64, to ``.times.npy``."""
        np.save(path, np.concatenate(self._samples))
        np.save(path.with_suffix(".times.npy"), np.array(self._times, np.int64))


class Sensor:
    """Publishes messages at their times and counts what the broker acknowledges."""

    def __init__(self, client: Client, topic: str, qos: int) -> None:
        self._client, self._topic, self._qos = client, topic, qos
        self._stop = threading.Event()
        self.sent = self.acknowledged = 0
        client.on_publish = self._acknowledge

    def _acknowledge(self, *_: object) -> None:
        self.acknowledged += PER_MESSAGE

    def stop(self) -> None:
        """End after the message in hand."""
        self._stop.set()

    def run(self, messages: Iterator[Signal]) -> Iterator[tuple[Signal, int]]:
        """Publish each message when its last sample was measured; yield it with its time."""
        start = time.monotonic()
        for index, samples in enumerate(messages, 1):
            due = start + index * PER_MESSAGE / RATE
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            body = payload(self.sent, samples)
            now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            self._client.publish(self._topic, body, self._qos)
            self.sent += len(samples)
            yield samples, now

    def finish(self) -> None:
        """Wait until the broker has everything, or has been away for too long."""
        deadline = time.monotonic() + PATIENCE_S
        while self.acknowledged < self.sent and time.monotonic() < deadline:
            time.sleep(0.01)


def connect(host: str, port: int) -> Client:
    """Return a connected client; it reconnects by itself, and forgets no message meanwhile."""
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
    client.max_queued_messages_set(0)
    client.reconnect_delay_set(1, 2)
    client.connect(host, port)
    client.loop_start()
    return client


def say(value: dict[str, Any]) -> None:
    """Print one JSON object."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def options(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m edgeflow_tools.sim.bearing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--topic", default=TOPIC)
    parser.add_argument("--qos", type=int, choices=(0, 1), default=1)
    parser.add_argument("--seconds", type=float, help="how long to run; until stopped when left out")
    parser.add_argument("--life", type=float, help=f"how long a bearing lasts ({LIFE_S:g} s, or the run)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", type=Path, help="npy file for the samples, as sent")
    parser.add_argument("--trace", action="store_true", help="print a line per message")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the sensor; returns 0 when the broker acknowledged all samples, 2 when there is no broker."""
    asked = options(argv)
    run = Run(asked.seed, asked.seconds, asked.life or asked.seconds or LIFE_S)
    try:
        client = connect(asked.host, asked.port)
    except OSError as error:
        sys.stderr.write(f"no broker at {asked.host}:{asked.port}: {error}\n")
        return 2
    sensor = Sensor(client, asked.topic, asked.qos)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sensor.stop())
    publish(sensor, run, asked)
    sensor.finish()
    client.disconnect()
    client.loop_stop()
    say({"sent": sensor.sent, "acknowledged": sensor.acknowledged, "fault_at": run.fault_at})
    if sensor.acknowledged < sensor.sent:
        sys.stderr.write(f"{sensor.sent - sensor.acknowledged} samples were not acknowledged\n")
        return 1
    return 0


def publish(sensor: Sensor, run: Run, asked: argparse.Namespace) -> None:
    """Run the sensor to its end, keeping record and trace where asked for."""
    record = Record() if asked.record else None
    for samples, now in sensor.run(run.messages()):
        if asked.trace:
            say({"first": sensor.sent - len(samples), "count": len(samples), "published_ns": now})
        if record is not None:
            record.add(samples, now)
    if record is not None:
        record.save(asked.record)


if __name__ == "__main__":
    raise SystemExit(main())
