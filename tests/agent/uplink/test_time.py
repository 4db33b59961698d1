"""The uplink asks a real relay what time it is, for as long as their stream lasts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from edgeflow_agent.config import Settings
from edgeflow_agent.core import board, clock
from edgeflow_agent.core.bell import Bell
from edgeflow_agent.store.readers import Journals
from edgeflow_agent.uplink import client
from edgeflow_agent.uplink.channel import GrpcStream
from edgeflow_agent.uplink.client import Parts, Uplink
from edgeflow_agent.uplink.memory import Memory
from edgeflow_agent.uplink.wishes import Wishes
from edgeflow_proto.timeline import Sync
from edgeflow_proto.v1.device_pb2 import DeviceMessage, Heartbeat
from edgeflow_proto.v1.relay_pb2 import TimeAnswer
from tests.agent.uplink.test_wishes import World
from tests.support.relay import Relay

pytestmark = pytest.mark.system


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    relay = Relay(tmp_path / "relay").start()
    yield relay
    relay.stop()


def beat(backlog: int) -> DeviceMessage:
    passed = clock.boottime_ns()
    return DeviceMessage(
        heartbeat=Heartbeat(boot_time_ns=passed, wall_time_ns=time.time_ns(), backlog=backlog)
    )


def parts(folder: Path, relay: str, heard: list[Sync]) -> Parts:
    world = World(folder)
    memory = Memory(folder / "memory")
    slot = board.Board(board.create()).slot(0)
    return Parts(
        Settings(), lambda: GrpcStream(relay), Journals(folder), memory, Wishes(memory, world, world.tell),
        slot, Bell(), beat, relay_time=heard.append,
    )  # fmt: skip


@asynccontextmanager
async def connected(made: Parts) -> AsyncIterator[Uplink]:
    uplink = Uplink(made)
    running = asyncio.create_task(uplink.run())
    yield uplink
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def until(heard: list[Sync], count: int) -> None:
    async with asyncio.timeout(20):
        while len(heard) < count:  # noqa: ASYNC110 - what it waits for rings no bell
            await asyncio.sleep(0.01)


def test_the_relay_is_asked_for_the_time_again_on_a_stream_that_lasts(
    tmp_path: Path, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "TIME_S", 0.3)
    monkeypatch.setattr(client, "HEARTBEAT_S", (0.1, 0.1))
    heard: list[Sync] = []

    async def scene() -> None:
        async with connected(parts(tmp_path, f"127.0.0.1:{relay.grpc}", heard)):
            await until(heard, 4)

    asyncio.run(scene())
    true = time.time_ns() - clock.boottime_ns()
    assert all(abs(sync.offset_ns - true) <= sync.uncertainty_ns + 10**6 for sync in heard)
    assert all(sync.quality == "relay" for sync in heard)
    assert all(later.boottime_ns - sync.boottime_ns >= 2 * 10**8 for sync, later in pairwise(heard))
    assert b"edgeflow_relay_streams_total 1\n" in relay.json("/metrics", raw=True)


@pytest.mark.parametrize("asked", [-1, 0, 1 << 62], ids=["negative", "none", "yet to come"])
def test_an_answer_to_what_was_never_asked_says_nothing(tmp_path: Path, asked: int) -> None:
    heard: list[Sync] = []
    uplink = Uplink(parts(tmp_path, "127.0.0.1:1", heard))
    answer = TimeAnswer(boot_time_ns=asked, wall_time_ns=time.time_ns())
    uplink.take_time(answer)
    assert heard == []
    uplink.take_time(TimeAnswer(boot_time_ns=clock.boottime_ns(), wall_time_ns=time.time_ns()))
    assert len(heard) == 1
