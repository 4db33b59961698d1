"""How far each journal of each device is stored, and what of them could not be read."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from edgeflow_proto.event import Clock
from edgeflow_relay.store.tables import journals, rejected_blocks

_MANY = 500  # of what one statement asks for: SQLite's variables are limited


@dataclass(frozen=True, slots=True)
class Batch:
    """A block of a journal as a device sent it: `count` events from sequence number `first` on.

    `reckoned` is its clock as the device knows it by now (without the boot), where that is not what is in it.
    """

    device: str
    journal: str
    pipeline: str
    first: int
    count: int
    block: bytes
    reckoned: Clock | None = None

    @property
    def last(self) -> int:
        """Sequence number of its newest event."""
        return self.first + self.count - 1


def acked(connection: Connection, device: str, ids: Sequence[str]) -> dict[str, int]:
    """Return the newest stored sequence number of each of a device's journals that are known."""
    found: dict[str, int] = {}
    for start in range(0, len(ids), _MANY):
        asked = journals.c.journal.in_(ids[start : start + _MANY])
        statement = select(journals.c.journal, journals.c.acked).where(journals.c.device == device, asked)
        found |= {row.journal: row.acked for row in connection.execute(statement)}
    return found


def advance(connection: Connection, batches: Iterable[Batch]) -> int:
    """Note that batches are stored, in the order they came; return how many numbers were passed over."""
    known: dict[tuple[str, str], int] = {}
    values: dict[tuple[str, str], dict[str, Any]] = {}
    missing = 0
    for batch in batches:
        key = batch.device, batch.journal
        if key not in known:
            known[key] = acked(connection, batch.device, [batch.journal]).get(batch.journal, 0)
        missing += max(0, batch.first - known[key] - 1)
        known[key] = max(known[key], batch.last)
        values[key] = {
            "device": batch.device, "journal": batch.journal, "pipeline": batch.pipeline, "acked": known[key],
        }  # fmt: skip
    if values:
        statement = _insert(connection)(journals).values(list(values.values()))
        same = [journals.c.device, journals.c.journal]
        connection.execute(
            statement.on_conflict_do_update(index_elements=same, set_={"acked": statement.excluded.acked})
        )
    return missing


def reject(connection: Connection, batch: Batch, reason: str) -> None:
    """Keep a block that cannot be read as it came, once."""
    values = {
        "device": batch.device, "journal": batch.journal, "pipeline": batch.pipeline, "first": batch.first,
        "count": batch.count, "reason": reason[:1000], "at_ns": time.time_ns(), "block": batch.block,
    }  # fmt: skip
    connection.execute(_insert(connection)(rejected_blocks).values(values).on_conflict_do_nothing())


def _insert(connection: Connection) -> Any:
    """Return the INSERT that knows ON CONFLICT: each database's dialect has its own."""
    return sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
