"""The real `link` process and a real relay with a slow way between them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeflow_agent.core import clock
from edgeflow_proto.event import Block, Clock, Column
from tests.agent.web.harness import AgentdStandIn, pipeline
from tests.support.processes import eventually
from tests.support.relay import Relay
from tests.support.slow import SlowWay

pytestmark = pytest.mark.system
RATE = 3_000  # bytes a second
SIZE = 64 << 10  # takes longer than a relay waits for heartbeats, and than a ping once waited for its answer


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    started = Relay(tmp_path / "relay", "--fleet", "test").start()
    yield started
    started.stop()


@pytest.fixture
def way(relay: Relay) -> Iterator[SlowWay]:
    made = SlowWay(relay.grpc, RATE)
    yield made
    made.close()


@pytest.fixture
def device(tmp_path: Path, way: SlowWay) -> Iterator[AgentdStandIn]:
    agentd = AgentdStandIn(tmp_path / "store", f"127.0.0.1:{way.port}", statuses=(pipeline("one"),))
    yield agentd
    agentd.close()


def wide(size: int) -> Block:
    """Return a block of one event with `size` bytes of values."""
    now = clock.boottime_ns()
    return Block(
        output="alarm", type="test.alarm", severity="warning", count=1,
        clock=Clock(clock.boot_id(), clock.wall_ns() - now, "synchronised"), t=struct.pack("<q", now),
        data=(Column("values", "float64", (size // 8,), bytes(size)),),
    )  # fmt: skip


def test_a_block_that_takes_long_arrives_over_one_connection(
    device: AgentdStandIn, relay: Relay, way: SlowWay
) -> None:
    device.start()
    eventually(lambda: device.counter("uplink_connected"), "the device is connected")
    device.commit("one", wide(SIZE))

    def online() -> bool:
        return bool(relay.json("/api/v1/devices/dev-1")["online"])

    eventually(lambda: not online(), "nothing is heard of it for a while")
    assert device.counter("uplink_connected") == 1
    eventually(lambda: len(relay.events("one")) == 1, "the block is at the relay")
    eventually(online, "it is heard again")
    assert way.connections == 1
