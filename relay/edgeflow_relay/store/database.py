"""The database: opened, brought to the newest form, written by one thread.

SQLite has one writer at a time anyway. A synchronous driver in a thread of its own beats an asynchronous one
(which has a thread per connection beneath) and makes groups of writes simple: whatever waits goes into one
transaction, and everybody who waits hears of the same commit. ``synchronous=FULL``: what was acknowledged
is on disk.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, event

log = logging.getLogger("edgeflow.relay")
MAX_GROUP = 256
T = TypeVar("T")
Write = Callable[[Connection], T]
_Job = tuple[Write[Any], "asyncio.Future[Any]"]


class Database:
    """An engine, one writing thread, and reads wherever they are called from."""

    def __init__(self, url: str) -> None:
        """Open and migrate; raises sqlalchemy.exc.SQLAlchemyError when that fails."""
        self.engine = create_engine(url)
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", _pragmas)
        with self.engine.begin() as connection:
            _migrate(connection)
        self._jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=4 * MAX_GROUP)
        self._thread = threading.Thread(target=self._write, name="database", daemon=True)
        self._thread.start()

    async def write(self, job: Write[T]) -> T:
        """Run `job` in a transaction, perhaps with others'; returns after the commit, raises its error."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        while True:
            try:
                self._jobs.put_nowait((job, future))
                break
            except queue.Full:  # the disk is behind: whoever wants to write waits, and so does its device
                await asyncio.sleep(0.005)
        return await future

    async def read(self, job: Write[T]) -> T:
        """Run `job` on a connection of its own, in a thread."""
        return await asyncio.to_thread(self.read_now, job)

    def read_now(self, job: Write[T]) -> T:
        """Run `job` on a connection of its own, here."""
        with self.engine.connect() as connection:
            return job(connection)

    def close(self) -> None:
        """Finish what waits and close."""
        self._jobs.put(None)
        self._thread.join()
        self.engine.dispose()

    def _write(self) -> None:
        while (first := self._jobs.get()) is not None:
            group = [first]
            while len(group) < MAX_GROUP and not self._jobs.empty():
                job = self._jobs.get()
                if job is None:
                    self._jobs.put(None)
                    break
                group.append(job)
            self._commit(group)

    def _commit(self, group: list[_Job]) -> None:
        """Commit a group; when one of it fails, each by itself, so that only that one does."""
        try:
            with self.engine.begin() as connection:
                results = [job(connection) for job, _ in group]
        except Exception as error:
            if len(group) > 1:
                for job in group:
                    self._commit([job])
                return
            log.error("a write failed: %s", error)
            _tell(group[0][1], None, error)
            return
        for (_, future), result in zip(group, results, strict=True):
            _tell(future, result, None)


def _tell(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    def settle() -> None:
        if not future.done():
            future.set_result(result) if error is None else future.set_exception(error)

    future.get_loop().call_soon_threadsafe(settle)


def _pragmas(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _migrate(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
