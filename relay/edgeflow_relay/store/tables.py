"""The relay's tables. Types that every database of SQLAlchemy's has."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()
_Row = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts rows by themselves only for INTEGER

devices = Table(
    "devices", metadata,
    Column("name", String(64), primary_key=True),
    Column("fleet", String(64), nullable=False),
    Column("hello", Text, nullable=False),  # JSON
    Column("heartbeat", Text, nullable=False),  # JSON, the last one
    Column("seen_ns", BigInteger, nullable=False),  # wall time
    Column("revision", BigInteger, nullable=False),  # of the desired state
)  # fmt: skip

journals = Table(
    "journals", metadata,
    Column("id", String(64), primary_key=True),
    Column("device", String(64), primary_key=True),
    Column("pipeline", String(64), nullable=False),
    Column("acked", BigInteger, nullable=False),
)  # fmt: skip

events = Table(
    "events", metadata,
    Column("row", _Row, primary_key=True, autoincrement=True),  # order of arrival
    Column("source", String(160), nullable=False),
    Column("id", String(96), nullable=False),
    Column("device", String(64), nullable=False),
    Column("pipeline", String(64), nullable=False),
    Column("output", String(64), nullable=False),
    Column("type", String(128), nullable=False),
    Column("time", String(32), nullable=False),  # RFC 3339, sorts as text
    Column("event", Text, nullable=False),  # CloudEvents JSON
    UniqueConstraint("source", "id", name="events_once"),
    Index("events_by_device", "device", "row"),
    Index("events_by_pipeline", "pipeline", "row"),
    Index("events_by_type", "type", "row"),
    Index("events_by_time", "time"),
)  # fmt: skip

rejected_blocks = Table(
    "rejected_blocks", metadata,
    Column("row", _Row, primary_key=True, autoincrement=True),
    Column("device", String(64), nullable=False),
    Column("journal", String(64), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("error", Text, nullable=False),
    Column("block", LargeBinary, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
)  # fmt: skip

bundles = Table(
    "bundles", metadata,
    Column("row", _Row, primary_key=True, autoincrement=True),  # the newest of a name is its latest
    Column("name", String(64), nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("manifest", LargeBinary, nullable=False),
    Column("uploaded_ns", BigInteger, nullable=False),
    Index("bundles_by_name", "name", "row"),
)  # fmt: skip

desired = Table(
    "desired", metadata,
    Column("device", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("digest", String(64), nullable=False),
)  # fmt: skip

statuses = Table(
    "statuses", metadata,
    Column("device", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("state", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
)  # fmt: skip

cursors = Table(
    "cursors", metadata,
    Column("name", String(32), primary_key=True),
    Column("row", BigInteger, nullable=False),
)  # fmt: skip
