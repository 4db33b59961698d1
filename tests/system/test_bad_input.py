"""Whatever sensors send: accepted + rejected = sent, and the good sensor beside them loses nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from paho.mqtt import client as mqtt

from tests.support import sensor
from tests.support.device import Device
from tests.support.mosquitto import Mosquitto
from tests.support.processes import eventually
from tests.support.sensor import REPOSITORY

pytestmark = pytest.mark.system

PIPELINE = """
edgeflow: 1
name: watch
inputs:
  good: {mqtt: {topic: plant/good, qos: 1}, decode: {json: {samples: data}}, fields: [x, n], rate: 100 Hz}
  bad: {mqtt: {topic: plant/bad, qos: 0}, fields: {x: acc.x}, rate: 1 kHz}
steps:
  window: {from: good, window: 10}
  features: {from: window, stats: [mean]}
  other: {from: bad, filter: x > 1e9}
outputs:
  score: {from: features, event: watch.score}
  never: {from: other, event: watch.never}
"""
BAD = {
    b'{"acc": {"x": 1': "json",
    b"": "json",
    b"\xff\xfe{}": "json",
    b'{"acc": {"x": "1"}}': "type",
    b'{"acc": {"x": true}}': "type",
    b'{"acc": {"x": null}}': "type",
    b'{"acc": [1]}': "type",
    b'{"acc": {"y": 1}}': "missing_field",
    b'{"acc": {"x": NaN}}': "json",
}


def test_every_message_is_accepted_or_rejected_by_reason(device: Device, broker: Mosquitto) -> None:
    device.start()
    device.deploy("watch", PIPELINE)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    payloads = [*BAD, b'{"acc": {"x": 1.5}, "extra": 1}', b"x" * (10 << 20)]
    for payload in payloads * 3:
        client.publish("plant/bad", payload, qos=1).wait_for_publish(30)
    client.disconnect()
    client.loop_stop()
    labels = {"pipeline": "watch", "input": "bad"}
    rejected = lambda **more: device.metric("edgeflow_input_rejected_total", **labels, **more)  # noqa: E731
    accepted = lambda: device.metric("edgeflow_input_accepted_total", **labels)  # noqa: E731
    eventually(lambda: accepted() + rejected() == 3 * len(payloads), "accepted + rejected = sent")
    assert accepted() == 3
    assert rejected(reason="size") == 3
    for reason in ("type", "missing_field"):
        assert rejected(reason=reason) == 3 * list(BAD.values()).count(reason)
    page = device.text("/")
    assert "missing_field" in page
    assert "size" in page


FLOOD = """
import sys, time
from paho.mqtt import client as mqtt
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.max_queued_messages_set(0)
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_start()
begin, sent, rate, seconds = time.monotonic(), 0, int(sys.argv[2]), float(sys.argv[3])
while (elapsed := time.monotonic() - begin) < seconds:
    for _ in range(int(elapsed * rate) - sent):
        client.publish("plant/bad", b'{"acc": {"x": "junk"}}', qos=0)
        sent += 1
    time.sleep(0.001)
print(sent, flush=True)
last = client.publish("plant/end", b"", qos=1)
last.wait_for_publish(60)
client.disconnect()
client.loop_stop()
"""


def test_a_flood_of_junk_is_counted_and_the_good_sensor_loses_no_sample(
    device: Device, broker: Mosquitto, tmp_path: Path
) -> None:
    device.start()
    device.deploy("watch", PIPELINE)
    sender = sensor.start(broker.port, "plant/good", tmp_path / "sent.npy", seconds=12, rate=100, block=10)
    time.sleep(0.5)
    flood = subprocess.run(
        [sys.executable, "-c", FLOOD, str(broker.port), "20000", "10"],
        capture_output=True,
        check=True,
        timeout=120,
        cwd=REPOSITORY,
    )
    junk, sent = int(flood.stdout), sensor.report(sender)
    labels = {"pipeline": "watch", "input": "bad"}
    eventually(lambda: device.metric("edgeflow_input_rejected_total", **labels) == junk, f"{junk} rejected")
    eventually(
        lambda: device.metric("edgeflow_rows_total", pipeline="watch", input="good") == sent, "every good row"
    )
    assert device.metric("edgeflow_rows_lost_total", pipeline="watch") == 0
    eventually(lambda: len(device.events("watch", "watch.score")) == sent // 10, "every window decided on")
    lines = [line for line in device.log.splitlines() if "reject" in line]
    assert 0 < len(lines) < 50
    assert json.loads(device.text("/readyz"))["ready"]
