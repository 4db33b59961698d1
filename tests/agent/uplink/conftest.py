"""A real `link` process and a stand-in for its relay; the test plays `agentd`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.uplink.standin import StandInRelay
from tests.agent.web.harness import AgentdStandIn, pipeline


@pytest.fixture
def relay() -> Iterator[StandInRelay]:
    standin = StandInRelay().start()
    yield standin
    standin.stop()


@pytest.fixture
def device(tmp_path: Path, relay: StandInRelay) -> Iterator[AgentdStandIn]:
    """`link` with a stand-in for the relay, not started yet."""
    agentd = AgentdStandIn(tmp_path / "store", f"127.0.0.1:{relay.port}", statuses=(pipeline("one"),))
    yield agentd
    agentd.close()
