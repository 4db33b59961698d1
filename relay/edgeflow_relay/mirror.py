"""The mirror: every stored event published to MQTT, and every device's state retained. The only user of paho.

At least once: a cursor in the database moves only over events that the broker has acknowledged, so a relay or
a broker that is killed costs repeats, which receivers know by the event's id, and never an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import time
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from sqlalchemy import Connection, select

from edgeflow_proto.event import CONTENT_TYPE
from edgeflow_relay.counters import Counters
from edgeflow_relay.hub import Hub
from edgeflow_relay.registry import Registry
from edgeflow_relay.settings import Settings
from edgeflow_relay.store.database import Database
from edgeflow_relay.store.tables import cursors, devices, events

log = logging.getLogger("edgeflow.relay")
BATCH = 200  # events in flight: paho itself knows no bound after a reconnect
NAME = "mirror"
ACK_S = 15.0


class Mirror:
    """Publishes to the broker of the settings; does nothing where there is none."""

    def __init__(
        self, settings: Settings, database: Database, registry: Registry, hub: Hub, counters: Counters
    ) -> None:
        self._settings = settings
        self._database = database
        self._registry = registry
        self._hub = hub
        self._counters = counters
        self._up = asyncio.Event()
        self._told: dict[str, str] = {}  # device → status last published

    async def run(self) -> None:
        """Mirror until cancelled."""
        if self._settings.broker is None:
            return
        loop = asyncio.get_running_loop()
        client = self._client(loop)
        host, _, port = self._settings.broker.rpartition(":")
        client.connect_async(host, int(port))
        client.loop_start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._events(client))
                group.create_task(self._statuses(client))
        finally:
            client.disconnect()
            client.loop_stop()

    def _client(self, loop: asyncio.AbstractEventLoop) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.reconnect_delay_set(1, 10)
        if self._settings.broker_username is not None:
            client.username_pw_set(self._settings.broker_username, self._settings.broker_password)

        def connected(_c: Any, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
            loop.call_soon_threadsafe(self._connected, not reason.is_failure)

        def lost(_c: Any, _u: Any, _f: Any, _r: Any, _p: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._connected, False)

        client.on_connect, client.on_disconnect = connected, lost
        return client

    def _connected(self, up: bool) -> None:
        self._counters["mirror_connected"] = int(up)
        if up:
            self._told.clear()  # another broker may be there now
            self._up.set()
        else:
            self._up.clear()

    async def _events(self, client: paho.Client) -> None:
        cursor = await self._database.read(_cursor)
        while True:
            batch = await self._database.read(functools.partial(_after, cursor=cursor))
            self._counters["mirror_backlog"] = len(batch)
            if not batch:
                await self._hub.wait_stored(2.0)
                continue
            await self._up.wait()
            cursor = await self._send(client, batch, cursor)

    async def _send(self, client: paho.Client, batch: list[Any], cursor: int) -> int:
        """Publish a batch; returns how far it was acknowledged. Whoever follows waits for the rest."""
        infos = [client.publish(self._topic(row), row.event, 1, properties=_properties()) for row in batch]
        deadline = time.monotonic() + ACK_S
        while time.monotonic() < deadline and self._up.is_set() and not all(map(_done, infos)):  # noqa: ASYNC110 - paho acknowledges in a thread of its own
            await asyncio.sleep(0.002)
        done = next((i for i, info in enumerate(infos) if not _done(info)), len(infos))
        self._counters["mirror_published_total"] += done
        if done == 0:
            await asyncio.sleep(0.2)
            return cursor
        reached = int(batch[done - 1].row)
        await self._database.write(lambda connection: _move(connection, reached))
        return reached

    def _topic(self, row: Any) -> str:
        return f"edgeflow/{row.fleet}/{row.device}/events/{row.pipeline}/{row.output}"

    async def _statuses(self, client: paho.Client) -> None:
        while True:
            await self._up.wait()
            for device in await self._registry.fleet():
                status = json.dumps({"online": device["online"]})
                if self._told.get(device["name"]) != status:
                    topic = f"edgeflow/{device['fleet']}/{device['name']}/status"
                    client.publish(topic, status, qos=1, retain=True)
                    self._told[device["name"]] = status
            await self._registry.wait(10.0)


def _properties() -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = CONTENT_TYPE
    return properties


def _done(info: paho.MQTTMessageInfo) -> bool:
    with contextlib.suppress(ValueError, RuntimeError):  # not queued: the client is full or away
        return info.is_published()
    return False


def _cursor(connection: Connection) -> int:
    return int(connection.execute(select(cursors.c.row).where(cursors.c.name == NAME)).scalar() or 0)


def _move(connection: Connection, row: int) -> None:
    known = connection.execute(cursors.update().where(cursors.c.name == NAME).values(row=row))
    if not known.rowcount:
        connection.execute(cursors.insert().values(name=NAME, row=row))


def _after(connection: Connection, cursor: int) -> list[Any]:
    statement = (
        select(
            events.c.row, events.c.device, events.c.pipeline, events.c.output, events.c.event, devices.c.fleet
        )
        .select_from(events.join(devices, events.c.device == devices.c.name))
        .where(events.c.row > cursor)
        .order_by(events.c.row)
        .limit(BATCH)
    )
    return list(connection.execute(statement))
