"""Live rows of any edge of a pipeline that runs on a real device."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.device import Device
from tests.support.processes import eventually

pytestmark = pytest.mark.system

PIPELINE = """
edgeflow: 1
name: level
inputs:
  v: {http: , decode: {json: data}, fields: [x, y], buffer: 10000}
steps:
  sum: {from: v, map: {columns: {total: x + y}}}
  pair: {from: v, window: 2}
  alarm: {from: sum, threshold: {column: total, above: 100}}
outputs:
  all: {from: sum, event: {type: t}}
  pairs: {from: pair, event: {type: p}}
  state: {from: alarm.raised, event: {type: r}}
"""
TAP = "/api/v1/pipelines/level/tap/"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path).start()
    device.deploy("level", PIPELINE)
    yield device
    device.close()


def post(device: Device, first: int, count: int) -> None:
    rows = json.dumps({"data": [[row, 1] for row in range(first, first + count)]}).encode()
    status, body = device.request("POST", "/api/v1/pipelines/level/inputs/v", rows, "application/json")
    assert status in (200, 202), body


class Listener:
    """Reads the JSON lines of an edge in a thread."""

    def __init__(self, device: Device, edge: str, query: str = "") -> None:
        self.response = urllib.request.urlopen(device.url + TAP + edge + query, timeout=60)
        self.head = json.loads(self.response.readline())
        self.rows: list[dict[str, Any]] = []
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with self.response:
            for line in self.response:
                if line.strip():
                    self.rows.append(json.loads(line))
        self.ended.set()

    def join(self) -> None:
        self._thread.join(30)
        assert self.ended.is_set()


def test_rows_of_every_kind_of_edge_are_shown_while_nothing_is_lost(device: Device) -> None:
    listeners = {edge: Listener(device, edge, "?rate=100&limit=4") for edge in ("v", "sum", "alarm.state")}
    pairs = Listener(device, "pair", "?rate=100&limit=2")
    assert listeners["v"].head | {"inputs": 0} == {
        "edge": "v", "shape": [2], "dtype": "float32", "columns": ["x", "y"], "inputs": 0, "key": None,
        "clipped": False,
    }  # fmt: skip
    assert pairs.head["shape"] == [2, 2]
    post(device, 98, 4)
    for listener in (*listeners.values(), pairs):
        listener.join()
    found = {edge: [row["data"] for row in listener.rows] for edge, listener in listeners.items()}
    assert found["v"] == [{"x": x, "y": 1.0} for x in (98.0, 99.0, 100.0, 101.0)]
    assert [row["total"] for row in found["sum"]] == [99.0, 100.0, 101.0, 102.0]
    assert [row["state"] for row in found["alarm.state"]] == [0, 0, 1, 1]
    assert [row["data"]["x"] for row in pairs.rows] == [[98.0, 99.0], [100.0, 101.0]]
    assert [last - first for first, last in (row["span"]["v"] for row in pairs.rows)] == [1, 1]
    eventually(lambda: len(device.events("level", "t")) == 4, "all rows made their events")
    assert [event["data"]["total"] for event in device.events("level", "t")] == [99.0, 100.0, 101.0, 102.0]


def test_a_flood_is_shown_in_part_and_the_rest_is_counted(device: Device) -> None:
    listener = Listener(device, "v", "?rate=5")
    for first in range(0, 5000, 500):
        post(device, first, 500)
    eventually(lambda: len(device.events("level", "t")) == 5000, "nothing is lost")

    def told() -> bool:
        post(device, 9000, 1)
        return listener.rows[-1]["data"]["x"] == 9000.0

    eventually(told, "a row comes after the flood")
    posted = int(device.metric("edgeflow_rows_total", input="v"))
    skipped = sum(row.get("skipped", 0) for row in listener.rows)
    assert len(listener.rows) + skipped <= posted
    assert skipped >= 4000
    assert len(listener.rows) < 500
    device.close()
    listener.join()


def test_a_tap_ends_with_its_worker_and_the_command_goes_on_with_the_next(device: Device) -> None:
    listener = Listener(device, "sum", "?rate=100")
    command = [
        sys.executable,
        "-m",
        "edgeflow_tools.cli",
        "tap",
        "level",
        "sum",
        "--to",
        device.url,
        "--json",
    ]
    tap = subprocess.Popen(
        [*command, "--count", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert tap.stderr is not None
        assert tap.stderr.readline() == "sum: rows of [1] float32\n"
        post(device, 1, 1)
        eventually(lambda: listener.rows, "a row comes")
        device.kill("worker")
        listener.join()

        def again() -> bool:
            post(device, 2, 1)
            return tap.poll() is not None

        eventually(again, "the command has its two rows")
    finally:
        tap.kill()
        out, _ = tap.communicate()
    assert [json.loads(line)["data"]["total"] for line in out.splitlines()] == [2.0, 3.0]


REFUSED = [
    ("level/tap/summ", 404, "no edge 'summ' (did you mean 'sum'?)"),
    ("level/tap/alarm", 404, "no edge 'alarm'"),
    ("other/tap/sum", 404, "no such pipeline"),
    ("level/tap/sum?rate=1000", 400, "rate is 0.01 to 100 rows a second"),
    ("level/tap/sum?rate=nan", 400, "rate is 0.01 to 100 rows a second"),
    ("level/tap/sum?rate=x", 400, "rate and limit are numbers"),
    ("level/tap/sum?limit=0", 400, "limit is 1 to"),
    ("level/tap/sum?speed=1", 400, "unknown parameter 'speed'; known: limit, rate"),
]


def test_what_cannot_be_listened_to_is_said(device: Device) -> None:
    for path, status, words in REFUSED:
        found, body = device.request("GET", f"/api/v1/pipelines/{path}")
        assert found == status, path
        assert words in json.loads(body)["error"]
    command = [sys.executable, "-m", "edgeflow_tools.cli", "tap", "level", "summ", "--to", device.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{device.url}: no edge 'summ' (did you mean 'sum'?)\n"
