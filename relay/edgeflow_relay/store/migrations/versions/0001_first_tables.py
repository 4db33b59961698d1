"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Bring the tables to this revision."""
    _fleet()
    _events()
    _ingest()


def _fleet() -> None:
    op.create_table(
        "devices",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("agent_version", sa.String(64), nullable=False),
        sa.Column("machine", sa.String(64), nullable=False),
        sa.Column("boot_id", sa.String(64), nullable=False),
        sa.Column("applied", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("first_seen_ns", sa.BigInteger, nullable=False),
        sa.Column("last_seen_ns", sa.BigInteger, nullable=False),
        sa.Column("heartbeat", sa.Text, nullable=False),
    )
    op.create_table(
        "pipelines",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("manifest", sa.LargeBinary, nullable=False),
        sa.Column("serial", sa.BigInteger, nullable=False),
        sa.Column("uploaded_ns", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "desired",
        sa.Column("device", sa.String(64), primary_key=True),
        sa.Column("pipeline", sa.String(63), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("since_ns", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "outcomes",
        sa.Column("device", sa.String(64), primary_key=True),
        sa.Column("pipeline", sa.String(63), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("row", _ROW_NUMBER, primary_key=True, autoincrement=True),
        sa.Column("source", sa.String(255), nullable=False),
        sa.Column("id", sa.String(96), nullable=False),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("pipeline", sa.String(64), nullable=False),
        sa.Column("output", sa.String(255), nullable=False),
        sa.Column("type", sa.String(255), nullable=False),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("events_once", "events", ["source", "id"], unique=True)
    op.create_index("events_of_device", "events", ["device", "row"])
    op.create_index("events_of_pipeline", "events", ["pipeline", "row"])
    op.create_index("events_of_type", "events", ["type", "row"])
    op.create_index("events_at_time", "events", ["time_ns"])


def _ingest() -> None:
    op.create_table(
        "journals",
        sa.Column("device", sa.String(64), primary_key=True),
        sa.Column("journal", sa.String(64), primary_key=True),
        sa.Column("pipeline", sa.String(64), nullable=False),
        sa.Column("acked", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "rejected_blocks",
        sa.Column("number", _ROW_NUMBER, primary_key=True, autoincrement=True),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("journal", sa.String(64), nullable=False),
        sa.Column("pipeline", sa.String(64), nullable=False),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
        sa.Column("block", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("rejected_once", "rejected_blocks", ["device", "journal", "first", "count"], unique=True)
    op.create_table(
        "cursors",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("row", sa.BigInteger, nullable=False),
    )
