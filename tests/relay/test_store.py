"""The store by itself: its tables, what one commit does, and what it does when the disk refuses."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import OperationalError

from edgeflow_proto.bundle import FileEntry, Manifest, sha256
from edgeflow_relay import blocks, intake
from edgeflow_relay.counters import Counters
from edgeflow_relay.intake import Intake, store
from edgeflow_relay.store import bundles, cursors, events, journals
from edgeflow_relay.store.blobs import Blobs
from edgeflow_relay.store.database import Database, StoreError, make_engine, migrate, open_database
from edgeflow_relay.store.journals import Batch
from edgeflow_relay.store.tables import metadata, rejected_blocks
from tests.relay.harness import block


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = make_engine(tmp_path / "relay.db")
    migrate(engine)
    with engine.execution_options(writes=True).begin() as connection:
        yield connection
    engine.dispose()


def batch(first: int, count: int = 1, **more: str) -> Batch:
    values = {"device": "d", "journal": "j", "pipeline": "p"} | more
    return Batch(**values, first=first, count=count, block=block(first, count))


def test_the_migrations_make_the_tables(connection: Connection) -> None:
    assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_what_a_newer_relay_wrote_is_left_alone(tmp_path: Path) -> None:
    open_database(tmp_path).close()
    with sqlite3.connect(tmp_path / "relay.db") as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    with pytest.raises(StoreError, match="another version of the relay"):
        open_database(tmp_path)


def test_an_acknowledged_commit_is_on_disk(connection: Connection) -> None:
    assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
    assert connection.execute(text("PRAGMA synchronous")).scalar() == 2  # FULL


def test_a_version_that_would_not_be_taken_any_more_can_be_listed(connection: Connection) -> None:
    entry = FileEntry(sha256(b""), 0)
    manifest = Manifest("p", {"pipeline.yaml": entry, ".hidden": entry, "manifest.json/x": entry})
    bundles.add(connection, manifest)
    assert [version.manifest for version in bundles.versions(connection)] == [manifest]


def test_a_commit_stores_each_event_once_and_moves_on(connection: Connection) -> None:
    outcome = store(connection, [batch(1, 5), batch(3, 5), batch(1, 2, journal="k")])
    assert (outcome.new, outcome.seen, outcome.missing) == (9, 3, 0)
    assert journals.acked(connection, "d", ["j", "k", "l"]) == {"j": 7, "k": 2}
    outcome = store(connection, [batch(10, 2), batch(1, 5)])
    assert (outcome.new, outcome.seen, outcome.missing) == (2, 5, 2)
    assert journals.acked(connection, "d", ["j"]) == {"j": 11}
    assert events.count(connection, events.Query()) == 11


def test_one_bad_block_does_not_keep_its_neighbours_out(connection: Connection) -> None:
    bad = Batch("d", "j", "p", 3, 2, b"nonsense")
    outcome = store(connection, [batch(1, 2), bad, batch(5, 2)])
    assert (outcome.new, len(outcome.rejected)) == (4, 1)
    assert journals.acked(connection, "d", ["j"]) == {"j": 6}
    kept = connection.execute(select(rejected_blocks)).one()
    assert (kept.first, kept.count, kept.block) == (3, 2, b"nonsense")


def test_row_numbers_are_never_used_twice(connection: Connection) -> None:
    store(connection, [batch(1, 5)])
    connection.execute(text("DELETE FROM events"))
    store(connection, [batch(6, 1)])
    assert events.newest_row(connection) == 6


def test_questions_are_answered_by_an_index(connection: Connection) -> None:
    def plan(query: events.Query) -> str:
        statement = select(events.events.c.body).where(events.events.c.row > 5, *query.conditions)
        compiled = statement.order_by(events.events.c.row).limit(10).compile(connection)
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", tuple(compiled.params.values()))
        return " ".join(row[3] for row in rows)

    assert "events_of_device (device=? AND row>?)" in plan(events.Query("d"))
    assert "events_of_pipeline (pipeline=? AND row>?)" in plan(events.Query(pipeline="p"))
    assert "events_of_type (type=? AND row>?)" in plan(events.Query(type="t"))


def test_a_cursor_remembers(connection: Connection) -> None:
    assert cursors.get(connection, "mirror") is None
    for row in (3, 9):
        cursors.put(connection, "mirror", row)
    assert cursors.get(connection, "mirror") == 9


def test_a_block_that_is_small_as_columns_and_huge_as_events_is_refused() -> None:
    huge = Batch("d", "j", "p", 1, 300, block(1, 300, fixed={"pad": "x" * (1 << 20)}))
    with pytest.raises(blocks.Unreadable, match="more than 128 MiB as JSON"):
        blocks.rows(huge)


def test_events_that_are_large_as_json_do_not_wait_for_each_other_in_memory(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0

    def add(connection: Connection, rows: list[events.Row]) -> int:
        nonlocal most
        most = max(most, sum(len(row.body) for row in rows))
        return len(rows)

    monkeypatch.setattr(events, "add", add)
    large = [block(1 + 100 * i, 100, fixed={"pad": "x" * 20_000}) for i in range(12)]
    store(connection, [Batch("d", "j", "p", 1 + 100 * i, 100, one) for i, one in enumerate(large)])
    assert most < 12 << 20


def test_times_that_no_clock_shows_are_clamped(connection: Connection) -> None:
    clock = blocks.decode_block(block(1)).clock
    far = type(clock)(clock.boot_id, 1 << 90, clock.quality)
    store(connection, [Batch("d", "j", "p", 1, 1, block(1, clock=far))])
    assert events.count(connection, events.Query(since_ns=(1 << 63) - 1)) == 1


# the queue before it


def run_intake(folder: Path, work: object) -> Counters:
    """Run `work(intake, database)` beside an intake, which is then closed."""

    async def go() -> Counters:
        database, counters = open_database(folder), Counters()
        queue = Intake(database, counters)
        task = asyncio.create_task(queue.run())
        await work(queue, database)  # type: ignore[operator]
        queue.close()
        await task
        database.close()
        return counters

    return asyncio.run(go())


async def until(probe: Callable[[], object]) -> None:
    """Wait for what happens in another thread."""
    async with asyncio.timeout(30):
        while not probe():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_what_waits_goes_into_one_commit(tmp_path: Path) -> None:
    done: list[int] = []

    async def work(queue: Intake, _: Database) -> None:
        for first in range(1, 101):
            await queue.put(batch(first), lambda first=first: done.append(first))  # type: ignore[misc]

    counters = run_intake(tmp_path, work)
    assert done == list(range(1, 101))
    assert counters["events_stored_total"] == 100
    assert counters["commits_total"] <= 2


def test_who_brings_more_than_there_is_room_for_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MAX_WAITING", 2000)
    most = 0

    async def work(queue: Intake, _: Database) -> None:
        nonlocal most
        for first in range(1, 51):
            await queue.put(batch(first), lambda: None)
            most = max(most, queue.waiting)

    assert run_intake(tmp_path, work)["events_stored_total"] == 50
    assert most <= 2000


def test_a_disk_that_refuses_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "RETRY_S", 0.01)
    acknowledged: list[int] = []

    async def work(queue: Intake, database: Database) -> None:
        await database.write(lambda connection: _limit(connection, 0))
        await queue.put(batch(1, 4000), lambda: acknowledged.append(1))
        await until(lambda: queue.error)
        assert "full" in queue.error
        assert not acknowledged
        await database.write(lambda connection: _limit(connection, 1 << 30))
        await until(lambda: not queue.waiting)
        assert not queue.error

    counters = run_intake(tmp_path, work)
    assert acknowledged == [1]
    assert counters["commits_failed_total"] >= 1
    assert counters["events_stored_total"] == 4000


def _limit(connection: Connection, more: int) -> None:
    """Let the file grow by so many pages, as a full disk would: the limit is the writing connection's."""
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + more}")


def test_a_batch_that_nothing_was_prepared_for_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = events.add

    def picky(connection: Connection, rows: list[events.Row]) -> int:
        if any(row.id == "j-2" for row in rows):
            raise ValueError("nobody foresaw it")
        return add(connection, rows)

    monkeypatch.setattr(events, "add", picky)
    done: list[int] = []

    async def work(queue: Intake, database: Database) -> None:
        for first in (1, 2, 3):
            await queue.put(batch(first), lambda first=first: done.append(first))  # type: ignore[misc]
        await until(lambda: len(done) == 3)
        kept = await database.read(
            lambda c: c.execute(select(func.count()).select_from(rejected_blocks)).scalar()
        )
        assert kept == 1

    counters = run_intake(tmp_path, work)
    assert (counters["events_stored_total"], counters["blocks_rejected_total"]) == (2, 1)


def test_two_relays_do_not_share_a_store(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    with pytest.raises(StoreError, match="in use by another relay"):
        open_database(tmp_path)
    database.close()
    open_database(tmp_path).close()


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    async def go() -> int:
        database = open_database(tmp_path)

        def half(connection: Connection) -> None:
            cursors.put(connection, "x", 1)
            raise OperationalError("", {}, Exception("refused"))

        with pytest.raises(OperationalError):
            await database.write(half)
        found = await database.read(lambda connection: cursors.get(connection, "x"))
        database.close()
        return found or 0

    assert asyncio.run(go()) == 0


# blobs


def test_blobs_are_whole_or_not_there(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    blobs.keep([b"one", b"two", b"one"])
    path = blobs.path(sha256(b"one"))
    assert path is not None
    assert (path.read_bytes(), len(list(path.parent.iterdir()))) == (b"one", 2)
    path.write_bytes(b"damaged")
    (path.parent / "left.tmp").write_bytes(b"")
    Blobs(tmp_path / "blobs").keep([b"one"])
    assert (path.read_bytes(), len(list(path.parent.iterdir()))) == (b"one", 2)
    for name in ("", "..", "../relay.db", "f" * 63, "F" * 64, "g" * 64):
        assert blobs.path(name) is None
