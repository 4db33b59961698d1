"""Bundles of a real device: large ones that are copied while it is stopped, stored ones that are damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.device import Device
from tests.support.processes import eventually

pytestmark = pytest.mark.system

LARGE = 400 << 20
TEXT = """
edgeflow: 1
name: large
inputs: {host: {host: 1s, fields: [cpu]}}
outputs: {seen: {from: host, event: all}}
"""


def states(device: Device) -> dict[str, str]:
    return {told["name"]: told["state"] for told in device.json("/api/v1/pipelines")["pipelines"]}


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path)
    yield device
    device.close()


def test_an_agent_that_is_stopped_or_killed_while_it_copies_a_bundle_begins_anew(device: Device) -> None:
    device.start()
    made = device.folder / "large"
    made.mkdir()
    (made / "pipeline.yaml").write_text(TEXT)
    with (made / "model.bin").open("wb") as file:
        file.truncate(LARGE)
    made.rename(device.pipelines / "large")
    staging = device.store / "staging"
    eventually(lambda: any(staging.glob("large-*/*")), "it is copied")
    assert device.stop() == 0
    device.start()
    eventually(lambda: any(staging.glob("large-*/*")), "it is copied again")
    device.kill_agentd()
    device.start()
    eventually(lambda: states(device) == {"large": "running"}, "it runs in the end", 120)
    assert [path.stat().st_size for path in device.store.glob("bundles/*/model.bin")] == [LARGE]
    assert not list(staging.iterdir())


def test_a_stored_bundle_that_cannot_be_read_runs_again_when_it_is_deployed_again(device: Device) -> None:
    device.start()
    device.deploy("large", TEXT)
    (path,) = device.store.glob("bundles/*/pipeline.yaml")
    device.stop()
    whole = path.read_bytes()
    path.write_bytes(b"\0" * len(whole))
    device.start()
    eventually(lambda: device.pipeline("large")["state"] == "failing", "it cannot be run")
    device.deploy("large", TEXT)
    assert path.read_bytes() == whole
