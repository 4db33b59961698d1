"""This machine's own figures, for the relay and the device's page. Source: psutil."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import psutil

_FRESH_S = 1.0


class Host(msgspec.Struct, frozen=True):
    """Sizes in bytes; °C of the hottest sensor, ``None`` where there is none; network bytes since boot."""

    cpu_percent: float
    memory_total: int
    memory_available: int
    disk_total: int
    disk_free: int
    temperature: float | None
    network_received: int
    network_sent: int
    load_1m: float


class Probe:
    """Reads the figures, at most once a second: CPU is the share since the reading before."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._at = 0.0
        psutil.cpu_percent()
        self._host = self._read()

    def read(self) -> Host:
        """Return figures no older than a second."""
        now = time.monotonic()
        if now - self._at >= _FRESH_S:
            self._at, self._host = now, self._read()
        return self._host

    def _read(self) -> Host:
        memory = psutil.virtual_memory()
        network = psutil.net_io_counters(pernic=True).values()
        total, free = self._disk()
        return Host(
            cpu_percent=psutil.cpu_percent(), memory_total=memory.total, memory_available=memory.available,
            disk_total=total, disk_free=free, temperature=_temperature(),
            network_received=sum(card.bytes_recv for card in network),
            network_sent=sum(card.bytes_sent for card in network), load_1m=psutil.getloadavg()[0],
        )  # fmt: skip

    def _disk(self) -> tuple[int, int]:
        try:
            usage = psutil.disk_usage(str(self._store))
        except OSError:
            return 0, 0
        return usage.total, usage.free


def _temperature() -> float | None:
    try:
        sensors = psutil.sensors_temperatures()
    except OSError:
        return None
    found = [reading.current for readings in sensors.values() for reading in readings]
    return max(found, default=None)
