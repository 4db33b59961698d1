"""Events in the database: each stored once, read in the order of their arrival."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, func, select

from edgeflow_relay.store.tables import events


class Row(NamedTuple):
    """An event as it is stored; `body` is its CloudEvents JSON."""

    source: str
    id: str
    device: str
    pipeline: str
    output: str
    type: str
    time_ns: int
    body: str


class Query(msgspec.Struct, frozen=True):
    """Which events: every field that is set narrows. Times are those of the events, `until_ns` excluded."""

    device: str | None = None
    pipeline: str | None = None
    type: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None

    @property
    def conditions(self) -> Iterable[ColumnElement[bool]]:
        """Yield them for a statement."""
        for name in ("device", "pipeline", "type"):
            value = getattr(self, name)
            if value is not None:
                yield events.c[name] == value
        if self.since_ns is not None:
            yield events.c.time_ns >= self.since_ns
        if self.until_ns is not None:
            yield events.c.time_ns < self.until_ns


class Page(NamedTuple):
    """Some of what a query finds. The next page is after row `next`; `more` says that it is not empty yet."""

    rows: list[tuple[int, str]]  # row number, CloudEvents JSON
    next: int
    more: bool


def add(connection: Connection, rows: Sequence[Row]) -> int:
    """Store those that are not stored yet; return how many that were."""
    if not rows:
        return 0
    # The driver's own statement costs a third of one that is built and bound by SQLAlchemy.
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    sql = (
        f"INSERT INTO events ({', '.join(Row._fields)}) VALUES ({', '.join(mark for _ in Row._fields)})"
        " ON CONFLICT DO NOTHING"
    )
    return connection.exec_driver_sql(sql, [tuple(row) for row in rows]).rowcount


def page(connection: Connection, query: Query, after: int, limit: int) -> Page:
    """Return the first `limit` events behind row `after`."""
    end = newest_row(connection)
    if query.since_ns is not None and after == 0:
        after = _before(connection, query.since_ns, end)
    statement = (
        select(events.c.row, events.c.body)
        .where(events.c.row > after, events.c.row <= end, *query.conditions)
        .order_by(events.c.row)
        .limit(limit)
    )
    rows = [(row, body) for row, body in connection.execute(statement)]
    full = len(rows) == limit
    reached = rows[-1][0] if full else max(end, after)
    return Page(rows, reached, full and reached < end)


def _before(connection: Connection, since_ns: int, end: int) -> int:
    """Return a row before all events since a moment, by an index: rows stand in the order of arrival."""
    # Plainly of `row`, SQLite would walk the table from its beginning to the first match.
    first = select(func.min(events.c.row + 0)).where(events.c.time_ns >= since_ns)
    row = connection.execute(first).scalar()
    return end if row is None else int(row) - 1


def last(connection: Connection, query: Query, count: int) -> Page:
    """Return the newest `count` events, oldest first."""
    end = newest_row(connection)
    statement = (
        select(events.c.row, events.c.body)
        .where(events.c.row <= end, *query.conditions)
        .order_by(events.c.row.desc())
        .limit(count)
    )
    rows = [(row, body) for row, body in connection.execute(statement)]
    return Page(rows[::-1], end, False)


def count(connection: Connection, query: Query) -> int:
    """Return how many events a query finds."""
    statement = select(func.count()).select_from(events).where(*query.conditions)
    return int(connection.execute(statement).scalar_one())


def newest_row(connection: Connection) -> int:
    """Return the number of the newest row, 0 when there is none."""
    return int(connection.execute(select(func.max(events.c.row))).scalar() or 0)


class ToMirror(NamedTuple):
    """An event with what its topic is made of."""

    row: int
    device: str
    pipeline: str
    output: str
    body: str


def to_mirror(connection: Connection, after: int, limit: int) -> tuple[list[ToMirror], int]:
    """Return the first `limit` events behind row `after`, and the newest row there is."""
    end = newest_row(connection)
    columns: list[Any] = [events.c[name] for name in ToMirror._fields]
    statement = (
        select(*columns).where(events.c.row > after, events.c.row <= end).order_by(events.c.row).limit(limit)
    )
    return [ToMirror(*row) for row in connection.execute(statement)], end
