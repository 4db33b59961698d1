"""Events in the database: each stored once, read by device, pipeline, type and time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import Select

from edgeflow_proto.event import Event
from edgeflow_relay.store.tables import events, journals, rejected_blocks


class Query(msgspec.Struct, frozen=True):
    """Which events: every set field narrows. `since` and `until` are RFC 3339, `after` a row number."""

    device: str = ""
    pipeline: str = ""
    type: str = ""
    since: str = ""
    until: str = ""
    after: int = 0
    limit: int = 100

    def apply(self, statement: Select[Any]) -> Select[Any]:
        """Return the statement narrowed to this query."""
        for column in ("device", "pipeline", "type"):
            if value := getattr(self, column):
                statement = statement.where(events.c[column] == value)
        if self.since:
            statement = statement.where(events.c.time >= self.since)
        if self.until:
            statement = statement.where(events.c.time < self.until)
        return statement.where(events.c.row > self.after)


def insert(connection: Connection, device: str, found: Iterable[Event]) -> int:
    """Store events that are not stored yet; return how many were new."""
    rows = [
        (
            e.source,
            e.id,
            device,
            e.pipeline,
            e.output,
            e.type,
            e.time,
            msgspec.json.encode(e.to_json()).decode(),
        )
        for e in found
    ]
    before = connection.exec_driver_sql(_COUNT).scalar_one() if connection.dialect.name == "sqlite" else 0
    result = connection.exec_driver_sql(_insert_sql(connection), rows)
    if connection.dialect.name != "sqlite":
        return result.rowcount
    return int(connection.exec_driver_sql(_COUNT).scalar_one() - before)


_COUNT = "SELECT total_changes()"
_COLUMNS = ("source", "id", "device", "pipeline", "output", "type", "time", "event")


def _insert_sql(connection: Connection) -> str:
    """Return the plain statement: the driver's own is three times as fast as one built per call."""
    dialect = sqlite.dialect() if connection.dialect.name == "sqlite" else postgresql.dialect()  # type: ignore[no-untyped-call]
    mark = "?" if dialect.name == "sqlite" else "%s"
    marks = ", ".join(mark for _ in _COLUMNS)
    return f"INSERT INTO events ({', '.join(_COLUMNS)}) VALUES ({marks}) ON CONFLICT DO NOTHING"


def acknowledge(connection: Connection, device: str, journal: str, pipeline: str, sequence: int) -> None:
    """Remember how far a journal is stored; never backwards."""
    key = (journals.c.id == journal) & (journals.c.device == device)
    known = connection.execute(select(journals.c.acked).where(key)).scalar()
    if known is None:
        connection.execute(
            journals.insert().values(id=journal, device=device, pipeline=pipeline, acked=sequence)
        )
    elif sequence > known:
        connection.execute(journals.update().where(key).values(acked=sequence))


def acked(connection: Connection, device: str, ids: list[str]) -> dict[str, int]:
    """Return how far each of a device's journals is stored, 0 for unknown ones."""
    where = (journals.c.device == device) & journals.c.id.in_(ids)
    found = {row.id: row.acked for row in connection.execute(select(journals).where(where))}
    return {journal: found.get(journal, 0) for journal in ids}


def reject(
    connection: Connection, device: str, journal: str, numbers: tuple[int, int], block: bytes, why: str
) -> None:
    """Keep a block that cannot be read, for a person to look at; `numbers` are its first and its count."""
    first, count = numbers
    connection.execute(
        rejected_blocks.insert().values(
            device=device,
            journal=journal,
            first=first,
            count=count,
            block=block,
            error=why,
            at_ns=time.time_ns(),
        )
    )


def page(connection: Connection, query: Query) -> list[tuple[int, str]]:
    """Return ``(row, CloudEvents JSON)`` in the order of arrival."""
    statement = query.apply(select(events.c.row, events.c.event)).order_by(events.c.row).limit(query.limit)
    return [(row.row, row.event) for row in connection.execute(statement)]


def latest(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return the newest events, newest first."""
    statement = select(events.c.event).order_by(events.c.row.desc()).limit(limit)
    return [json.loads(text) for text in connection.execute(statement).scalars()]


def count(connection: Connection, query: Query) -> int:
    """Return how many events a query has, its limit aside."""
    return int(connection.execute(query.apply(select(func.count()).select_from(events))).scalar_one())


def newest(connection: Connection) -> int:
    """Return the row number of the newest event, 0 when there is none."""
    return int(connection.execute(select(func.max(events.c.row))).scalar() or 0)
