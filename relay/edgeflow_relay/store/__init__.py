"""What the relay keeps: SQLAlchemy Core over SQLite, and blobs as files."""
