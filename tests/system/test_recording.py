"""What a real device records of what it was sent, however often its worker is killed."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgeflow_agent.store.recording import RecordingReader
from tests.support import sensor
from tests.support.device import Device
from tests.support.mosquitto import Mosquitto
from tests.support.processes import eventually

pytestmark = pytest.mark.system

ROW = (1 << 40) - 1
PIPELINE = """
edgeflow: 1
name: press
inputs:
  accel:
    mqtt: plant/accel
    decode: {json: {samples: data}}
    fields: [x, n]
    rate: 1 kHz
    record: RECORD
steps:
  window: {from: accel, window: {size: 64, hop: 16}}
  features: {from: window, stats: [mean, rms, max]}
  alarm: {from: features, threshold: {column: x.rms, above: 1.6, clear: 1.2, for: 2 rows}}
STEPS
outputs:
  raised: {from: alarm.raised, event: {type: press.raised, severity: warning, data: [x.rms]}}
OUTPUTS
"""


def pipeline(record: str, *, busy: bool = False) -> str:
    """Return the pipeline; a `busy` one has an event for each window, and remembers for long."""
    steps = "  usual: {from: features, zscore: {column: x.rms, size: 100}}" if busy else ""
    outputs = "  score: {from: usual, event: {type: press.score}}" if busy else ""
    text = PIPELINE.replace("RECORD", record)
    return text.replace("STEPS", steps).replace("OUTPUTS", outputs)


def rows_of(device: Device, pipeline: str) -> tuple[list[int], npt.NDArray[np.float32]]:
    """Return the numbers and the values of the rows that a device recorded."""
    reader = RecordingReader(device.store / "recordings" / pipeline)
    try:
        blocks = list(reader.between())
    finally:
        reader.close()
    numbers = [number & ROW for block in blocks for number in range(block.first, block.end)]
    values = [np.frombuffer(block.values, "<f4").reshape(-1, 2) for block in blocks]
    return numbers, np.concatenate(values)


def test_every_row_is_recorded_once_although_the_worker_is_killed_again_and_again(
    device: Device, broker: Mosquitto, tmp_path: Path
) -> None:
    device.start()
    device.deploy("press", pipeline("all", busy=True))
    record = tmp_path / "sent.npy"
    sender = sensor.start(broker.port, "plant/accel", record, seconds=10)
    rng = random.Random(4)
    for _ in range(6):
        time.sleep(rng.uniform(0.2, 1.5))
        device.kill("worker")
    sent = sensor.report(sender)
    eventually(lambda: device.metric("edgeflow_rows_total", pipeline="press") >= sent, "every row is run")
    eventually(
        lambda: len(rows_of(device, "press")[0]) >= sent,
        "every row is recorded",
    )
    assert device.metric("edgeflow_recording_dropped_total") == 0
    assert device.metric("edgeflow_recording_bytes", pipeline="press") > 0
    numbers, values = rows_of(device, "press")
    assert numbers == list(range(sent))
    np.testing.assert_array_equal(values, np.load(record))


def test_around_events_exactly_the_stretch_asked_for_is_recorded(
    device: Device, broker: Mosquitto, tmp_path: Path
) -> None:
    device.start()
    device.deploy("press", pipeline("{before: 100, after: 50}"))
    sender = sensor.start(broker.port, "plant/accel", tmp_path / "sent.npy", seconds=6)
    time.sleep(2)
    device.kill("worker")
    sent = sensor.report(sender)
    eventually(lambda: device.metric("edgeflow_rows_total", pipeline="press") >= sent, "every row is run")
    device.stop()
    device.start()
    spans = [
        [int(end) & ROW for end in event["inputspan"].rpartition(":")[2].split("-")]
        for event in device.events("press", "press.raised")
    ]
    assert len(spans) >= 5
    expected = {row for first, last in spans for row in range(max(0, first - 100), min(sent, last + 51))}
    numbers, _ = rows_of(device, "press")
    assert len(expected) < sent
    assert numbers == sorted(expected)
