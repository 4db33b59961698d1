"""A real agent on a disk that lost pages: it runs, tells what is gone, and passes on the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeflow_agent.store import segment
from edgeflow_agent.store.journal import Journal
from edgeflow_proto.event import Block, Clock, Column
from tests.agent.store.test_damage import lose
from tests.support.device import Device
from tests.support.processes import eventually
from tests.support.relay import Relay

pytestmark = pytest.mark.system

TEXT = """
edgeflow: 1
name: watch
inputs: {host: {host: 50ms, fields: [cpu]}}
steps: {all: {from: host, filter: cpu >= 0}}
outputs: {seen: {from: all, event: watch.seen}}
"""


def wide(folder: Path, count: int) -> None:
    """Write events of 32 kB each."""
    folder.mkdir(parents=True)
    journal = Journal(folder, 1 << 30)
    data = (Column("x", "float32", (8000,), bytes(32_000)),)
    clock = Clock("boot", 0, "unsynchronised")
    for _ in range(count):
        journal.commit(
            [Block(output="o", type="t", severity="info", count=1, clock=clock, t=bytes(8), data=data)]
        )
    journal.close()


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    relay = Relay(tmp_path / "relay").start()
    yield relay
    relay.stop()


def test_a_lost_page_stops_neither_the_page_nor_the_uplink_and_is_told(tmp_path: Path, relay: Relay) -> None:
    journal = tmp_path / "store" / "journals" / "gone"
    wide(journal.with_name("whole"), 10)
    wide(journal, 400)
    paths = segment.names(journal)
    assert len(paths) > 1
    lose(paths[0])
    device = Device(tmp_path, relay=relay.grpc).start()
    try:
        device.deploy("watch", TEXT)
        (told,) = eventually(lambda: device.events("_agent", "edgeflow.gap"), "the damage is told")
        assert told["data"] == {
            "reason": "journal_damaged",
            "pipeline": "gone",
            "segment": paths[0].name,
            "first": 1,
            "last": segment.number(paths[1]) - 1,
        }
        assert not paths[0].exists()
        assert device.metric("edgeflow_journal_damaged_total", pipeline="gone") == 1
        rest = device.json("/api/v1/events?pipeline=gone&limit=5")["events"]
        assert int(rest[0]["sequence"]) == segment.number(paths[1])
        waiting = lambda: device.json("/api/v1/device")["relay"]["backlog"]  # noqa: E731
        eventually(lambda: relay.events("watch") and waiting() < 10, "the relay gets what is there")
        link = device.child("link")
        assert device.json("/api/v1/events?pipeline=whole&limit=1")["events"]
        assert device.child("link") == link
        assert "was killed" not in device.log
    finally:
        device.close()


@pytest.mark.parametrize("what", [bytes(4096), b"\xa5" * 4096], ids=["zeroed", "garbled"])
def test_a_device_whose_state_lost_pages_runs_what_it_ran(tmp_path: Path, what: bytes) -> None:
    device = Device(tmp_path).start()
    try:
        device.deploy("watch", TEXT)
        device.stop()
        state = device.store / "state" / "data.mdb"
        content = state.read_bytes()
        state.write_bytes(content[:8192] + what * (len(content) // 4096 - 2))
        device.start()
        eventually(lambda: device.pipeline("watch")["state"] == "running", "it runs again")
        assert eventually(lambda: device.events("_agent", "edgeflow.state.damaged"), "that is told")
    finally:
        device.close()
