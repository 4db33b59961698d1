"""The trace of an event, asked of the relay: from its own store, with the device away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import text

from edgeflow_proto.event import Block
from edgeflow_proto.trace import trace
from edgeflow_relay.store.database import make_engine, migrate
from tests.relay.harness import FakeDevice, Relay
from tests.support.traced import decided, journal, lost, told

BLOCKS = (told(), decided(5, 1), lost(2), decided(5, 3), lost(500), told(600), decided(1, 601))


def fill(relay: Relay, name: str, journal_id: str, *blocks: Block, pipeline: str = "watch") -> None:
    device = FakeDevice(relay, name).open()
    first = 1
    for block in blocks:
        device.batch(first, block.encode(), block.count, journal_id, pipeline)
        first += block.count
    device.await_ack(first - 1, journal_id)
    device.close()


def asked(relay: Relay, event: str, query: str = "") -> tuple[int, Any]:
    return relay.json("GET", f"/api/v1/events/{event}/trace{query}")


def test_an_event_of_a_device_that_is_away_is_explained(relay: Relay) -> None:
    fill(relay, "dev-1", "j1", *BLOCKS)
    fill(relay, "dev-2", "k1", *BLOCKS)
    events = journal(*BLOCKS)
    status, found = asked(relay, "j1-9")
    assert status == 200
    assert found == json.loads(json.dumps(trace(events[8], events[0], events).to_json()))
    assert [event["id"] for event in found["lost"]] == ["j1-7"]
    assert asked(relay, "j1-15")[1]["told"]["id"] == "j1-14"
    assert asked(relay, "k1-9")[1]["device"] == "dev-2"


def test_what_the_device_told_of_itself_is_lost_nearby_too(relay: Relay) -> None:
    fill(relay, "dev-7", "o1", told(), decided(1, 100))
    fill(relay, "dev-7", "o2", lost(20), lost(110, reason="agent"), pipeline="_agent")
    fill(relay, "dev-8", "o3", lost(110), pipeline="_agent")
    assert [event["id"] for event in asked(relay, "o1-2")[1]["lost"]] == ["o2-2"]


def test_a_set_up_of_another_journal_explains_nothing(relay: Relay) -> None:
    fill(relay, "dev-3", "l1", told())
    fill(relay, "dev-3", "l2", decided())
    assert "not stored" in asked(relay, "l2-1")[1]["missing"]


def test_an_event_that_is_not_stored_and_one_that_two_devices_have_are_told(relay: Relay) -> None:
    fill(relay, "dev-4", "m1", told(), decided())
    assert asked(relay, "m1-3") == (404, {"error": "no such event is stored here"})
    assert asked(relay, "nonsense")[0] == 404
    fill(relay, "dev-5", "m1", told(), decided())
    status, found = asked(relay, "m1-2")
    assert (status, "dev-4, dev-5" in found["error"]) == (409, True)
    assert asked(relay, "m1-2", "?device=dev-5")[1]["device"] == "dev-5"


def test_the_list_of_events_leads_to_a_page_that_explains_one(relay: Relay) -> None:
    fill(relay, "dev-6", "n1", told(), decided())
    link = "/events/n1-2?device=dev-6"
    assert f'<a href="{link}">watch.raised</a>' in relay.request("GET", "/")[1].decode()
    status, page = relay.request("GET", link)
    assert status == 200
    assert "<td>256 rows, those of press-7 among them: 768 to 1023 of ring 3</td>" in page.decode()
    assert 'href="/api/v1/events/n1-2/trace?device=dev-6"' in page.decode()
    assert relay.json("GET", "/events/n1-9") == (404, {"error": "no such event is stored here"})


def test_who_looks_at_pages_is_told_on_one_what_is_not_here(relay: Relay) -> None:
    browser = "text/html,application/xhtml+xml,*/*;q=0.8"
    for path, words in (
        ("/events/n1-9", "no such event is stored here"), ("/none", "Not Found"),
        ("/events/%3Cb%3E", "not an event id: &#x27;&lt;b&gt;"),
    ):  # fmt: skip
        status, page = relay.request("GET", path, accept=browser)
        assert (status, page[:15], words in page.decode()) == (404, b"<!doctype html>", True)
    assert relay.json("GET", "/api/v1/events/n1-9/trace", accept=browser)[0] == 404


def test_set_ups_and_losses_are_found_by_an_index_that_other_events_are_not_in(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "relay.db")
    migrate(engine)
    where = "source = 'a' AND type = 'edgeflow.gap' AND type LIKE 'edgeflow.%' AND row < 9"
    with engine.connect() as connection:
        query = f"EXPLAIN QUERY PLAN SELECT body FROM events WHERE {where} ORDER BY row DESC LIMIT 1"
        (plan,) = [row[3] for row in connection.execute(text(query))]
    engine.dispose()
    assert plan == "SEARCH events USING INDEX events_own (source=? AND type=? AND row<?)"
