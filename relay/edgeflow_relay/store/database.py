"""The database: one thread that writes, a few that read.

SQLite behind its synchronous driver, in threads of our own: writers would only queue for SQLite's single lock
anyway, and an asynchronous driver is the same threads with a queue per statement, several times slower for
the thousands of rows of a block. The write-ahead log lets readers go on meanwhile. A commit returns when it
is on disk (``synchronous=FULL``), since devices forget what was acknowledged; commits are grouped instead.
Source: sqlite.org, "Write-Ahead Logging", "PRAGMA synchronous"; SQLAlchemy 2, "Pysqlite".
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError

from edgeflow_relay.store.health import Health

T = TypeVar("T")
READERS = 4
_FILE = "relay.db"
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "journal_size_limit=67108864")


class StoreError(OSError):
    """The store cannot be opened; the message says why."""


class Database:
    """The tables of one relay, which has them to itself; made by `open_database`."""

    def __init__(self, engine: Engine, lock: int) -> None:
        self._reading = engine
        self._writing = engine.execution_options(writes=True)
        self._lock = lock
        self.health = Health()
        self._readers = ThreadPoolExecutor(READERS, "read")
        self._writer = ThreadPoolExecutor(1, "write")

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction that sees one state of the tables."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._within_read, work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction; when this returns it is on disk, when it raises nothing happened."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._within_write, work)

    def _within_read(self, work: Callable[[Connection], T]) -> T:
        with self._reading.connect() as connection:
            return work(connection)

    def _within_write(self, work: Callable[[Connection], T]) -> T:
        with self._writing.begin() as connection:
            return work(connection)

    def close(self) -> None:
        """Wait for what runs, and close."""
        self._readers.shutdown()
        self._writer.shutdown()
        self._reading.dispose()
        os.close(self._lock)


def open_database(folder: Path) -> Database:
    """Open the database in `folder`, made or brought up to date as needed; raises StoreError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "relay.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{folder} cannot be used: {error.strerror}") from error
    try:
        _take(lock, folder)
        engine = make_engine(folder / _FILE)
        migrate(engine)
    except DatabaseError as error:
        os.close(lock)
        raise StoreError(f"{folder / _FILE}: {error.orig}") from error
    except StoreError:
        os.close(lock)
        raise
    return Database(engine, lock)


def _take(lock: int, folder: Path) -> None:
    """Keep a second relay out; the lock goes with this process. Raises StoreError."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreError(f"{folder} is in use by another relay") from None


def make_engine(path: Path) -> Engine:
    """Return an engine for an SQLite file."""
    engine = create_engine(f"sqlite:///{path}", pool_size=READERS + 1, max_overflow=0)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver begins transactions by itself, too late for reads
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    # A writer takes the lock at once: one that has read before cannot wait for it any more.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def migrate(engine: Engine) -> None:
    """Bring the tables up to date; raises StoreError when they are newer than this relay knows."""
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.execution_options(writes=True).begin() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise StoreError(f"the store was written by another version of the relay: {error}") from error
