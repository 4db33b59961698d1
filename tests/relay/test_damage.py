"""A store that refuses, for a damaged page, a full disk or want of memory: nothing is acknowledged."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DatabaseError, DataError, DBAPIError, IntegrityError, OperationalError

from edgeflow_relay import blocks, intake
from edgeflow_relay.intake import Intake
from edgeflow_relay.store import events, health
from edgeflow_relay.store.database import Database
from edgeflow_relay.store.health import Health, refusal
from edgeflow_relay.store.tables import rejected_blocks
from tests.relay.conftest import Connect
from tests.relay.harness import Relay
from tests.relay.test_store import batch, run_intake, until
from tests.support.processes import eventually

MALFORMED = "database disk image is malformed"


def damage(relay: Relay, name: str) -> None:
    """Overwrite the first page of a table or an index of a relay that is stopped."""
    path = relay.folder / "store" / "relay.db"
    with sqlite3.connect(path) as raw:
        (page,) = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        (size,) = raw.execute("PRAGMA page_size").fetchone()
    raw.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


@pytest.fixture
def used(own_relay: Relay, connect: Connect) -> Relay:
    """A stopped relay that has stored events."""
    own_relay.start()
    device = connect(own_relay, "before", journals=("j0",))
    for first in range(1, 1000, 100):
        device.block(first, 100, journal="j0")
    device.await_ack(1000, "j0")
    device.close()
    own_relay.stop()
    return own_relay


def test_events_that_a_damaged_page_keeps_out_are_not_acknowledged(used: Relay, connect: Connect) -> None:
    damage(used, "events_once")
    used.start()
    device = connect(used, "after")
    device.block(1, 100)
    eventually(lambda: used.request("GET", "/readyz")[0] == 503, "it says that it is not ready")
    assert used.json("GET", "/readyz")[1]["reasons"] == [f"events cannot be stored: {MALFORMED}"]
    assert f"events cannot be stored: {MALFORMED}" in used.request("GET", "/")[1].decode()
    assert used.metric("edgeflow_relay_store_failures_total") >= 1
    assert used.metric("edgeflow_relay_blocks_rejected_total") == 0
    assert device.acked == {}


def test_a_damaged_page_of_what_is_acknowledged_ends_no_relay(used: Relay, connect: Connect) -> None:
    damage(used, "journals")
    used.start()
    device = connect(used, "before", journals=("j0",))
    assert device.refusal == ("UNAVAILABLE", f"the relay cannot store: {MALFORMED}")
    assert used.request("GET", "/readyz")[0] == 503
    silent = connect(used, "silent")  # has no journals to be told of
    silent.block(1)
    eventually(lambda: used.metric("edgeflow_relay_commits_failed_total") >= 2, "it tries again")
    assert silent.acked == {}
    assert used.metric("edgeflow_relay_blocks_rejected_total") == 0
    assert used.process is not None
    assert used.process.poll() is None
    assert "Traceback" not in used.log


REFUSED = [
    DatabaseError("", {}, Exception(MALFORMED)),
    OperationalError("", {}, Exception("disk I/O error")),
    DBAPIError("", {}, Exception("something else")),
    MemoryError(),
]


@pytest.mark.parametrize("error", REFUSED, ids=lambda error: type(error).__name__)
def test_what_the_store_refuses_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    tries = failing(monkeypatch, error, times=2)
    counters = run_intake(tmp_path, one_batch)
    assert tries() == 3
    assert (counters["events_stored_total"], counters["blocks_rejected_total"]) == (1, 0)
    assert counters["commits_failed_total"] == 2


BLAMED = [
    DataError("", {}, Exception("too big")),
    IntegrityError("", {}, Exception("no NULL here")),
    OverflowError("too large"),
]


@pytest.mark.parametrize("error", BLAMED, ids=lambda error: type(error).__name__)
def test_what_can_never_be_stored_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    failing(monkeypatch, error, times=1 << 30)
    counters = run_intake(tmp_path, one_batch)
    assert (counters["events_stored_total"], counters["blocks_rejected_total"]) == (0, 1)


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception, times: int) -> Callable[[], int]:
    """Let storing events fail so many times; returns what tells how often it was tried."""
    add, tried = events.add, 0

    def refusing(connection: Connection, rows: list[events.Row]) -> int:
        nonlocal tried
        tried += bool(rows)
        if rows and tried <= times:
            raise error
        return add(connection, rows)

    monkeypatch.setattr(intake, "RETRY_S", 0.01)
    monkeypatch.setattr(events, "add", refusing)
    return lambda: tried


async def one_batch(queue: Intake, database: Database) -> None:
    done: list[int] = []
    await queue.put(batch(1), lambda: done.append(1))
    await until(lambda: done)
    assert not queue.error
    kept = select(func.count()).select_from(rejected_blocks)
    assert await database.read(lambda c: c.execute(kept).scalar()) in {0, 1}


def test_a_block_is_not_to_blame_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(_: bytes) -> None:
        raise MemoryError

    monkeypatch.setattr(blocks, "decode_block", decode)
    with pytest.raises(MemoryError):
        blocks.rows(batch(1))


def test_a_refusal_is_told_until_it_works_or_nobody_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    state = Health()
    assert state.refused("events cannot be stored", "full")
    assert not state.refused("events cannot be stored", "full")
    assert state.refused("devices cannot be served", "damaged")
    assert state.reasons == ["events cannot be stored: full", "devices cannot be served: damaged"]
    state.works("events cannot be stored")
    assert (state.reasons, state.failures) == (["devices cannot be served: damaged"], 3)
    monkeypatch.setattr(health, "LAPSE_S", 0.0)
    assert state.reasons == []


@pytest.mark.parametrize("error", [*BLAMED, ValueError("x"), OSError("x")])
def test_other_errors_are_no_refusals(error: Exception) -> None:
    assert refusal(error) == ""
