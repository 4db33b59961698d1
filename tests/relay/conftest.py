"""Relays and devices for the relay's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.relay.harness import FakeDevice, Relay


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """One relay for the tests of a file; they keep apart by the names of their devices and pipelines."""
    relay = Relay(tmp_path_factory.mktemp("relay")).start()
    yield relay
    assert relay.stop() == 0


@pytest.fixture
def own_relay(tmp_path: Path) -> Iterator[Relay]:
    """A relay for one test, not started."""
    relay = Relay(tmp_path / "relay")
    yield relay
    relay.close()


Connect = Callable[..., FakeDevice]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Open devices' streams, closed at the end."""
    devices: list[FakeDevice] = []

    def open_device(relay: Relay, name: str = "dev-1", *, hello: bool = True, **values: object) -> FakeDevice:
        device = FakeDevice(relay, name, **values)  # type: ignore[arg-type]
        devices.append(device)
        return device.open(hello=hello)

    yield open_device
    for device in devices:
        device.close()
