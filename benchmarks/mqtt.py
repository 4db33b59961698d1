"""MQTT JSON to ring, through the whole agent, against a bare paho loop that only decodes.

A burst is published at QoS 0 from a process that does nothing else; the broker queues what a receiver has not
taken yet, so what is measured is how fast the receiver drains it. Both decode with msgspec.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import Result, in_turns, note
from tests.support.device import Device
from tests.support.mosquitto import Mosquitto

MESSAGES = {1: 60_000, 100: 6_000}  # by samples per message
TOPIC = "bench/accel"
PIPELINE = """
edgeflow: 1
name: bench
inputs:
  accel: {{mqtt: {{topic: bench/accel, qos: 0}}, {decode}, fields: [x, y, z], rate: 100 kHz, buffer: 30 s}}
steps:
  never: {{from: accel, filter: x > 1e9}}
outputs:
  none: {{from: never, event: bench.none}}
"""
BARE = """
import sys, time
import msgspec
from paho.mqtt import client as mqtt

class Sample(msgspec.Struct):
    x: float
    y: float
    z: float

class Message(msgspec.Struct):
    data: list[list[float]]

port, samples, expected = map(int, sys.argv[1:])
decoder = msgspec.json.Decoder(Sample if samples == 1 else Message)
seen = begin = 0

def on_message(client, userdata, message):
    global seen, begin
    if not seen:
        begin = time.perf_counter()
    decoder.decode(message.payload)
    seen += 1
    if seen == expected:
        print(time.perf_counter() - begin, flush=True)
        client.disconnect()

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect = lambda *a: client.subscribe("bench/accel", 0)
client.on_subscribe = lambda *a: print("ready", flush=True)
client.on_message = on_message
client.connect("127.0.0.1", port)
client.loop_forever()
"""
BURST = """
import socket, sys
port, messages, payload = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode()

def packet(kind, body):
    size, length = len(body), b""
    while True:
        size, digit = divmod(size, 128)
        length += bytes([digit | (0x80 if size else 0)])
        if not size:
            return bytes([kind]) + length + body

topic = b"bench/accel"
sock = socket.create_connection(("127.0.0.1", port))
sock.sendall(packet(0x10, b"\\x00\\x04MQTT\\x04\\x02\\x00\\x3c\\x00\\x05burst"))
sock.recv(4)
one = packet(0x30, len(topic).to_bytes(2, "big") + topic + payload)
for start in range(0, messages, 500):
    sock.sendall(one * min(500, messages - start))
sock.sendall(packet(0xE0, b""))
"""


def _payload(samples: int) -> str:
    one = {
        "x": 0.123456,
        "y": -1.234567,
        "z": 9.812345,
        "seq": 123456,
        "unit": "m/s2",
        "sensor": "press-7/accel/1",
    }
    rows = [[round(0.001 * i, 6), -1.234567, 9.812345] for i in range(samples)]
    return json.dumps(one if samples == 1 else {"data": rows})


def _burst(port: int, samples: int) -> None:
    command = [sys.executable, "-c", BURST, str(port), str(MESSAGES[samples]), _payload(samples)]
    subprocess.run(command, check=True, timeout=120)


def _bare(port: int, samples: int) -> float:
    """Return rows per second of the bare loop."""
    command = [sys.executable, "-c", BARE, str(port), str(samples), str(MESSAGES[samples])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        _burst(port, samples)
        return samples * MESSAGES[samples] / float(process.stdout.readline())


def _ours(device: Device, port: int, samples: int) -> float:
    """Return rows per second through `io` into the ring, read off its counters."""
    before = device.metric("edgeflow_input_rows_total", pipeline="bench")
    expected = samples * MESSAGES[samples]
    sender = subprocess.Popen(
        [sys.executable, "-c", BURST, str(port), str(MESSAGES[samples]), _payload(samples)]
    )
    begin, first = 0.0, 0
    while (seen := device.metric("edgeflow_input_rows_total", pipeline="bench") - before) < expected:
        if seen and not begin:
            begin, first = time.perf_counter(), seen
        time.sleep(0.02)
    elapsed = time.perf_counter() - begin
    sender.wait()
    return (expected - first) / elapsed


def find_mosquitto() -> Path | None:
    """Return the broker's program, where it is installed."""
    found = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    return Path(found) if found else None


def measure() -> Iterator[Result]:
    """Yield rows per second for 1 and for 100 samples per message."""
    program = find_mosquitto()
    if program is None:
        note("mosquitto is not installed: the MQTT benchmark is left out")
        return
    for samples in MESSAGES:
        with tempfile.TemporaryDirectory() as name:
            yield _measured(Path(name), program, samples)


def _measured(folder: Path, program: Path, samples: int) -> Result:
    broker = Mosquitto(program, folder / "broker").start()
    device = Device(folder, broker=broker.port).start()
    try:
        decode = "decode: json" if samples == 1 else "decode: {json: {samples: data}}"
        device.deploy("bench", PIPELINE.format(decode=decode))
        ours, bare = in_turns(
            lambda: _ours(device, broker.port, samples), lambda: _bare(broker.port, samples), rounds=5
        )
    finally:
        device.close()
        broker.stop()
    goal = "≥ 0.8×" if samples == 1 else "≥ 0.9×"
    what = f"MQTT JSON, {samples} sample{'s' if samples > 1 else ''} per message"
    return Result(f"{what} → ring", "bare paho loop that decodes", "rows/s", ours, bare, goal)
