"""Asking for events: filters, pages, counts, and the live stream."""

from __future__ import annotations

import json
import socket
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.relay.harness import FakeDevice, Relay, sequences
from tests.support.processes import eventually

LIVE = "/api/v1/events?device=live"


@pytest.fixture(scope="module")
def filled(relay: Relay) -> Relay:
    """A relay with events 1 to 100 of two devices and two pipelines each, a second apart."""
    for name in ("a", "b"):
        device = FakeDevice(relay, name).open()
        device.block(1, 100)
        device.block(1, 100, journal="j2", pipeline="other", type="other.alarm")
        device.await_ack(100)
        device.await_ack(100, "j2")
        device.close()
    return relay


def ask(relay: Relay, query: str) -> Any:
    return relay.get(f"/api/v1/events?{query}")


def test_filters_narrow(filled: Relay) -> None:
    count = "/api/v1/events/count?"
    assert filled.get(count + "device=a")["count"] == 200
    assert filled.get(count + "device=a&pipeline=other")["count"] == 100
    assert filled.get(count + "type=watch.alarm")["count"] == 200
    assert filled.get(count + "device=a&type=nothing")["count"] == 0
    found = ask(filled, "device=b&type=other.alarm&limit=3")["events"]
    assert {(event["source"], event["type"]) for event in found} == {
        ("/devices/b/pipelines/other", "other.alarm")
    }


def test_times_are_those_of_the_events(filled: Relay) -> None:
    span = "since=2023-11-14T22:13:30Z&until=2023-11-14T23:13:33%2B01:00"
    found = ask(filled, f"device=a&pipeline=watch&{span}")["events"]
    assert sequences(found) == [10, 11, 12]


def test_all_times_that_can_be_written_can_be_asked_for(filled: Relay) -> None:
    ends = "since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59Z"
    assert len(ask(filled, f"device=a&pipeline=watch&{ends}")["events"]) == 100
    assert ask(filled, "since=9999-12-31T23:59:59Z")["events"] == []


def test_pages_follow_each_other(filled: Relay) -> None:
    found, after, more = [], "0", True
    while more:
        page = ask(filled, f"device=a&pipeline=watch&limit=33&after={after}")
        found += page["events"]
        after, more = page["next"], page["more"]
    assert sequences(found) == list(range(1, 101))
    page = ask(filled, f"after={after}")
    assert (page["events"], page["next"], page["more"]) == ([], after, False)


def test_the_newest_can_be_asked_for(filled: Relay) -> None:
    assert sequences(ask(filled, "device=a&pipeline=watch&last=3")["events"]) == [98, 99, 100]
    assert ask(filled, "device=a&last=0")["events"] == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("devise=a", "unknown parameter 'devise'; known: device, pipeline"),
        ("limit=0", "limit is a number from 1 to 10000, not '0'"),
        ("limit=99999999999999999999999", "limit is a number"),
        ("limit=-1", "limit is a number"),
        ("after=x", "after is a number"),
        ("since=yesterday", "since is a time such as 2025-01-31T12:00:00Z, not 'yesterday'"),
        ("until=2025-01-31T12:00:00", "until says no time zone"),
    ],
)
def test_questions_that_cannot_be_answered_are_refused(relay: Relay, query: str, words: str) -> None:
    status, found = relay.json("GET", f"/api/v1/events?{query}")
    assert (status, words in found["error"]) == (400, True), found


def test_a_cursor_of_another_store_is_refused(filled: Relay) -> None:
    status, found = filled.json("GET", "/api/v1/events?after=1000000")
    assert (status, int(found["newest"]) >= 400) == (410, True)


def test_a_stream_gives_what_comes_and_goes_on_where_it_was_left(relay: Relay) -> None:
    device = FakeDevice(relay, "live").open()
    other = FakeDevice(relay, "live-other").open()
    with relay.stream(LIVE) as messages:
        other.block(1, 5)
        other.await_ack(5)
        device.block(1, 3)
        first = list(islice(messages, 3))
    device.block(4, 700)
    device.await_ack(703)
    with relay.stream(LIVE, last_id=first[-1][0]) as messages:
        rest = list(islice(messages, 700))
    with relay.stream(f"{LIVE}&after={first[0][0]}") as messages:
        assert list(islice(messages, 1)) == first[1:2]
    with relay.stream(f"{LIVE}&last=2") as messages:
        assert list(islice(messages, 2)) == rest[-2:]
        device.block(704)
        number, data = next(messages)
    found = [json.loads(event) for _, event in first + rest]
    assert sequences(found) == list(range(1, 704))
    assert (int(number) > int(rest[-1][0]), json.loads(data)["sequence"][-3:]) == (True, "704")
    device.close()
    other.close()


def test_a_reader_that_does_not_read_costs_no_memory_and_loses_nothing(own_relay: Relay) -> None:
    own_relay.start()
    device = FakeDevice(own_relay, "slow").open()
    with socket.create_connection(("127.0.0.1", own_relay.http)) as reader:
        reader.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        before = resident(own_relay)
        for start in range(1, 40_001, 4000):
            device.block(start, 4000, fixed={"pad": "x" * 500})
        device.await_ack(40_000)  # 40 MB as JSON
        assert resident(own_relay) - before < 30 << 20
        reader.settimeout(30)
        seen = b""
        while f'"sequence":"{40_000:020}"'.encode() not in seen:
            assert not seen.endswith(b"\n:\n\n"), "all was sent, and the last was not among it"
            seen = seen[-100:] + reader.recv(1 << 20)
    device.close()


def resident(relay: Relay) -> int:
    assert relay.process is not None
    for line in Path(f"/proc/{relay.process.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    raise AssertionError


def test_open_streams_do_not_keep_the_relay_from_stopping(own_relay: Relay) -> None:
    own_relay.start()
    with own_relay.stream("/api/v1/events"), own_relay.stream("/api/v1/status/stream") as page:
        next(page)
        started = time.monotonic()
        assert own_relay.stop() == 0
    assert "Traceback" not in own_relay.log
    assert time.monotonic() - started < 60


def test_the_page_shows_text_as_text(relay: Relay) -> None:
    device = FakeDevice(relay, "page").open()
    device.block(1, type="<script>alert(1)</script>", fixed={"note": "<b>&"})
    device.await_ack(1)
    status, body = relay.request("GET", "/")
    text = body.decode()
    assert status == 200
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert" not in text
    with relay.stream("/api/v1/status/stream") as messages:
        changes = dict(json.loads(next(messages)[1]))
    assert set(changes) == {"relay", "devices", "pipelines", "recent"}
    assert "&lt;b&gt;&amp;" in changes["recent"]
    device.close()


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"Host": "evil.example"}, 403),
        ("PUT", {"Host": "evil.example"}, 403),
        ("PUT", {"Origin": "http://evil.example"}, 403),
        ("PUT", {"Sec_Fetch_Site": "cross-site"}, 403),
        ("GET", {"Sec_Fetch_Site": "cross-site"}, 200),
        ("GET", {"Host": "localhost:1"}, 200),
        ("GET", {"Host": "[::1]:7000"}, 200),
    ],
)
def test_other_sites_may_not_call(relay: Relay, method: str, headers: dict[str, str], status: int) -> None:
    before = relay.metric("edgeflow_relay_http_refused_total")
    assert relay.request(method, "/api/v1/devices", **headers)[0] == status
    assert relay.metric("edgeflow_relay_http_refused_total") == before + (status == 403)


def test_unknown_paths_and_methods_are_told_in_json(relay: Relay) -> None:
    assert relay.json("GET", "/api/v1/nothing") == (404, {"error": "Not Found"})
    assert relay.json("POST", "/api/v1/events") == (405, {"error": "Method Not Allowed"})
    eventually(lambda: relay.get("/readyz")["ready"], "it is ready")
