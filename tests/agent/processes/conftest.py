"""A broker, an `io` process, and a client beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.processes.io_standin import AgentdStandIn, Client
from tests.support.mosquitto import Mosquitto


@pytest.fixture
def broker(mosquitto: Path, tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(mosquitto, tmp_path / "broker").start()
    yield broker
    broker.stop()


@pytest.fixture
def agentd(broker: Mosquitto, tmp_path: Path) -> Iterator[AgentdStandIn]:
    agentd = AgentdStandIn(tmp_path, brokers={"local": {"port": broker.port}})
    yield agentd
    agentd.close()


@pytest.fixture
def client(broker: Mosquitto) -> Iterator[Client]:
    client = Client(broker.port, "out/#")
    yield client
    client.close()
