"""Changes to the tables, run by alembic when the relay starts."""
