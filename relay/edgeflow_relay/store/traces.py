"""What explains an event, out of the events of its journal.

A device sends a journal in its order, so rows of one journal stand in the order of its sequence numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from edgeflow_proto import event, setup
from edgeflow_proto.trace import AGENT_LOSSES, LOSSES, MAX_LOSSES, NEAR_S, Trace, decided_ns, trace
from edgeflow_relay.store.tables import events, journals, own

_ABOUT_NS = round(2 * NEAR_S * 1e9)  # clocks are set, and times corrected


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
        raise SeveralError(", ".join(sorted(source.split("/", 3)[2] for source, *_ in found)))
    for source, row, time_ns, body in found:
        told = _told(connection, source, row)
        if told is not None and event.identity(told["id"])[0] != journal:
            told = None
        explained = msgspec.json.decode(body)
        around = [*_around(connection, source, row), *_of_agent(connection, explained, time_ns)]
        return trace(explained, told, around)
    return None


def _found(
    connection: Connection, journal: str, event_id: str, device: str | None
) -> Iterator[tuple[str, int, int, str]]:
    """Yield source, row, time and body of the events of that id."""
    owners = select(journals.c.device, journals.c.pipeline).where(journals.c.journal == journal)
    if device is not None:
        owners = owners.where(journals.c.device == device)
    for owner in connection.execute(owners).all():
        source = event.source(owner.device, owner.pipeline)
        wanted = (events.c.source == source) & (events.c.id == event_id)
        columns = select(events.c.row, events.c.time_ns, events.c.body)
        for row, time_ns, body in connection.execute(columns.where(wanted)):
            yield source, row, time_ns, body


def _told(connection: Connection, source: str, row: int) -> dict[str, Any] | None:
    return next(_own(connection, source, setup.TYPE, row + 1, 1, newer=False), None)


def _around(connection: Connection, source: str, row: int) -> Iterator[dict[str, Any]]:
    for kind in LOSSES:
        for newer in (False, True):
            yield from _own(connection, source, kind, row, MAX_LOSSES, newer=newer)


def _of_agent(connection: Connection, explained: dict[str, Any], time_ns: int) -> Iterator[dict[str, Any]]:
    """Yield losses that the event's device told of itself at about that time, since rows are in no order."""
    source = event.source(explained["source"].split("/", 3)[2], event.AGENT)
    moment = time_ns + decided_ns(explained) - int(explained["monotonicns"])
    about = events.c.time_ns.between(moment - _ABOUT_NS, moment + _ABOUT_NS)
    for kind in AGENT_LOSSES:
        statement = select(events.c.body).where(own, events.c.source == source, events.c.type == kind, about)
        for (body,) in connection.execute(statement.order_by(events.c.row.desc()).limit(MAX_LOSSES)):
            yield msgspec.json.decode(body)


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
