"""The trace of an event of a real device: the same on it, at its relay, and out of its data folder."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgeflow_proto.bundle import sha256
from edgeflow_tools.cli import edgeflow
from tests.support.device import Device
from tests.support.processes import eventually
from tests.support.relay import Relay

pytestmark = pytest.mark.system

PIPELINE = """
edgeflow: 1
name: posted
params: {limit: 5}
inputs:
  value: {http: {}, fields: [x]}
steps:
  double: {from: value, python: {function: double.f, columns: [twice]}}
  high: {from: double, filter: twice > $limit}
outputs:
  out: {from: high, event: {type: posted.out, severity: warning}}
"""
TIMED = """
edgeflow: 1
name: timed
inputs:
  value: {http: {}, fields: [x], time: at}
outputs:
  out: {from: value, event: {type: timed.out}}
"""
JSON = "application/json"
DOUBLE = "import numpy\n\n\ndef f(rows):\n    return numpy.multiply(rows, 2)\n"


class Plant:
    """A device and its relay, and the last of the events that the device decided."""

    def __init__(self, folder: Path) -> None:
        self.relay = Relay(folder / "relay").start()
        self.device = Device(folder, relay=self.relay.grpc).start()
        bundle = folder / "bundle"
        bundle.mkdir()
        (bundle / "pipeline.yaml").write_text(PIPELINE)
        (bundle / "double.py").write_text(DOUBLE)
        called("deploy", bundle, "--to", self.device.url)
        eventually(lambda: self.device.pipeline("posted")["state"] == "running", "it runs")
        self.event = self.post(1, 2, 3)

    def post(self, *values: float) -> str:
        """Post rows; return the id of the event of the last once the relay has it."""
        known = len(self.device.events("posted", "posted.out"))
        for value in values:
            body = json.dumps({"x": value}).encode()
            path = "/api/v1/pipelines/posted/inputs/value"
            assert self.device.request("POST", path, body, JSON)[0] == 202
        eventually(lambda: len(self.device.events("posted", "posted.out")) > known, "an event")
        event: str = self.device.events("posted", "posted.out")[-1]["id"]
        stored = eventually(
            lambda: event in [e["id"] for e in self.relay.events("posted")], "the relay has it"
        )
        assert stored
        return event

    def close(self) -> None:
        self.device.close()
        self.relay.stop()


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    plant = Plant(tmp_path_factory.mktemp("plant"))
    yield plant
    plant.close()


def called(*arguments: str | Path) -> str:
    result = CliRunner().invoke(edgeflow, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def traced(*arguments: str | Path) -> Any:
    return json.loads(called("trace", *arguments, "--json"))


def test_device_and_relay_explain_an_event_alike(plant: Plant) -> None:
    found = traced(plant.event, "--to", plant.device.url)
    assert found == traced(plant.event, "--relay", plant.relay.url)
    assert found == traced(plant.event, "--relay", plant.relay.url, "--device", "dev1")
    assert found["missing"] == ""
    assert [(step["name"], step["kind"]) for step in found["path"]] == [
        ("value", "http"), ("double", "python"), ("high", "filter"), ("out", "event"),
    ]  # fmt: skip
    assert found["path"][2]["params"] == {"limit": 5}
    assert found["path"][2]["options"]["where"] == "twice > 5"
    assert found["functions"] == {"double.py": sha256(DOUBLE.encode())}
    assert found["spans"]["value"] | {"generation": 0} == {"generation": 0, "first": 2, "last": 2, "count": 1}
    assert found["versions"]["python"] == platform.python_version()
    assert {"edgeflow", "numpy", "kernel", "machine"} <= found["versions"].keys()
    assert found["digest"] == plant.device.pipeline("posted")["digest"]


def test_it_is_printed_as_a_tree_and_as_openlineage(plant: Plant) -> None:
    tree = called("trace", plant.event, "--to", plant.device.url)
    assert tree.startswith(plant.event)
    assert "1 row: 2 to 2 of ring" in tree
    assert "from double  where=twice > 5 on_error=drop [$limit=5]" in tree
    lines = called("trace", plant.event, "--to", plant.device.url, "--openlineage").splitlines()
    start, wrote = map(json.loads, lines)
    assert (start["eventType"], wrote["eventType"]) == ("START", "RUNNING")
    assert wrote["outputs"][0]["facets"]["edgeflow_event"]["event"]["id"] == plant.event


def test_what_cannot_be_explained_is_told(plant: Plant) -> None:
    for server in (("--to", plant.device.url), ("--relay", plant.relay.url)):
        for event, words in (("0123-1", "no such event"), ("nonsense", "not an event id")):
            result = CliRunner().invoke(edgeflow, ["trace", event, *server])
            assert (result.exit_code, words in result.output) == (2, True)
    own = plant.device.events("_agent")[-1]["id"]
    found = traced(own, "--to", plant.device.url)
    assert "the agent said this itself" in found["missing"]
    result = CliRunner().invoke(edgeflow, ["trace", own, "--to", plant.device.url, "--openlineage"])
    assert result.exit_code == 2
    assert "there is no run to tell of" in result.output


def test_a_killed_worker_tells_its_set_up_no_second_time_and_another_parameter_does(plant: Plant) -> None:
    before = plant.device.events("posted", "edgeflow.pipeline.started")
    plant.device.kill("worker")
    event = plant.post(4)
    assert plant.device.events("posted", "edgeflow.pipeline.started") == before
    assert traced(event, "--to", plant.device.url)["told"]["id"] == before[-1]["id"]


def test_a_gap_among_rows_that_carry_old_times_is_told_at_the_time_it_was_met(plant: Plant) -> None:
    device = plant.device
    device.deploy("timed", TIMED)
    path = "/api/v1/pipelines/timed/inputs/value"
    body = json.dumps({"x": 1, "at": 1_600_000_000}).encode()
    assert device.request("POST", path, body, JSON)[0] == 202
    eventually(lambda: device.events("timed", "timed.out"), "a row is decided on")
    device.kill("io")
    eventually(lambda: device.request("POST", path, body, JSON)[0] == 202, "a new io takes a row")
    gap = eventually(lambda: device.events("timed", "edgeflow.gap"), "the gap is an event")[-1]
    started = device.events("timed", "edgeflow.pipeline.started")[-1]
    assert started["time"] <= gap["time"] <= datetime.now(UTC).isoformat()
    event = device.events("timed", "timed.out")[-1]
    assert event["time"].startswith("2020-09-13")
    assert gap["id"] in [loss["id"] for loss in traced(event["id"], "--to", device.url)["lost"]]


def test_the_relay_and_the_data_folder_explain_an_event_when_the_device_is_away(plant: Plant) -> None:
    found = traced(plant.event, "--to", plant.device.url)
    plant.device.stop()
    try:
        assert traced(plant.event, "--relay", plant.relay.url) == found
        assert traced(plant.event, "--store", plant.device.store) == found
        renamed = traced(plant.event, "--store", plant.device.store, "--device", "other")
        assert (found["device"], renamed["device"]) == ("dev1", "other")
        result = CliRunner().invoke(edgeflow, ["trace", plant.event, "--store", str(plant.device.folder)])
        assert (result.exit_code, "holds no journals" in result.output) == (2, True)
        for event, words in (("0123-1", "no such event"), ("nonsense", "not an event id")):
            result = CliRunner().invoke(edgeflow, ["trace", event, "--store", str(plant.device.store)])
            assert (result.exit_code, words in result.output) == (2, True)
        result = CliRunner().invoke(
            edgeflow, ["trace", "0123-1", "--store", str(plant.device.store), "--to", "http://x"]
        )
        assert "either --store or a server" in result.output
    finally:
        plant.device.start()
    eventually(lambda: plant.device.pipeline("posted")["state"] == "running", "it runs again")
    again = plant.post(5)
    assert traced(again, "--to", plant.device.url)["told"]["id"] != found["told"]["id"]
