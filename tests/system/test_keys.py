"""What steps remember of keys, over a restart of the agent, whose rings are new ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgeflow_proto.rows import CONTENT_TYPE, sequence
from edgeflow_tools.cli import edgeflow
from edgeflow_tools.client import DEVICE, Server
from tests.support.device import Device
from tests.support.processes import eventually

pytestmark = pytest.mark.system
PIPELINE = """
edgeflow: 1
name: presses
inputs:
  level: {http: {}, key: machine, fields: [bar]}
steps:
  high: {from: level, threshold: {column: bar, above: 5, clear: 1}}
outputs:
  raised: {from: high.raised, event: {type: raised, flush: now}}
  cleared: {from: high.cleared, event: {type: cleared, flush: now}}
"""


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path).start()
    device.deploy("presses", PIPELINE)
    yield device
    device.close()


def post(device: Device, machine: str, bar: float, pipeline: str = "presses") -> None:
    body = json.dumps({"machine": machine, "bar": bar}).encode()
    path = f"/api/v1/pipelines/{pipeline}/inputs/level"
    rows = device.metric("edgeflow_rows_total", pipeline=pipeline)
    assert device.request("POST", path, body, "application/json")[0] == 202
    eventually(lambda: device.metric("edgeflow_rows_total", pipeline=pipeline) == rows + 1, "it is run")


def told(device: Device) -> list[tuple[str, str]]:
    events = device.events("presses")
    return [(event["type"], event["subject"]) for event in events if event["type"] in ("raised", "cleared")]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_each_key_keeps_its_own_memory_in_whatever_order_they_come_again(device: Device, end: str) -> None:
    for machine, bar in (("left", 9), ("right", 0)):
        post(device, machine, bar)
    eventually(lambda: len(told(device)) == 1, "left is raised")
    if end == "kill":
        device.kill_agentd()
    else:
        device.stop()
    device.start()
    eventually(lambda: device.pipeline("presses")["state"] == "running", "it runs again")
    for machine, bar in (("right", 0.5), ("new", 0.5), ("left", 0.5)):
        post(device, machine, bar)
    if end == "stop":  # after a kill it goes on from a copy that may be older
        eventually(lambda: len(told(device)) == 2, "left is cleared")
    assert told(device) in ([("raised", "left")], [("raised", "left"), ("cleared", "left")])


RECORDED = """
edgeflow: 1
name: recorded
inputs:
  level: {http: {}, key: machine, fields: [bar], record: all}
steps:
  own: {from: level, window: {size: 4, hop: 4}}
  mean: {from: own, stats: [mean]}
  mixed: {from: level, batch: 6}
  most: {from: mixed, stats: [max]}
outputs:
  means: {from: mean, event: {type: own, flush: now}}
  mosts: {from: most, event: {type: mixed, flush: now}}
"""


def called(*arguments: object) -> str:
    result = CliRunner().invoke(edgeflow, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_rows_behind_an_event_are_those_of_its_key_unless_a_step_mixed_keys(
    device: Device, tmp_path: Path
) -> None:
    device.deploy("recorded", RECORDED)
    for number in range(8):
        post(device, ("left", "right")[number in (1, 2, 5, 6)], number, "recorded")
    right, left = eventually(
        lambda: len(found := device.events("recorded", "own")) == 2 and found, "both have a window"
    )
    assert (left["subject"], right["subject"]) == ("left", "right")
    whole = f"/api/v1/events/{left['id']}/rows/level"
    eventually(lambda: len(device.text(whole).splitlines()) == 5, "all rows are recorded")
    path = f"/api/v1/events/{right['id']}/rows/level"
    lines = [line.split(",")[3:] for line in device.text(path).splitlines()]
    assert lines == [["machine", "bar"], *(["right", f"{bar}"] for bar in (1, 2, 5, 6))]
    with Server(DEVICE, device.url).body(path, CONTENT_TYPE) as body:
        assert [(rows.count, rows.keys) for rows in sequence(body)] == [(2, ("right",)), (2, ("right",))]
    for source in (("--to", device.url), ("--store", device.store)):
        said = called("trace", left["id"], *source, "--rows", tmp_path / "left.npy")
        np.testing.assert_array_equal(np.load(tmp_path / "left.npy"), [[0], [3], [4], [7]])
        assert said.startswith("4 rows of level: those of left among 8, in ")
        assert ".csv has times and keys too" in said
    assert "6 rows, 4 of right: 1 to 6 of ring" in called("trace", right["id"], "--to", device.url)
    assert "6 rows, 4 of right" in device.text(f"/events/{right['id']}")
    mixed = device.events("recorded", "mixed")[0]
    assert "6 rows: 0 to 5 of ring" in called("trace", mixed["id"], "--to", device.url)
    assert len(device.text(f"/api/v1/events/{mixed['id']}/rows/level").splitlines()) == 7


def test_rows_are_written_beside_what_else_is_asked_for(device: Device, tmp_path: Path) -> None:
    device.deploy("recorded", RECORDED)
    for number in range(4):
        post(device, "left", number, "recorded")
    event = eventually(lambda: device.events("recorded", "own"), "a window")[0]["id"]
    path = f"/api/v1/events/{event}/rows/level"
    eventually(lambda: len(device.text(path).splitlines()) == 5, "all rows are recorded")
    asked = ("trace", event, "--to", device.url)
    whole = json.loads(called(*asked, "--json"))
    file = tmp_path / "rows.csv"
    note, printed = called(*asked, "--rows", file, "--json").splitlines()
    assert (note, json.loads(printed)) == (f"4 rows of level: those of left among 4, in {file}", whole)
    _, *printed = called(*asked, "--rows", file, "--openlineage").splitlines()
    assert [json.loads(line)["eventType"] for line in printed] == ["START", "RUNNING"]
    alone = CliRunner().invoke(edgeflow, [*asked, "--input", "level"])
    assert (alone.exit_code, "give --rows FILE with it" in alone.output) == (2, True)
