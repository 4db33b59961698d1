"""What a real device records of what it was sent, however often its worker is killed."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner

from edgeflow_agent.store.recording import RecordingReader
from edgeflow_tools.cli import edgeflow
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


def test_a_small_device_records_beside_pipelines_that_have_nothing_to_say(
    broker: Mosquitto, tmp_path: Path
) -> None:
    device = Device(tmp_path, broker=broker.port, storage={"budget": "48 MiB", "free": "1 MB"}).start()
    try:
        other = pipeline("off").replace("name: press", "name: other").replace("plant/accel", "plant/other")
        device.deploy("other", other)
        device.deploy("press", pipeline("all"))
        sent = sensor.report(sensor.start(broker.port, "plant/accel", tmp_path / "one.npy", seconds=3))
        eventually(lambda: device.metric("edgeflow_recorded_rows_total") >= sent, "every row is recorded")
        assert device.json("/api/v1/device")["degraded"] == []
    finally:
        device.close()


def test_every_row_is_recorded_once_although_the_worker_is_killed_again_and_again(
    device: Device, broker: Mosquitto, tmp_path: Path
) -> None:
    device.start()
    device.deploy("press", pipeline("all", busy=True))
    record = tmp_path / "sent.npy"
    sender = sensor.start(broker.port, "plant/accel", record, seconds=10)
    rng = random.Random(4)
    for _ in range(6):
        device.child("worker")
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


def called(*arguments: object) -> str:
    result = CliRunner().invoke(edgeflow, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_rows_behind_an_event_come_as_files_from_the_device_and_from_its_folder(
    device: Device, broker: Mosquitto, tmp_path: Path
) -> None:
    device.start()
    device.deploy("press", pipeline("all"))
    sent = sensor.report(sensor.start(broker.port, "plant/accel", tmp_path / "sent.npy", seconds=3))
    eventually(lambda: len(rows_of(device, "press")[0]) >= sent, "every row is recorded")
    event = device.events("press", "press.raised")[0]
    trace = json.loads(called("trace", event["id"], "--to", device.url, "--json"))
    span = trace["spans"]["accel"]
    assert trace["rows"]["accel"]["count"] == span["count"]
    expected = np.load(tmp_path / "sent.npy")[span["first"] : span["last"] + 1]
    array, table = tmp_path / "rows.npy", tmp_path / "rows.csv"
    said = called("trace", event["id"], "--to", device.url, "--rows", array)
    assert said.startswith(f"{span['count']} rows of accel in {array}\n")
    np.testing.assert_array_equal(np.load(array), expected)
    called("trace", event["id"], "--to", device.url, "--rows", table)
    values = np.genfromtxt(table, np.float32, delimiter=",", names=True, usecols=("x", "n"))
    np.testing.assert_array_equal(np.stack([values["x"], values["n"]], axis=1), expected)
    device.stop()
    called("trace", event["id"], "--store", device.store, "--rows", tmp_path / "stored.csv")
    assert (tmp_path / "stored.csv").read_bytes() == table.read_bytes()
    for wrong, words in (("rows.txt", "written as .csv or .npy"), ("none/rows.csv", "No such file")):
        result = CliRunner().invoke(
            edgeflow, ["trace", event["id"], "--store", str(device.store), "--rows", str(tmp_path / wrong)]
        )
        assert (result.exit_code, words in result.output) == (2, True), result.output


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
