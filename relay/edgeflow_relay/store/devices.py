"""Devices as they last were."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from sqlalchemy import Connection, bindparam, select

from edgeflow_relay.store.tables import devices


class Host(msgspec.Struct, frozen=True):
    """A device's own figures: sizes in bytes, °C of the hottest sensor, network bytes since boot."""

    cpu_percent: float | None
    memory_total: int
    memory_available: int
    disk_total: int
    disk_free: int
    temperature: float | None
    network_received: int
    network_sent: int
    load_1m: float | None


class Pipeline(msgspec.Struct, frozen=True):
    """A pipeline as it runs on a device."""

    name: str
    digest: str
    origin: str  # relay | http | folder
    state: str  # starting | running | failing | stopped | refused
    reason: str
    counters: dict[str, int]


class Heartbeat(msgspec.Struct, frozen=True):
    """How a device fared. `ahead_ns`: its wall clock less ours when it arrived."""

    host: Host | None
    pipelines: tuple[Pipeline, ...]
    backlog: int
    clock_quality: str
    ahead_ns: int


class About(msgspec.Struct, frozen=True):
    """What a device says of itself in its hello."""

    agent_version: str
    machine: str
    boot_id: str
    applied: int


class Known(msgspec.Struct, frozen=True):
    """A device as it is stored; times are nanoseconds since 1970."""

    name: str
    about: About
    first_seen_ns: int
    last_seen_ns: int
    heartbeat: Heartbeat | None


def load(connection: Connection) -> list[Known]:
    """Return all devices."""
    found = []
    for row in connection.execute(select(devices).order_by(devices.c.name)):
        about = About(row.agent_version, row.machine, row.boot_id, row.applied)
        found.append(Known(row.name, about, row.first_seen_ns, row.last_seen_ns, _heartbeat(row.heartbeat)))
    return found


def _heartbeat(stored: str) -> Heartbeat | None:
    """Read a heartbeat; one that another version wrote otherwise is not worth more than the next."""
    try:
        return msgspec.json.decode(stored, type=Heartbeat)
    except msgspec.MsgspecError:
        return None


def register(connection: Connection, known: Known) -> None:
    """Store what a device said in its hello."""
    values = msgspec.structs.asdict(known.about) | {"last_seen_ns": known.last_seen_ns}
    if connection.execute(devices.update().where(devices.c.name == known.name).values(values)).rowcount:
        return
    values |= {"name": known.name, "first_seen_ns": known.first_seen_ns, "revision": 0, "heartbeat": ""}
    connection.execute(devices.insert().values(values))


def save(connection: Connection, seen: Iterable[Known]) -> None:
    """Store what devices said of themselves, when they were last heard, and their newest heartbeats."""
    values = [
        msgspec.structs.asdict(known.about)
        | {
            "device": known.name,
            "last_seen_ns": known.last_seen_ns,
            "heartbeat": msgspec.json.encode(known.heartbeat).decode() if known.heartbeat else "",
        }
        for known in seen
    ]
    statement = devices.update().where(devices.c.name == bindparam("device"))
    connection.execute(statement, values)
