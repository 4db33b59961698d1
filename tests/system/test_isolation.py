"""A pipeline that misbehaves is named on the page and as events; its neighbours run on."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import sensor
from tests.support.device import Device
from tests.support.mosquitto import Mosquitto
from tests.support.processes import eventually

pytestmark = pytest.mark.system


@pytest.fixture
def device(broker: Mosquitto, tmp_path: Path) -> Iterator[Device]:
    """A device that soon gives up on a process that stands still."""
    device = Device(tmp_path, broker=broker.port, hang="3s")
    yield device
    device.close()


PIPELINE = """
edgeflow: 1
name: {name}
inputs:
  accel: {{mqtt: plant/accel, decode: {{json: {{samples: data}}}}, fields: [x, n], rate: 100 Hz}}
steps:
  guess: {{from: accel, python: {{function: guess.guess, columns: [y]}}}}
  every: {{from: guess, filter: y >= 0}}
outputs:
  all: {{from: every, event: {name}.all}}
"""
GOOD = "def guess(rows):\n    return rows[:, 1:]\n"
LOOPS = "def guess(rows):\n    while True:\n        pass\n"
RAISES = "def guess(rows):\n    raise ValueError('no idea what this is')\n"
CRASHES = "import ctypes\n\ndef guess(rows):\n    ctypes.string_at(0)\n    return rows[:, 1:]\n"
KILLER_ROW = """
import os

def guess(rows):
    if (rows[:, 1] == 50).any():
        os.kill(os.getpid(), 9)
    return rows[:, 1:]
"""


def bundle(name: str, source: str) -> bytes:
    """Return a tar of a pipeline and its Python file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for file, text in (("pipeline.yaml", PIPELINE.format(name=name)), ("guess.py", source)):
            info = tarfile.TarInfo(file)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def deploy(device: Device, name: str, source: str) -> None:
    status, body = device.request(
        "PUT", f"/api/v1/pipelines/{name}", bundle(name, source), "application/x-tar"
    )
    assert status in (200, 201), body.decode()


@pytest.mark.parametrize(
    ("source", "expected"),
    [(LOOPS, "stood still"), (CRASHES, "SIGSEGV")],
    ids=["loops for ever", "is killed by the kernel"],
)
def test_a_worker_that_dies_on_its_rows_is_named_and_the_neighbour_runs_on(
    device: Device, broker: Mosquitto, tmp_path: Path, source: str, expected: str
) -> None:
    device.start()
    deploy(device, "good", GOOD)
    deploy(device, "bad", source)
    eventually(lambda: device.pipeline("bad")["state"] == "running", "both run")
    sent = sensor.report(
        sensor.start(broker.port, "plant/accel", tmp_path / "sent.npy", seconds=5, rate=100, block=10)
    )
    died = eventually(lambda: device.events("_agent", "edgeflow.worker.died"), "the death is an event", 30)
    assert died[0]["data"]["pipeline"] == "bad"
    assert expected in died[0]["data"]["reason"]
    eventually(lambda: expected in device.text("/"), "the page says why")
    eventually(lambda: len(device.events("good", "good.all")) == sent, "the neighbour decided on every row")
    assert device.metric("edgeflow_rows_lost_total", pipeline="good") == 0
    assert device.pipeline("good")["restarts"] == 0


def test_a_step_that_raises_on_every_row_is_named_with_the_authors_line(
    device: Device, broker: Mosquitto, tmp_path: Path
) -> None:
    device.start()
    deploy(device, "good", GOOD)
    deploy(device, "bad", RAISES)
    eventually(lambda: device.pipeline("bad")["state"] == "running", "both run")
    sent = sensor.report(
        sensor.start(broker.port, "plant/accel", tmp_path / "sent.npy", seconds=3, rate=100, block=10)
    )
    eventually(
        lambda: device.metric("edgeflow_step_errors_total", pipeline="bad") == sent, "every row is counted"
    )
    failed = eventually(lambda: device.events("bad", "edgeflow.step.failed"), "the failure is an event")
    assert failed[0]["data"]["step"] == "guess"
    assert "no idea what this is" in failed[0]["data"]["error"]
    assert len(failed) < 5
    page = eventually(
        lambda: (t := device.text("/")) and "no idea what this is" in t and t, "the page says why"
    )
    assert "guess.py" in page
    assert device.pipeline("bad")["restarts"] == 0
    eventually(lambda: len(device.events("good", "good.all")) == sent, "the neighbour decided on every row")


def test_the_one_row_that_kills_is_taken_out_and_the_pipeline_goes_on(
    device: Device, broker: Mosquitto, tmp_path: Path
) -> None:
    device.start()
    deploy(device, "bad", KILLER_ROW)
    eventually(lambda: device.pipeline("bad")["state"] == "running", "it runs")
    sent = sensor.report(
        sensor.start(broker.port, "plant/accel", tmp_path / "sent.npy", seconds=3, rate=100, block=10)
    )
    dead = eventually(lambda: device.events("bad", "edgeflow.deadletter"), "the row is a dead letter", 60)
    assert dead[0]["data"]["values"][1] == 50
    eventually(lambda: len(device.events("bad", "bad.all")) == sent - 1, "every other row is decided on", 60)
    numbers = [event["data"]["y"] for event in device.events("bad", "bad.all")]
    assert sorted(numbers) == [n for n in range(sent) if n != 50]
