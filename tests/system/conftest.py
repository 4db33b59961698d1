"""Brokers and devices for the system tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.device import Device
from tests.support.mosquitto import Mosquitto


@pytest.fixture
def broker(mosquitto: Path, tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(mosquitto, tmp_path / "broker").start()
    yield broker
    broker.stop()


@pytest.fixture
def device(broker: Mosquitto, tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path, broker=broker.port)
    yield device
    device.close()
