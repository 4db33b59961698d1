"""Many connections under a small limit of descriptors: what there is room for is served, the rest told so."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest

from edgeflow_relay.descriptors import Shares, shares
from edgeflow_relay.mirror import _Poll
from tests.relay.conftest import Connect
from tests.relay.harness import Relay
from tests.support.processes import eventually

LIMIT = 240
STREAMS = 20  # what is left of them


@pytest.fixture
def small(own_relay: Relay) -> Relay:
    """A relay that may have few descriptors."""
    own_relay.before = ("prlimit", f"--nofile={LIMIT}:{LIMIT}")
    return own_relay.start()


def test_a_relay_takes_as_many_descriptors_as_it_may(own_relay: Relay) -> None:
    own_relay.before = ("prlimit", "--nofile=512:2000")
    own_relay.start()
    assert own_relay.process is not None
    assert psutil.Process(own_relay.process.pid).rlimit(psutil.RLIMIT_NOFILE) == (2000, 2000)


def test_streams_beyond_what_there_is_room_for_are_refused(small: Relay, connect: Connect) -> None:
    devices = [connect(small, f"d{number}") for number in range(STREAMS)]
    refused = connect(small, "one-more")
    assert refused.refusal[0] == "RESOURCE_EXHAUSTED"
    assert f"{STREAMS} streams are open" in refused.refusal[1]
    assert small.metric("edgeflow_relay_streams_refused_total") == 1
    devices[0].block(1)
    devices[0].await_ack(1)
    devices[1].close()
    eventually(lambda: small.metric("edgeflow_relay_devices_online") == STREAMS - 1, "one is gone")
    assert connect(small, "one-more").welcome


def test_connections_that_no_device_speaks_on_leave_room_for_the_rest(small: Relay, connect: Connect) -> None:
    device = connect(small, "first")
    with ExitStack() as stack:
        for _ in range(LIMIT):
            stack.enter_context(socket.create_connection(("127.0.0.1", small.grpc)))
        device.block(1)
        device.await_ack(1)
        assert small.request("GET", "/healthz")[0] == 200
        assert small.request("GET", "/api/v1/events?device=first")[0] == 200
    assert "Traceback" not in small.log


@pytest.mark.parametrize(
    ("limit", "found"),
    [
        (1 << 19, Shares(512, 544, (1 << 19) - 672, (1 << 19) - 640)),
        (1024, Shares(256, 288, 608, 640)),
        (LIMIT, Shares(60, 92, STREAMS, STREAMS + 32)),
        (64, Shares(16, 48, 1, 33)),
        (resource.RLIM_INFINITY, Shares(512, 544, (1 << 20) - 672, (1 << 20) - 640)),
    ],
)
def test_descriptors_are_shared_out(monkeypatch: pytest.MonkeyPatch, limit: int, found: Shares) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert shares() == found


@pytest.fixture
def far() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A pair of sockets whose descriptors are above those that select(2) knows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2000:
        pytest.skip(f"this process may have no more than {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    with ExitStack() as stack:
        while True:
            pair = tuple(stack.enter_context(one) for one in socket.socketpair())
            if pair[0].fileno() > 1024:
                break
        yield pair  # type: ignore[misc]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_mirror_hears_its_broker_on_any_descriptor(far: tuple[socket.socket, socket.socket]) -> None:
    one, other = far
    assert _Poll.select([one], [], [], 0) == ([], [], [])
    assert _Poll.select([one], [one], [], 0) == ([], [one], [])
    other.send(b"x")
    assert _Poll.select([one], [one], [], 0) == ([one], [one], [])
    other.close()
    assert _Poll.select([one], [], [], 0) == ([one], [], [])
    one.close()
    with pytest.raises(ValueError, match="negative"):
        _Poll.select([one], [], [], 0)
    with pytest.raises(TypeError):
        _Poll.select([None], [], [], 0)
