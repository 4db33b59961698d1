"""A relay whose disk is full: devices it knows come in, others are told why not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeflow_proto.v1 import device_pb2
from tests.relay.conftest import Connect
from tests.relay.harness import Relay
from tests.support.processes import eventually
from tests.support.small_disk import fill, small_disk

FULL = "database or disk is full"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes."""
    with small_disk(tmp_path / "disk", 4 << 20) as path:
        yield path


@pytest.fixture
def full(disk: Path, tmp_path: Path, connect: Connect) -> Iterator[tuple[Relay, Path]]:
    """A relay that knows a device, on a disk that is full, and the file that fills it."""
    relay = Relay(tmp_path / "relay")
    (relay.folder / "store").symlink_to(disk)
    relay.start()
    device = connect(relay, "known", journals=("j1",))
    device.block(1, 100)
    device.await_ack(100)
    device.close()
    relay.stop()
    relay.start()
    yield relay, fill(disk)
    relay.close()


def test_a_known_device_comes_in_and_what_it_said_is_stored_later(
    full: tuple[Relay, Path], connect: Connect
) -> None:
    relay, filler = full
    device = connect(relay, "known", journals=("j1",))
    assert device.welcomed == {"j1": 100}
    device.heartbeat(backlog=7)
    eventually(lambda: relay.device("known")["backlog"] == 7, "its heartbeat arrives")
    device.status(name="watch", digest="d" * 64, state="active")
    device.block(101, 100)
    eventually(lambda: relay.metric("edgeflow_relay_commits_failed_total"), "its events are refused")
    status, found = relay.json("GET", "/readyz")
    assert status == 503
    assert f"what devices say of themselves cannot be stored: {FULL}" in found["reasons"]
    assert f"events cannot be stored: {FULL}" in found["reasons"]
    assert f"events cannot be stored: {FULL}" in relay.request("GET", "/")[1].decode()
    assert relay.metric("edgeflow_relay_devices_online") == 1
    assert not device.done.is_set()
    filler.unlink()
    device.await_ack(200)
    eventually(lambda: relay.request("GET", "/readyz")[0] == 200, "it is ready again")
    relay.kill()
    relay.start()
    assert relay.device("known")["backlog"] == 7


def test_a_device_that_is_new_is_told_why_it_is_not_let_in(
    full: tuple[Relay, Path], connect: Connect
) -> None:
    relay, filler = full
    device = connect(relay, "new")
    assert device.refusal == ("UNAVAILABLE", f"the relay cannot store: {FULL}")
    assert relay.request("GET", "/readyz")[0] == 503
    assert "Traceback" not in relay.log
    filler.unlink()
    assert connect(relay, "new").welcome
    assert relay.request("GET", "/readyz")[0] == 200


def test_what_became_of_a_wish_is_stored_when_there_is_room(
    full: tuple[Relay, Path], connect: Connect
) -> None:
    relay, filler = full
    filler.unlink()
    document = (
        b"edgeflow: 1\nname: watch\ninputs:\n  a: {mqtt: x/a, decode: json, fields: [x], rate: 100 Hz}\n"
        b"steps:\n  w: {from: a, window: {size: 8, hop: 8}}\n  s: {from: w, stats: [mean]}\n"
        b"outputs:\n  o: {from: s, event: {type: watch.mean}}\n"
    )
    assert relay.json("PUT", "/api/v1/pipelines/watch", document, content_type="application/yaml")[0] == 201
    relay.json("PUT", "/api/v1/devices/known/pipelines/watch")
    device = connect(relay, "known", journals=("j1",))
    filler = fill(relay.folder / "store")
    device.send(
        device_pb2.DeviceMessage(
            status=device_pb2.DeploymentStatus(name="watch", digest="d" * 64, state="active")
        )
    )
    eventually(lambda: relay.request("GET", "/readyz")[0] == 503, "it says that it cannot store it")
    filler.unlink()
    device.heartbeat(backlog=1)
    eventually(lambda: relay.device("known")["deployments"].get("watch"), "it is stored")
    assert not device.done.is_set()
