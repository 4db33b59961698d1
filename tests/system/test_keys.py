"""What steps remember of keys, over a restart of the agent, whose rings are new ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

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


def post(device: Device, machine: str, bar: float) -> None:
    body = json.dumps({"machine": machine, "bar": bar}).encode()
    path = "/api/v1/pipelines/presses/inputs/level"
    rows = device.metric("edgeflow_rows_total", pipeline="presses")
    assert device.request("POST", path, body, "application/json")[0] == 202
    eventually(lambda: device.metric("edgeflow_rows_total", pipeline="presses") == rows + 1, "it is run")


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
