"""An index of the events that EdgeFlow tells itself, by pipeline: set-ups and losses are found in it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_OWN = sa.text("type LIKE 'edgeflow.%'")


def upgrade() -> None:
    """Bring the tables to this revision."""
    columns = ["source", "type", "row"]
    op.create_index("events_own", "events", columns, sqlite_where=_OWN, postgresql_where=_OWN)
