"""How far readers of the events have come."""

from __future__ import annotations

from sqlalchemy import Connection, select

from edgeflow_relay.store.tables import cursors


def get(connection: Connection, name: str) -> int | None:
    """Return the newest row a reader is done with, ``None`` for one that never was here."""
    return connection.execute(select(cursors.c.row).where(cursors.c.name == name)).scalar()


def put(connection: Connection, name: str, row: int) -> None:
    """Note how far a reader has come."""
    if not connection.execute(cursors.update().where(cursors.c.name == name).values(row=row)).rowcount:
        connection.execute(cursors.insert().values(name=name, row=row))
