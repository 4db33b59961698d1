"""What explains an event, out of the events of its journal.

A device sends a journal in its order, so rows of one journal stand in the order of its sequence numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from edgeflow_proto import event, setup
from edgeflow_proto.trace import LOSSES, MAX_LOSSES, Trace, trace
from edgeflow_relay.store.tables import events, journals, own


class SeveralError(LookupError):
    """Several devices have an event of that id; the message names them."""


def find(connection: Connection, event_id: str, device: str | None = None) -> Trace | None:
    """Return the trace of an event, of this device if one is named, ``None`` when it is not stored.

    Raises ValueError for what is no event's id, and SeveralError where the device must be named: a storage
    card that was copied holds another's journal.
    """
    journal, _ = event.identity(event_id)
    found = list(_found(connection, journal, event_id, device))
    if len(found) > 1:
        raise SeveralError(", ".join(sorted(source.split("/", 3)[2] for source, _, _ in found)))
    for source, row, body in found:
        told = _told(connection, source, row)
        if told is not None and event.identity(told["id"])[0] != journal:
            told = None
        return trace(msgspec.json.decode(body), told, _around(connection, source, row))
    return None


def _found(
    connection: Connection, journal: str, event_id: str, device: str | None
) -> Iterator[tuple[str, int, str]]:
    """Yield source, row and body of the events of that id."""
    owners = select(journals.c.device, journals.c.pipeline).where(journals.c.journal == journal)
    if device is not None:
        owners = owners.where(journals.c.device == device)
    for owner in connection.execute(owners).all():
        source = event.source(owner.device, owner.pipeline)
        wanted = (events.c.source == source) & (events.c.id == event_id)
        for row, body in connection.execute(select(events.c.row, events.c.body).where(wanted)):
            yield source, row, body


def _told(connection: Connection, source: str, row: int) -> dict[str, Any] | None:
    return next(_own(connection, source, setup.TYPE, row + 1, 1, newer=False), None)


def _around(connection: Connection, source: str, row: int) -> Iterator[dict[str, Any]]:
    for kind in LOSSES:
        for newer in (False, True):
            yield from _own(connection, source, kind, row, MAX_LOSSES, newer=newer)


def _own(
    connection: Connection, source: str, kind: str, row: int, limit: int, *, newer: bool
) -> Iterator[dict[str, Any]]:
    """Yield the nearest events of a type in a source before or behind a row, the nearest first."""
    statement = select(events.c.body).where(own, events.c.source == source, events.c.type == kind)
    if newer:
        statement = statement.where(events.c.row > row).order_by(events.c.row)
    else:
        statement = statement.where(events.c.row < row).order_by(events.c.row.desc())
    for (body,) in connection.execute(statement.limit(limit)):
        yield msgspec.json.decode(body)
