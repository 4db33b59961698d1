"""The real `link` process, its real endpoint and stream; the test plays `agentd` and the workers."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edgeflow_agent.core import messages
from edgeflow_agent.core.board import Histogram, labelled
from edgeflow_proto.event import Clock
from edgeflow_proto.timeline import Boot, Sync
from tests.agent.uplink.standin import StandInRelay
from tests.agent.web.harness import AgentdStandIn, block, pipeline
from tests.agent.web.test_metrics import parse
from tests.support.processes import eventually

pytestmark = pytest.mark.system


@pytest.fixture
def relay() -> Iterator[StandInRelay]:
    standin = StandInRelay().start()
    yield standin
    standin.stop()


@pytest.fixture
def link(tmp_path: Path) -> Iterator[AgentdStandIn]:
    """`link` with no relay set."""
    agentd = AgentdStandIn(tmp_path / "store", statuses=(pipeline("one"), pipeline("two")))
    agentd.start()
    yield agentd
    agentd.close()


@pytest.fixture
def device(tmp_path: Path, relay: StandInRelay) -> Iterator[AgentdStandIn]:
    """`link` with a stand-in for the relay, not started yet."""
    agentd = AgentdStandIn(tmp_path / "store", f"127.0.0.1:{relay.port}", statuses=(pipeline("one"),))
    yield agentd
    agentd.close()


# the process


def test_events_of_every_boot_that_is_remembered_are_dated_once_all_are_told(link: AgentdStandIn) -> None:
    at, today = 10**9, 1_780_000_000 * 10**9
    boots = [Boot(f"b{day}", syncs=(Sync(at, today + day * 10**15, 0, "relay"),)) for day in range(200)]
    first = msgspec.structs.replace(block(1), clock=Clock("b3", 0, "unsynchronised"))
    link.commit("one", first)
    assert link.control is not None

    def times() -> set[str]:
        found = link.http.get("/api/v1/events", params={"pipeline": "one"}).json()["events"]
        return {event["time"][:4] for event in found}

    eventually(lambda: times() == {"1970"}, "it is there")
    link.control.send(messages.Boots(tuple(boots[:120]), 0, 200))
    link.control.send(messages.Boots(tuple(boots[:100]), 0, 200))  # more became known meanwhile
    link.control.send(messages.Boots(tuple(boots[100:]), 100, 200))
    eventually(lambda: times() == {"2026"}, "it is dated")


def test_link_with_the_test_as_agentd_says_where_it_serves_beats_and_ends_when_told(
    link: AgentdStandIn,
) -> None:
    assert link.process is not None
    found = json.loads((link.store / "run" / "link.json").read_text())
    assert found == {"http": link.port, "pid": link.process.pid}
    first = eventually(lambda: link.board.slot(2).beaten, "link beats")
    eventually(lambda: link.board.slot(2).beaten > first, "link beats again")
    os.kill(link.process.pid, signal.SIGINT)  # Ctrl-C reaches the whole group and is agentd's to handle
    assert link.http.get("/healthz").status_code == 200
    with (
        link.http.stream("GET", "/api/v1/status/stream") as page,
        link.http.stream("GET", "/api/v1/events", headers={"accept": "text/event-stream"}) as events,
    ):
        assert next(page.iter_lines()).startswith("data: ")
        assert next(events.iter_lines()) == "retry: 1000"
        assert link.stop() == 0
    assert not (link.store / "run" / "link.json").exists()


def test_link_with_the_test_as_agentd_ends_when_agentd_is_gone(link: AgentdStandIn) -> None:
    assert link.process is not None
    assert link.control is not None
    link.control.sock.shutdown(socket.SHUT_RDWR)
    assert link.process.wait(10) == 0


def test_link_with_the_test_as_agentd_waits_for_its_port_and_uploads_meanwhile(
    device: AgentdStandIn, relay: StandInRelay
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        device.port = taken.getsockname()[1]
        device.spawn()
        device.commit("one", block(3))
        eventually(lambda: len(relay.received) == 3, "the events are at the relay")
        assert not (device.store / "run" / "link.json").exists()
    device.connect()
    assert device.http.get("/healthz").status_code == 200


def test_link_with_the_test_as_agentd_stays_within_its_memory(
    device: AgentdStandIn, relay: StandInRelay
) -> None:
    device.start()
    device.commit("one", block(3))
    eventually(lambda: relay.heartbeats, "a heartbeat")
    assert device.http.get("/").status_code == 200
    assert device.process is not None
    modules = Path(f"/proc/{device.process.pid}/maps").read_text()
    assert "numpy" not in modules
    pss = Path(f"/proc/{device.process.pid}/smaps_rollup").read_text().split("\nPss:")[1].split()[0]
    assert int(pss) < 55 << 10


# who may call


def test_the_endpoint_refuses_foreign_hosts_and_origins(link: AgentdStandIn) -> None:
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}, {"host": ""}):
        for method, path in (("GET", "/"), ("DELETE", "/api/v1/pipelines/one"), ("GET", "/metrics")):
            answer = link.http.request(method, path, headers=headers)
            assert (answer.status_code, list(answer.json())) == (403, ["error"])
    assert not link.heard
    assert link.http.get("/", headers={"host": f"localhost:{link.port}"}).status_code == 200


def test_the_endpoint_answers_what_it_does_not_know_in_json(link: AgentdStandIn) -> None:
    for method, path, code in (
        ("GET", "/nothing", 404),
        ("POST", "/metrics", 405),
        ("GET", "/api/v1/pipelines/x", 404),
    ):
        answer = link.http.request(method, path)
        assert (answer.status_code, list(answer.json())) == (code, ["error"])


# what it shows


def test_metrics_of_all_processes_and_workers_are_one_exposition(link: AgentdStandIn) -> None:
    link.board.slot(1).counter(
        labelled("input_rejected_total", pipeline="one", input="a", reason="json")
    ).add(7)
    worker = link.board.slot(4)
    worker.counter(labelled("rows_total", input="a")).add(11)
    Histogram(worker, "decision").record(1_500_000)
    link.tell(pipeline("one", slot=4, restarts=2))

    def found() -> dict[str, dict[str, float]]:
        answer = link.http.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return parse(answer.text)

    families = eventually(lambda: "edgeflow_rows_total" in (all_ := found()) and all_, "the worker is known")
    assert families["edgeflow_rows_total"] == {'edgeflow_rows_total{pipeline="one",input="a"}': 11}
    name = 'edgeflow_input_rejected_total{pipeline="one",input="a",reason="json"}'
    assert families["edgeflow_input_rejected_total"] == {name: 7}
    assert families["edgeflow_decision_us"]['edgeflow_decision_us_bucket{pipeline="one",le="2048"}'] == 1
    assert families["edgeflow_decision_us"]['edgeflow_decision_us_bucket{pipeline="one",le="1024"}'] == 0
    assert families["edgeflow_pipeline_restarts_total"] == {
        'edgeflow_pipeline_restarts_total{pipeline="one"}': 2
    }
    shown = link.http.get("/api/v1/pipelines/one").json()
    assert shown["counters"]['input_rejected_total{input="a",reason="json"}'] == 7
    assert shown["latency_us"]["decision"] == {"p50": 2048, "p99": 2048}


def test_the_device_is_ready_when_what_runs_runs_and_io_beats(link: AgentdStandIn) -> None:
    link.tell(pipeline("one"), pipeline("bad", state="failing", reason="no model"))
    link.board.slot(0).beat()
    answer = eventually(
        lambda: "bad" in (found := link.http.get("/readyz")).text and found, "the failing pipeline is named"
    )
    assert answer.status_code == 503
    assert answer.json() == {
        "ready": False,
        "reasons": ["pipeline bad is failing: no model", "io stands still"],
        "degraded": [],
    }
    link.board.slot(1).beat()
    link.tell(pipeline("one"))
    well = {"ready": True, "reasons": [], "degraded": []}
    eventually(lambda: link.http.get("/readyz").json() == well, "ready")


@pytest.mark.parametrize(
    ("refused", "why"), [(1, "the disk refuses"), (2, "the budget of the storage has no room for")]
)
def test_a_recording_that_has_no_room_is_named(link: AgentdStandIn, refused: int, why: str) -> None:
    link.board.slot(4).counter("recording_refused").set(refused)
    link.tell(pipeline("one", slot=4))
    found = eventually(lambda: link.http.get("/api/v1/device").json()["degraded"], "it is named")
    assert found == [f"pipeline one: {why} its recording; rows wait in memory, then they are lost"]


def test_a_broker_that_is_away_is_named_and_keeps_nobody_from_being_ready(link: AgentdStandIn) -> None:
    away = messages.BrokerStatus("local", "127.0.0.1:1883", False, "Connection refused", 0)
    assert link.control is not None
    link.control.send(messages.Pipelines((pipeline("one"),), (away,)))
    for slot in (0, 1):
        link.board.slot(slot).beat()
    words = "broker local at 127.0.0.1:1883: not connected: Connection refused"
    answer = eventually(
        lambda: (found := link.http.get("/readyz").json())["degraded"] and found, "the broker is named"
    )
    assert answer == {"ready": True, "reasons": [], "degraded": [words]}
    (told,) = link.http.get("/api/v1/device").json()["brokers"]
    assert (told["name"], told["connected"], told["reason"]) == ("local", False, "Connection refused")
    assert "not connected (Connection refused)" in link.http.get("/").text


def test_the_page_escapes_all_it_shows_and_refreshes_itself(link: AgentdStandIn) -> None:
    nasty = "<script>alert('x')</script>&\""
    link.tell(
        pipeline("one", reason=nasty, state="failing", origin=nasty, errors={nasty: f"Traceback\n{nasty}"})
    )
    link.commit("one", block(1, kind=nasty))
    eventually(lambda: "alert" in link.http.get("/").text, "the page knows")
    page = link.http.get("/")
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert(&#x27;x&#x27;)" in page.text
    assert "sha256-" in page.headers["content-security-policy"]
    for outside in ("http:", "https:", "//cdn"):
        assert outside not in page.text
    with link.http.stream("GET", "/api/v1/status/stream") as stream:
        lines = (line for line in stream.iter_lines() if line)
        first = dict(json.loads(next(lines).removeprefix("data: ")))
        assert {"device", "relay", "recent", "head:one", "figures:one", "errors:one"} == set(first)
        assert "<script>" not in json.dumps(first)
        link.tell(pipeline("two"))
        while True:
            changed = dict(json.loads(next(lines).removeprefix("data: ")))
            if "" in changed:  # another pipeline: the page is to be loaded anew
                break
        assert "head:two" in changed


def test_the_device_says_who_it_is(link: AgentdStandIn) -> None:
    found = link.http.get("/api/v1/device").json()
    assert (found["device"], found["fleet"]) == ("dev-1", "test")
    assert found["relay"] == {"address": "", "connected": False, "error": "", "backlog": 0, "conflicts": []}
    assert found["host"]["memory_total"] > 0
    assert [p["name"] for p in link.http.get("/api/v1/pipelines").json()["pipelines"]] == ["one", "two"]
