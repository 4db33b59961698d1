"""Who is there: the devices that ever said hello, which of them are connected, and how they fare.

What changes with every heartbeat is kept in memory and written now and then, all devices in one commit.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Protocol

import msgspec
from sqlalchemy.exc import DBAPIError

from edgeflow_relay.bell import Bell
from edgeflow_relay.boots import RIVAL_S
from edgeflow_relay.store import devices
from edgeflow_relay.store.database import Database
from edgeflow_relay.store.devices import About, Heartbeat, Known
from edgeflow_relay.store.health import refusal

log = logging.getLogger("edgeflow.relay")
SAVE_S = 10.0
REFUSED = "what devices say of themselves cannot be stored"


class Stream(Protocol):
    """A device's connection."""

    def wish(self) -> None:
        """Send what is desired of the device: it changed."""

    def replaced(self) -> None:
        """End: the device has opened another stream."""


class Registry:
    """All devices. `changed` rings when one came, went or was heard."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, Known] = {}
        self._streams: dict[str, Stream] = {}
        self._unsaved: set[str] = set()
        self._claimed: dict[str, int] = {}  # name → until when
        self.changed = Bell()

    async def load(self) -> None:
        """Read what is known from before."""
        self._known = {known.name: known for known in await self._database.read(devices.load)}

    @property
    def known(self) -> Mapping[str, Known]:
        """Every device, by name."""
        return self._known

    def __iter__(self) -> Iterator[Known]:
        """Iterate over the devices in the order of their names."""
        return iter(sorted(self._known.values(), key=lambda known: known.name))

    def online(self, name: str) -> bool:
        """Say whether a device is connected."""
        return name in self._streams

    @property
    def streams(self) -> Mapping[str, Stream]:
        """The open streams, by device."""
        return self._streams

    async def register(self, name: str, about: About) -> None:
        """Note a hello. Raises DBAPIError or MemoryError when the store refuses a device that is new.

        One that is known may come in all the same; what it said is written when the store takes it.
        """
        now = time.time_ns()
        before = self._known.get(name)
        first = before.first_seen_ns if before else now
        known = Known(name, about, first, now, before.heartbeat if before else None)
        try:
            await self._database.write(lambda connection: devices.register(connection, known))
            self._database.health.works(REFUSED)
        except (DBAPIError, MemoryError) as error:
            if not self._refused(error) or before is None:
                raise
            self._unsaved.add(name)
        self._known[name] = known

    def _refused(self, error: Exception) -> bool:
        """Note that the store refused; False where it was something else."""
        why = refusal(error)
        if why and self._database.health.refused(REFUSED, why):
            log.error("%s: %s; trying again", REFUSED, why)
        return bool(why)

    def connect(self, name: str, stream: Stream) -> bool:
        """Make `stream` the one of a registered device; an older one ends. Returns whether there was one."""
        older = self._streams.get(name)
        self._streams[name] = stream
        self.changed.ring()
        if older is not None:
            older.replaced()
        return older is not None

    def disconnect(self, name: str, stream: Stream) -> None:
        """Note that a stream is gone."""
        if self._streams.get(name) is stream:
            del self._streams[name]
            self._unsaved.add(name)
            self.changed.ring()

    def claimed(self, name: str, seconds: float = RIVAL_S) -> None:
        """Note that another agent than the one connected calls itself so; it is told for `seconds`."""
        self._claimed[name] = max(self._claimed.get(name, 0), time.time_ns() + int(seconds * 1e9))
        self.changed.ring()

    def rival(self, name: str) -> bool:
        """Say whether another agent has claimed a device's name in the last minutes."""
        return time.time_ns() < self._claimed.get(name, 0)

    def heard(self, name: str, heartbeat: Heartbeat | None = None) -> None:
        """Note that a device is alive, and how it fares."""
        known = self._known[name]
        self._known[name] = msgspec.structs.replace(
            known, last_seen_ns=time.time_ns(), heartbeat=heartbeat or known.heartbeat
        )
        self._unsaved.add(name)
        if heartbeat is not None:
            self.changed.ring()

    def wish(self, name: str) -> None:
        """Send a device what is desired of it, if it is there."""
        if name in self._streams:
            self._streams[name].wish()
        self.changed.ring()

    async def run(self) -> None:
        """Write what was heard, now and then, until cancelled."""
        while True:
            await asyncio.sleep(SAVE_S)
            await self.save()

    async def save(self) -> None:
        """Write what was heard; what the store refuses is tried the next time."""
        names, self._unsaved = self._unsaved, set()
        known = [self._known[name] for name in names]
        try:
            if known:
                await self._database.write(lambda connection: devices.save(connection, known))
                self._database.health.works(REFUSED)
        except (DBAPIError, MemoryError) as error:
            self._unsaved |= names
            if not self._refused(error):
                raise
