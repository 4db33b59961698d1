"""From a sensor's publish to the device's decision at 1,000 messages a second, against a bare paho callback.

Both take the same messages from the same broker, one after the other. The pipeline filters, then calls a
function of the author's, which notes when it sees each message: that is after decoding, ring and graph, where
a decision would be. The callback of the bare client notes when it is called.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import Result, note
from benchmarks.mqtt import find_mosquitto
from tests.support.device import Device
from tests.support.mosquitto import Mosquitto
from tests.support.processes import eventually

RATE, COUNT, ROUNDS = 1000, 5000, 3
PIPELINE = """
edgeflow: 1
name: bench
inputs:
  accel: {mqtt: {topic: bench/accel, qos: 0}, decode: json, fields: [x, n], rate: 1 kHz, dtype: float64}
steps:
  good: {from: accel, filter: x < 1e9}
  seen: {from: good, python: {function: probe.seen, columns: [n]}}
  never: {from: seen, filter: n < 0}
outputs:
  none: {from: never, event: bench.none}
"""
PROBE = """
import os, struct, time

fd = os.open({path!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def seen(rows):
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    os.write(fd, b"".join(struct.pack("<qq", int(n), now) for n in rows[:, 1]))
    return rows[:, 1]
"""
BARE = """
import json, struct, sys, time
from paho.mqtt import client as mqtt

seen = []

def on_message(client, userdata, message):
    seen.append((json.loads(message.payload)["n"], time.clock_gettime_ns(time.CLOCK_BOOTTIME)))
    if len(seen) == int(sys.argv[2]):
        client.disconnect()

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect = lambda *a: client.subscribe("bench/accel", 0)
client.on_subscribe = lambda *a: print("ready", flush=True)
client.on_message = on_message
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_forever()
with open(sys.argv[3], "wb") as file:
    file.writelines(struct.pack("<qq", *pair) for pair in seen)
"""
SENDER = """
import json, struct, sys, time
from paho.mqtt import client as mqtt

port, rate, count = map(int, sys.argv[1:4])
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.connect("127.0.0.1", port)
client.loop_start()
time.sleep(0.5)
sent, begin = [], time.monotonic()
for n in range(count):
    time.sleep(max(0.0, begin + n / rate - time.monotonic()))
    sent.append((n, time.clock_gettime_ns(time.CLOCK_BOOTTIME)))
    client.publish("bench/accel", json.dumps({"x": 0.5, "n": n}), 0)
time.sleep(0.5)
client.disconnect()
with open(sys.argv[4], "wb") as file:
    file.writelines(struct.pack("<qq", *pair) for pair in sent)
"""


def _pairs(path: Path) -> dict[int, int]:
    """Return when each message was noted, by its number."""
    data = memoryview(path.read_bytes()).cast("q")
    return dict(zip(data[::2], data[1::2], strict=True))


def _quantiles(sent: Path, seen: Path) -> tuple[float, float]:
    """Return median and 99th percentile of the time between, in µs."""
    came = _pairs(seen)
    took = sorted((came[n] - t) / 1e3 for n, t in _pairs(sent).items() if n in came)
    if len(took) < COUNT:
        note(f"{COUNT - len(took)} of {COUNT} messages were not seen")
    return statistics.median(took), took[round(0.99 * (len(took) - 1))]


def _send(port: int, sent: Path) -> None:
    command = [sys.executable, "-c", SENDER, str(port), str(RATE), str(COUNT), str(sent)]
    subprocess.run(command, check=True, timeout=120)


def _bare(port: int, folder: Path) -> tuple[float, float]:
    sent, seen = folder / "sent", folder / "bare"
    command = [sys.executable, "-c", BARE, str(port), str(COUNT), str(seen)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        _send(port, sent)
        process.wait(30)
    return _quantiles(sent, seen)


def _ours(port: int, folder: Path) -> tuple[float, float]:
    sent, seen = folder / "sent", folder / "seen"
    seen.write_bytes(b"")
    _send(port, sent)
    eventually(lambda: seen.stat().st_size >= 16 * COUNT, "every message is seen")
    return _quantiles(sent, seen)


def _deploy(device: Device, seen: Path) -> None:
    folder = device.pipelines / "bench"
    folder.mkdir(parents=True)
    (folder / "probe.py").write_text(PROBE.format(path=str(seen)))
    (folder / "pipeline.yaml").write_text(PIPELINE)
    eventually(lambda: device.request("GET", "/api/v1/pipelines/bench")[0] == 200, "it is there")
    eventually(lambda: device.pipeline("bench")["state"] == "running", "it runs")
    time.sleep(2)


def measure() -> Iterator[Result]:
    """Yield median and 99th percentile in µs."""
    program = find_mosquitto()
    if program is None:
        note("mosquitto is not installed: the latency benchmark is left out")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = Mosquitto(program, folder / "broker").start()
        device = Device(folder, broker=broker.port).start()
        try:
            _deploy(device, folder / "seen")
            rounds = [(_ours(broker.port, folder), _bare(broker.port, folder)) for _ in range(ROUNDS)]
        finally:
            device.close()
            broker.stop()
    for index, (share, goal) in enumerate((("p50", "≤ 2×"), ("p99", "≤ 3×"))):
        ours, bare = (statistics.median(round_[which][index] for round_ in rounds) for which in (0, 1))
        what = f"sensor → decision at {RATE} messages/s, {share}"
        yield Result(what, "bare paho callback", "µs", ours, bare, goal)
