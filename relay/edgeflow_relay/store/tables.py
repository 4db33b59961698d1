"""The tables. Types are those that every SQL database has; times are nanoseconds since 1970, UTC.

Changing them takes a migration (`store/migrations/versions`); a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text, text

metadata = MetaData()

# SQLite numbers rows only in a column of exactly its type INTEGER.
_RowNumber = BigInteger().with_variant(Integer, "sqlite")

devices = Table(
    "devices",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("agent_version", String(64), nullable=False),
    Column("machine", String(64), nullable=False),
    Column("boot_id", String(64), nullable=False),
    Column("applied", BigInteger, nullable=False),  # newest revision it said it has carried out
    Column("revision", BigInteger, nullable=False),  # of what is desired of it
    Column("first_seen_ns", BigInteger, nullable=False),
    Column("last_seen_ns", BigInteger, nullable=False),
    Column("heartbeat", Text, nullable=False),  # the newest, as JSON; empty before the first
)

pipelines = Table(
    "pipelines",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("manifest", LargeBinary, nullable=False),  # canonical form
    Column("serial", BigInteger, nullable=False),  # of the upload; the highest of a name is its latest
    Column("uploaded_ns", BigInteger, nullable=False),
)

desired = Table(
    "desired",
    metadata,
    Column("device", String(64), primary_key=True),
    Column("pipeline", String(63), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("since_ns", BigInteger, nullable=False),
)

outcomes = Table(  # the newest that a device said of each wish
    "outcomes",
    metadata,
    Column("device", String(64), primary_key=True),
    Column("pipeline", String(63), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("state", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("row", _RowNumber, primary_key=True, autoincrement=True),  # order of arrival; never used twice
    Column("source", String(255), nullable=False),
    Column("id", String(96), nullable=False),
    Column("device", String(64), nullable=False),
    Column("pipeline", String(64), nullable=False),
    Column("output", String(255), nullable=False),
    Column("type", String(255), nullable=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("body", Text, nullable=False),  # CloudEvents JSON, as it leaves the relay
    sqlite_autoincrement=True,
)
Index("events_once", events.c.source, events.c.id, unique=True)
Index("events_of_device", events.c.device, events.c.row)
Index("events_of_pipeline", events.c.pipeline, events.c.row)
Index("events_of_type", events.c.type, events.c.row)
Index("events_at_time", events.c.time_ns)

# A partial index costs nothing where other events are stored. Queries must have its condition, word for word.
own = text("type LIKE 'edgeflow.%'")
Index("events_own", events.c.source, events.c.type, events.c.row, sqlite_where=own, postgresql_where=own)

journals = Table(  # how far the events of each journal are stored
    "journals",
    metadata,
    Column("device", String(64), primary_key=True),
    Column("journal", String(64), primary_key=True),
    Column("pipeline", String(64), nullable=False),
    Column("acked", BigInteger, nullable=False),
)

rejected_blocks = Table(  # what could not be read as events, kept as it came
    "rejected_blocks",
    metadata,
    Column("number", _RowNumber, primary_key=True, autoincrement=True),
    Column("device", String(64), nullable=False),
    Column("journal", String(64), nullable=False),
    Column("pipeline", String(64), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("count", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("block", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)
Index(
    "rejected_once",
    rejected_blocks.c.device,
    rejected_blocks.c.journal,
    rejected_blocks.c.first,
    rejected_blocks.c.count,
    unique=True,
)

cursors = Table(  # how far each reader of the events has come
    "cursors",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("row", BigInteger, nullable=False),
)
