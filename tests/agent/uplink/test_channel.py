"""The gRPC connection against a stand-in for the relay."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from edgeflow_agent.uplink.channel import GrpcStream
from edgeflow_agent.uplink.ports import BlobError, Lost
from edgeflow_proto.v1.device_pb2 import DeviceMessage, Hello
from tests.agent.uplink.standin import StandInRelay
from tests.support.processes import free_port


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 30))


def test_a_hello_is_welcomed(relay: StandInRelay) -> None:
    async def scene() -> None:
        stream = GrpcStream(f"127.0.0.1:{relay.port}")
        await stream.send(DeviceMessage(hello=Hello(device="d")))
        assert (await stream.receive()).WhichOneof("message") == "welcome"
        await stream.close()

    run(scene())
    assert relay.hellos[0].device == "d"


def test_nobody_there_is_lost_with_a_reason() -> None:
    async def scene() -> None:
        stream = GrpcStream(f"127.0.0.1:{free_port()}")
        with pytest.raises(Lost, match=r"^connection refused$"):
            await stream.send(DeviceMessage(hello=Hello(device="d")))
        await stream.close()

    run(scene())


def test_a_relay_that_goes_ends_a_wait_and_later_sends(relay: StandInRelay) -> None:
    async def scene() -> None:
        stream = GrpcStream(f"127.0.0.1:{relay.port}")
        await stream.send(DeviceMessage(hello=Hello(device="d")))
        await stream.receive()
        await asyncio.to_thread(relay.stop)
        with pytest.raises(Lost):
            await stream.receive()
        with pytest.raises(Lost):
            await stream.send(DeviceMessage(hello=Hello(device="d")))
        await stream.close()

    run(scene())


def test_blobs_come_from_an_offset_and_unknown_ones_not_at_all(relay: StandInRelay) -> None:
    digest = relay.add(bytes(range(256)) * 20)

    async def scene() -> None:
        stream = GrpcStream(f"127.0.0.1:{relay.port}")
        assert b"".join([chunk async for chunk in stream.fetch(digest, 100)]) == relay.blobs[digest][100:]
        with pytest.raises(BlobError, match="no such blob"):
            _ = [chunk async for chunk in stream.fetch("0" * 64, 0)]
        relay.cut_after = 1
        with pytest.raises(Lost, match="cut"):
            _ = [chunk async for chunk in stream.fetch(digest, 0)]
        await stream.close()

    run(scene())
