"""Two hundred keyed sensors at 10 Hz through window → model for a minute: no sample lost, memory flat."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.support.device import Device
from tests.support.mosquitto import Mosquitto
from tests.support.onnx_files import linear
from tests.support.processes import eventually

pytestmark = pytest.mark.system

SENSORS, RATE, SECONDS = 200, 10, 60
SIZE, HOP = 20, 10
GROWTH_MIB = 3.0
PIPELINE = f"""
edgeflow: 1
name: hall
inputs:
  sensor:
    mqtt: hall/{{sensor}}/state
    key: sensor
    fields: [x, n]
    rate: {RATE} Hz
steps:
  window: {{from: sensor, window: {{size: {SIZE}, hop: {HOP}}}}}
  stats: {{from: window, stats: [mean, max]}}
  score: {{from: stats, model: {{file: score.onnx, columns: [score, last]}}}}
outputs:
  scored: {{from: score, event: {{type: hall.scored, data: [last]}}}}
"""
SENDER = """
import json, sys, time
from paho.mqtt import client as mqtt

port, sensors, rate, seconds = map(int, sys.argv[1:])
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.max_queued_messages_set(0)
client.connect("127.0.0.1", port)
client.loop_start()
begin, infos = time.monotonic(), []
for n in range(rate * seconds):
    time.sleep(max(0.0, begin + n / rate - time.monotonic()))
    payload = json.dumps({"x": 0.5, "n": n})
    infos = [client.publish(f"hall/s{i:03}/state", payload, 1) for i in range(sensors)]
for info in infos:
    info.wait_for_publish(30)
client.disconnect()
print(json.dumps({"sent": sensors * rate * seconds, "took": time.monotonic() - begin}))
"""


def bundle(folder: Path) -> bytes:
    weights = np.float32([[1, 0], [0, 0], [0, 0], [0, 1]])  # x.mean and n.max go through
    linear(folder / "score.onnx", weights)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in (
            ("pipeline.yaml", PIPELINE.encode()),
            ("score.onnx", (folder / "score.onnx").read_bytes()),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def memory(device: Device) -> dict[str, float]:
    """Return the anonymous memory of processes in MiB: all but pages of files, such as the journal's."""
    pids = {"io": device.child("io"), "worker": device.workers()[0]}
    rollups = {name: Path(f"/proc/{pid}/smaps_rollup").read_text() for name, pid in pids.items()}
    return {name: int(re.findall(r"Pss_Anon: +([0-9]+)", text)[0]) / 1024 for name, text in rollups.items()}


def test_two_hundred_sensors_lose_no_sample_in_a_minute(
    device: Device, broker: Mosquitto, tmp_path: Path
) -> None:
    device.start()
    status, body = device.request("PUT", "/api/v1/pipelines/hall", bundle(tmp_path), "application/x-tar")
    assert status in (200, 201), body.decode()
    eventually(lambda: device.pipeline("hall")["state"] == "running", "it runs")
    command = [sys.executable, "-c", SENDER, *map(str, (broker.port, SENSORS, RATE, SECONDS))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sender:
        time.sleep(SECONDS / 3)
        early = memory(device)
        out, _ = sender.communicate(timeout=120)
    sent = int(json.loads(out)["sent"])
    eventually(lambda: device.metric("edgeflow_input_rows_total", pipeline="hall") == sent, "every sample")
    windows = SENSORS * ((RATE * SECONDS - SIZE) // HOP + 1)
    eventually(
        lambda: device.metric("edgeflow_events_total", pipeline="hall") == windows, f"{windows} events"
    )
    late = memory(device)

    assert device.metric("edgeflow_rows_lost_total", pipeline="hall") == 0
    assert device.metric("edgeflow_input_rejected_total", pipeline="hall") == 0
    assert device.pipeline("hall")["restarts"] == 0
    assert late["io"] - early["io"] < GROWTH_MIB
    assert late["worker"] - early["worker"] < GROWTH_MIB
    per_sensor = Counter(event["subject"] for event in device.events("hall", "hall.scored"))
    assert set(per_sensor.values()) == {windows // SENSORS}
    assert len(per_sensor) == SENSORS
