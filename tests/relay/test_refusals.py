"""A store that refuses: nothing is acknowledged that is not kept, and who asks is told."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeflow_relay.app import MAX_CONNECTIONS
from edgeflow_relay.counters import _HELP
from tests.relay.harness import FakeDevice, Relay
from tests.support.processes import eventually
from tests.support.small_disk import fill, small_disk

pytestmark = pytest.mark.system
RELAY = Path(__file__).resolve().parents[2] / "relay" / "edgeflow_relay"


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    relay = Relay(tmp_path / "relay")
    yield relay
    relay.close()


def reasons(relay: Relay) -> list[str]:
    found: list[str] = json.loads(relay.request("GET", "/readyz")[1])["reasons"]
    return found


def spoil(database: Path, table: str) -> None:
    """Lose the first page of a table or an index."""
    with sqlite3.connect(database) as found:
        (root,) = found.execute("select rootpage from sqlite_master where name = ?", (table,)).fetchone()
        (size,) = found.execute("pragma page_size").fetchone()
    found.close()
    with database.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)


@pytest.mark.parametrize("lost", ["events_once", "journals"])
def test_a_damaged_database_acknowledges_nothing_and_blames_no_events(relay: Relay, lost: str) -> None:
    relay.start()
    first = FakeDevice(relay, "one", journals=("own1",)).open()
    for number in range(1, 3000, 100):
        first.block(number, 100, journal="own1")
    first.await_ack(3000, "own1")
    first.close()
    relay.stop()
    spoil(relay.folder / "store" / "relay.db", lost)
    relay.start()
    other = FakeDevice(relay, "one", journals=("own2",)).open()
    other.block(1, 100, journal="own2")
    eventually(lambda: "malformed" in str(reasons(relay)), "it is told")
    assert other.acked == {}
    assert relay.metric("edgeflow_relay_blocks_rejected_total") == 0
    assert relay.metric("edgeflow_relay_commits_failed_total") >= 1
    other.close()


def test_on_a_full_disk_known_devices_come_in_and_what_is_not_stored_is_told(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 6 << 20) as disk:
        relay = Relay(disk).start()
        try:
            device = FakeDevice(relay, "one", journals=("own1",)).open()
            device.block(1, 100, journal="own1")
            device.await_ack(100, "own1")
            device.close()
            filler = fill(disk)
            device = FakeDevice(relay, "one", journals=("own1",)).open()
            assert device.welcomed == {"own1": 100}
            device.block(101, 1000, journal="own1", data=())
            eventually(lambda: reasons(relay), "it is told")
            stranger = FakeDevice(relay, "two", journals=("own2",)).open()
            code, words = stranger.refusal
            assert (code, words.startswith("the relay cannot store: ")) == ("UNAVAILABLE", True), words
            filler.unlink()
            device.await_ack(1100, "own1")
            eventually(lambda: not reasons(relay), "it heals", patience_s=30)
        finally:
            relay.close()


@pytest.mark.parametrize("body", [b'{"digest":"\xff\xff"}', b"[" * 4000, b'{"digest":7}'])
def test_a_wish_that_cannot_be_read_is_refused_in_words(relay: Relay, body: bytes) -> None:
    relay.start()
    status, answer = relay.request("PUT", "/api/v1/devices/x/pipelines/y", body)
    assert (status, b"the body is" in answer) == (400, True), answer


def test_all_that_is_counted_is_among_the_metrics() -> None:
    source = "".join(path.read_text() for path in RELAY.rglob("*.py"))
    counted = set(re.findall(r"counters\[\"(\w+)\"", source))
    assert len(counted) > 5
    assert counted <= set(_HELP)


def test_connections_that_say_nothing_keep_nobody_out_for_long(relay: Relay) -> None:
    relay.start()
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            stack.enter_context(socket.create_connection(("127.0.0.1", relay.http)))
        eventually(lambda: relay.request("GET", "/healthz")[0] == 503, "no other is served")
        eventually(lambda: relay.request("GET", "/healthz")[0] == 200, "they are gone", patience_s=30)
