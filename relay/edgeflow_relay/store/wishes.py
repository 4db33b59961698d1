"""What is desired of each device, under a revision that only grows, and what the device said of it."""

from __future__ import annotations

import time
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, select

from edgeflow_relay.store import bundles
from edgeflow_relay.store.tables import desired, devices, outcomes, pipelines


class Wish(NamedTuple):
    """A pipeline that a device should run; `manifest` is the canonical form."""

    name: str
    digest: str
    manifest: bytes


class Outcome(msgspec.Struct, frozen=True):
    """The newest that a device said of a wish."""

    digest: str
    state: str  # fetching | verified | active | refused | removed
    reason: str
    revision: int
    at_ns: int


class Unknown(LookupError):
    """There is no such device, pipeline or version; the message says which."""


def want(connection: Connection, device: str, name: str, digest: str | None) -> tuple[str, int]:
    """Desire a version of a pipeline (the latest when `digest` is ``None``); return digest and revision.

    Desiring it again makes the device try again. Raises Unknown.
    """
    chosen = digest or bundles.latest(connection, name)
    if chosen is None:
        raise Unknown(f"no pipeline {name!r}")
    if not bundles.exists(connection, name, chosen):
        raise Unknown(f"no version {chosen[:64]!r} of pipeline {name!r}")
    revision = _next_revision(connection, device)
    connection.execute(desired.delete().where(desired.c.device == device, desired.c.pipeline == name))
    values = {"device": device, "pipeline": name, "digest": chosen, "since_ns": time.time_ns()}
    connection.execute(desired.insert().values(values))
    return chosen, revision


def drop(connection: Connection, device: str, name: str) -> int:
    """Desire a pipeline no longer, and forget what became of it; return the revision. Raises Unknown."""
    revision = _next_revision(connection, device)
    found = connection.execute(desired.delete().where(desired.c.device == device, desired.c.pipeline == name))
    if not found.rowcount:
        raise Unknown(f"nothing is desired of {device!r} under the name {name!r}")
    connection.execute(outcomes.delete().where(outcomes.c.device == device, outcomes.c.pipeline == name))
    return revision


def _next_revision(connection: Connection, device: str) -> int:
    """Count up; a device that has carried out more (this store was put back) would not follow less."""
    statement = select(devices.c.revision, devices.c.applied).where(devices.c.name == device)
    row = connection.execute(statement).first()
    if row is None:
        raise Unknown(f"no device {device!r}: it has to say hello first")
    revision: int = max(row) + 1
    connection.execute(devices.update().where(devices.c.name == device).values(revision=revision))
    return revision


def wishes(connection: Connection, device: str) -> tuple[int, list[Wish]]:
    """Return the revision and all that is desired of a device."""
    revision = connection.execute(select(devices.c.revision).where(devices.c.name == device)).scalar() or 0
    same = (desired.c.pipeline == pipelines.c.name) & (desired.c.digest == pipelines.c.digest)
    statement = (
        select(desired.c.pipeline, desired.c.digest, pipelines.c.manifest)
        .join_from(desired, pipelines, same)
        .where(desired.c.device == device)
        .order_by(desired.c.pipeline)
    )
    return revision, [Wish(*row) for row in connection.execute(statement)]


def tell(connection: Connection, device: str, name: str, outcome: Outcome) -> bool:
    """Keep what a device said of a wish; False when the relay knows no pipeline of that name."""
    if not bundles.exists(connection, name):
        return False
    connection.execute(outcomes.delete().where(outcomes.c.device == device, outcomes.c.pipeline == name))
    values = {"device": device, "pipeline": name, **msgspec.structs.asdict(outcome)}
    connection.execute(outcomes.insert().values(values))
    return True


class Deployments(NamedTuple):
    """All that concerns one device."""

    revision: int
    desired: dict[str, str]  # pipeline → digest
    outcomes: dict[str, Outcome]  # by pipeline


def deployments(connection: Connection, device: str | None = None) -> dict[str, Deployments]:
    """Return what is desired of each device, or of one, and what became of it."""
    names = select(devices.c.name, devices.c.revision)
    wanted = select(desired.c.device, desired.c.pipeline, desired.c.digest)
    told = select(outcomes)
    if device is not None:
        names = names.where(devices.c.name == device)
        wanted, told = wanted.where(desired.c.device == device), told.where(outcomes.c.device == device)
    found = {name: Deployments(revision, {}, {}) for name, revision in connection.execute(names)}
    for name, pipeline, digest in connection.execute(wanted.order_by(desired.c.pipeline)):
        found[name].desired[pipeline] = digest
    for row in connection.execute(told.order_by(outcomes.c.pipeline)):
        outcome = Outcome(row.digest, row.state, row.reason, row.revision, row.at_ns)
        found[row.device].outcomes[row.pipeline] = outcome
    return found
