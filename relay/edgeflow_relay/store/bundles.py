"""Uploaded bundles: every version of every pipeline, by the digest of its manifest."""

from __future__ import annotations

import time
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, func, select

from edgeflow_proto.bundle import Manifest
from edgeflow_relay.store.tables import pipelines


class Version(NamedTuple):
    """One upload of a pipeline."""

    digest: str
    manifest: Manifest
    uploaded_ns: int


def add(connection: Connection, manifest: Manifest) -> bool:
    """Make a bundle the latest of its name; return whether it is new."""
    key = (pipelines.c.name == manifest.name) & (pipelines.c.digest == manifest.digest)
    newest = connection.execute(select(func.max(pipelines.c.serial))).scalar() or 0
    values = {"serial": newest + 1, "uploaded_ns": time.time_ns()}
    if connection.execute(pipelines.update().where(key).values(values)).rowcount:
        return False
    values |= {"name": manifest.name, "digest": manifest.digest, "manifest": manifest.encode()}
    connection.execute(pipelines.insert().values(values))
    return True


def versions(connection: Connection, name: str | None = None) -> list[Version]:
    """Return the versions of a pipeline, or of all, latest first."""
    columns = select(pipelines.c.digest, pipelines.c.manifest, pipelines.c.uploaded_ns)
    statement = columns.order_by(pipelines.c.serial.desc())
    if name is not None:
        statement = statement.where(pipelines.c.name == name)
    return [  # checked when they came, by the rules of that day
        Version(digest, msgspec.json.decode(manifest, type=Manifest), uploaded)
        for digest, manifest, uploaded in connection.execute(statement)
    ]


def latest(connection: Connection, name: str) -> str | None:
    """Return the digest of a pipeline's latest version."""
    statement = select(pipelines.c.digest).where(pipelines.c.name == name)
    return connection.execute(statement.order_by(pipelines.c.serial.desc()).limit(1)).scalar()


def exists(connection: Connection, name: str, digest: str | None = None) -> bool:
    """Say whether there is such a pipeline, or such a version of it."""
    statement = select(pipelines.c.name).where(pipelines.c.name == name).limit(1)
    if digest is not None:
        statement = statement.where(pipelines.c.digest == digest)
    return connection.execute(statement).first() is not None
