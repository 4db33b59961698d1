"""The fleet: who said hello, how it is doing, what it should run and what became of that."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, select

from edgeflow_proto.bundle import Manifest, decode_manifest
from edgeflow_relay.store.database import Database
from edgeflow_relay.store.tables import bundles, desired, devices, statuses


class Wanted(msgspec.Struct, frozen=True):
    """What a device should run: the whole of it, under a revision that only grows."""

    revision: int
    pipelines: dict[str, tuple[str, bytes]]  # name → digest, manifest


class Registry:
    """Devices and deployments. Who is online is known here alone; the rest is in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.online: dict[str, Callable[[], None]] = {}  # device → wake its stream
        self._changed: set[asyncio.Event] = set()

    def changed(self) -> None:
        """Wake those who show the fleet."""
        for waiter in self._changed:
            waiter.set()

    async def wait(self, seconds: float) -> None:
        """Return at the next change, or after so long."""
        waiter = asyncio.Event()
        self._changed.add(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter.wait()
        except TimeoutError:
            pass
        finally:
            self._changed.discard(waiter)

    async def hello(self, device: str, fleet: str, hello: dict[str, Any]) -> None:
        """Register a device, or note that it is back."""

        def job(connection: Connection) -> None:
            values = {"fleet": fleet, "hello": json.dumps(hello), "seen_ns": time.time_ns()}
            known = connection.execute(devices.update().where(devices.c.name == device).values(**values))
            if not known.rowcount:
                connection.execute(devices.insert().values(name=device, heartbeat="{}", revision=0, **values))

        await self._database.write(job)
        self.changed()

    async def heartbeat(self, device: str, heartbeat: dict[str, Any]) -> None:
        """Keep a device's newest heartbeat."""
        values = {"heartbeat": json.dumps(heartbeat), "seen_ns": time.time_ns()}
        statement = devices.update().where(devices.c.name == device).values(**values)
        await self._database.write(lambda connection: connection.execute(statement).rowcount)
        self.changed()

    async def status(self, device: str, status: dict[str, Any]) -> None:
        """Keep what became of a deployment."""
        key = (statuses.c.device == device) & (statuses.c.name == status["name"])

        def job(connection: Connection) -> None:
            connection.execute(delete(statuses).where(key))
            connection.execute(statuses.insert().values(device=device, at_ns=time.time_ns(), **status))

        await self._database.write(job)
        self.changed()

    async def wanted(self, device: str) -> Wanted:
        """Return what a device should run."""

        def job(connection: Connection) -> Wanted:
            revision = connection.execute(select(devices.c.revision).where(devices.c.name == device)).scalar()
            join = desired.join(bundles, desired.c.digest == bundles.c.digest)
            rows = connection.execute(
                select(desired.c.name, desired.c.digest, bundles.c.manifest)
                .select_from(join)
                .where(desired.c.device == device)
            )
            return Wanted(revision or 0, {row.name: (row.digest, row.manifest) for row in rows})

        return await self._database.read(job)

    async def want(self, device: str, name: str, digest: str | None) -> int | None:
        """Set (or with ``None`` end) what a device should run under a name; returns the new revision.

        Returns ``None`` for an unknown device.
        """

        def job(connection: Connection) -> int | None:
            revision = connection.execute(select(devices.c.revision).where(devices.c.name == device)).scalar()
            if revision is None:
                return None
            connection.execute(delete(desired).where((desired.c.device == device) & (desired.c.name == name)))
            if digest is not None:
                connection.execute(desired.insert().values(device=device, name=name, digest=digest))
            connection.execute(devices.update().where(devices.c.name == device).values(revision=revision + 1))
            return int(revision) + 1

        revision = await self._database.write(job)
        if device in self.online:
            self.online[device]()
        self.changed()
        return revision

    # bundles

    async def upload(self, manifest: Manifest) -> None:
        """Remember a bundle; uploaded again it becomes the latest of its name."""

        def job(connection: Connection) -> None:
            connection.execute(delete(bundles).where(bundles.c.digest == manifest.digest))
            connection.execute(
                bundles.insert().values(
                    name=manifest.name,
                    digest=manifest.digest,
                    manifest=manifest.encode(),
                    uploaded_ns=time.time_ns(),
                )
            )

        await self._database.write(job)
        self.changed()

    async def versions(self, name: str | None = None) -> list[tuple[Manifest, int]]:
        """Return bundles with the time of their upload, newest first."""

        def job(connection: Connection) -> list[tuple[Manifest, int]]:
            statement = select(bundles).order_by(bundles.c.row.desc())
            if name is not None:
                statement = statement.where(bundles.c.name == name)
            return [(decode_manifest(row.manifest), row.uploaded_ns) for row in connection.execute(statement)]

        return await self._database.read(job)

    # what is shown

    async def fleet(self) -> list[dict[str, Any]]:
        """Return every device as the API shows it."""
        return await self._database.read(self._fleet)

    async def device(self, name: str) -> dict[str, Any] | None:
        """Return one device as the API shows it."""
        return next((found for found in await self.fleet() if found["name"] == name), None)

    def _fleet(self, connection: Connection) -> list[dict[str, Any]]:
        wanted: dict[str, dict[str, str]] = {}
        for row in connection.execute(select(desired)):
            wanted.setdefault(row.device, {})[row.name] = row.digest
        told: dict[str, dict[str, Any]] = {}
        for row in connection.execute(select(statuses)):
            told.setdefault(row.device, {})[row.name] = {
                "digest": row.digest, "state": row.state, "reason": row.reason, "revision": row.revision,
            }  # fmt: skip
        rows = connection.execute(select(devices).order_by(devices.c.name))
        return [self._device(row, wanted.get(row.name, {}), told.get(row.name, {})) for row in rows]

    def _device(self, row: Any, wanted: dict[str, str], told: dict[str, Any]) -> dict[str, Any]:
        heartbeat = json.loads(row.heartbeat)
        return {
            "name": row.name, "fleet": row.fleet, "online": row.name in self.online, "seen_ns": row.seen_ns,
            "revision": row.revision, "hello": json.loads(row.hello), "host": heartbeat.get("host"),
            "clock_quality": heartbeat.get("clock_quality"), "backlog": heartbeat.get("backlog"),
            "pipelines": heartbeat.get("pipelines", []), "desired": wanted, "deployments": told,
        }  # fmt: skip
