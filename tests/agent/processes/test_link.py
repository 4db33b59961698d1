"""The real `link` process, its real endpoint and stream; the test plays `agentd`, `io` and the workers."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from edgeflow_agent.core import messages, shm
from edgeflow_agent.core.board import Histogram, labelled
from edgeflow_proto import archive
from edgeflow_proto.bundle import make_manifest
from edgeflow_proto.v1.relay_pb2 import Desired, DesiredState
from tests.agent.uplink.standin import StandInRelay
from tests.agent.web.harness import AgentdStandIn, block, pipeline
from tests.agent.web.test_metrics import parse
from tests.support.processes import eventually

pytestmark = pytest.mark.system
JSON = {"content-type": "application/json"}


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


def in_background(work: Callable[[], httpx.Response]) -> Callable[[], httpx.Response]:
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return lambda: future.result(20)


# the process


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
    worker = link.board.slot(3)
    worker.counter(labelled("rows_total", input="a")).add(11)
    Histogram(worker, "decision").record(1_500_000)
    link.tell(pipeline("one", slot=3, restarts=2))

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
    }
    link.board.slot(1).beat()
    link.tell(pipeline("one"))
    eventually(lambda: link.http.get("/readyz").json() == {"ready": True, "reasons": []}, "ready")


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


# events


def test_events_are_paged_and_found_by_id(link: AgentdStandIn) -> None:
    link.commit("one", block(5), block(3, 5, kind="other"))
    link.commit("_agent", block(1, kind="edgeflow.gap"))
    seen, cursor = [], ""
    while True:
        page = link.http.get("/api/v1/events", params={"limit": 4, "after": cursor}).json()
        seen += page["events"]
        cursor = page["next"]
        if not page["more"]:
            break
    assert len(seen) == len({event["id"] for event in seen}) == 9
    chosen = {"pipeline": "one", "type": "other"}
    found = link.http.get("/api/v1/events", params=chosen).json()["events"]
    assert [event["data"]["value"] for event in found] == [5.0, 6.0, 7.0]
    assert link.http.get("/api/v1/events", params={"after": cursor}).json()["events"] == []
    one = link.http.get(f"/api/v1/events/{found[1]['id']}")
    assert (one.json(), one.headers["content-type"]) == (found[1], "application/cloudevents+json")
    for unknown in ("nope", "0123-1", found[0]["id"][:-1] + "99"):
        assert link.http.get(f"/api/v1/events/{unknown}").status_code == 404
    for wrong in ({"limit": "0"}, {"limit": "x"}, {"after": "x"}, {"afer": "1"}):
        assert link.http.get("/api/v1/events", params=wrong).status_code == 400


def test_live_events_arrive_as_they_are_committed_and_resume_after_a_break(link: AgentdStandIn) -> None:
    link.commit("one", block(2))
    link.http.get("/api/v1/events")
    headers = {"accept": "text/event-stream"}

    def take(count: int, **more: str) -> tuple[list[float], str]:
        values, last = [], ""
        with link.http.stream("GET", "/api/v1/events", headers=headers | more) as stream:
            for line in stream.iter_lines():
                if line.startswith("retry:") and not more:
                    link.commit("one", block(2, 2))  # after the stream began: new ones only
                if line.startswith("id: "):
                    last = line[4:]
                if line.startswith("data: "):
                    values.append(json.loads(line[6:])["data"]["value"])
                    if len(values) == count:
                        return values, last
        raise AssertionError("the stream ended")

    values, last = take(1)
    assert values == [2.0]
    link.commit("one", block(2, 4))
    assert take(3, **{"last-event-id": last})[0] == [3.0, 4.0, 5.0]


def test_a_reader_that_stops_reading_gets_all_of_it_later_and_hinders_nobody(link: AgentdStandIn) -> None:
    headers = {"accept": "text/event-stream"}
    with link.http.stream("GET", "/api/v1/events?after=0", headers=headers) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 1000"
        for start in range(0, 40_000, 4000):  # some 20 MB of JSON: far more than sockets hold
            link.commit("one", block(4000, start))
        assert link.http.get("/healthz").status_code == 200
        assert link.http.get("/api/v1/events?limit=1").json()["more"]
        values = (json.loads(line[6:])["data"]["value"] for line in lines if line.startswith("data: "))
        assert [next(values) for _ in range(40_000)] == [float(i) for i in range(40_000)]


# putting pipelines here


def test_put_stages_a_document_and_answers_what_agentd_says(link: AgentdStandIn) -> None:
    text = b"edgeflow: 1\nname: new\n"
    headers = {"content-type": "application/yaml"}
    put = in_background(lambda: link.http.put("/api/v1/pipelines/new", content=text, headers=headers))
    offer = link.hear(messages.Offer)
    staging = Path(offer.staging)
    assert (offer.name, offer.origin, staging.parent) == ("new", "http", link.store / "staging")
    assert [path.name for path in staging.iterdir()] == ["pipeline.yaml"]
    assert (staging / "pipeline.yaml").read_bytes() == text
    assert link.control is not None
    link.control.send(messages.Offered("new", "abc", "http", "active", "", 0, offer.ticket + 1))  # another's
    link.control.send(messages.Offered("new", "abc", "http", "active", "", 0, offer.ticket))
    answer = put()
    assert (answer.status_code, answer.json()) == (201, {"name": "new", "digest": "abc", "runs": "http"})
    assert list((link.store / "staging").glob(".*")) == []


def test_put_unpacks_a_bundle(link: AgentdStandIn) -> None:
    files = {"pipeline.yaml": b"edgeflow: 1\n", "models/m.onnx": os.urandom(3_000_000)}
    body, headers = archive.pack(files), {"content-type": archive.CONTENT_TYPE}
    put = in_background(lambda: link.http.put("/api/v1/pipelines/one", content=body, headers=headers))
    offer = link.hear(messages.Offer)
    staging = Path(offer.staging)
    found = {p.relative_to(staging).as_posix(): p.read_bytes() for p in staging.rglob("*") if p.is_file()}
    assert found == files
    assert link.control is not None
    link.control.send(messages.Offered("one", "abc", "http", "active", "", 0, offer.ticket))
    assert put().status_code == 200
    link.tell(pipeline("one", origin="relay"))
    eventually(lambda: "relay" in link.http.get("/api/v1/pipelines/one").text, "the relay's is known")
    put = in_background(lambda: link.http.put("/api/v1/pipelines/one", content=body, headers=headers))
    offer = link.hear(messages.Offer)
    link.control.send(messages.Offered("one", "abc", "http", "active", "", 0, offer.ticket))
    assert put().json()["runs"] == "relay"


def test_put_tells_every_problem(link: AgentdStandIn) -> None:
    put = in_background(lambda: link.http.put("/api/v1/pipelines/one", content=b"{}", headers=JSON))
    offer = link.hear(messages.Offer)
    assert link.control is not None
    reason = "pipeline.yaml:1:1: name: missing\npipeline.yaml:1:1: inputs: missing"
    link.control.send(messages.Offered("one", "", "http", "refused", reason, 0, offer.ticket))
    assert (put().status_code, put().json()) == (422, {"problems": reason.splitlines()})


def test_put_takes_what_it_can_read_and_nothing_larger_than_it_may_be(link: AgentdStandIn) -> None:
    def put(name: str, kind: str, content: bytes) -> tuple[int, list[str]]:
        answer = link.http.put(f"/api/v1/pipelines/{name}", content=content, headers={"content-type": kind})
        return answer.status_code, list(answer.json())

    assert put("one", "text/html", b"x") == (415, ["problems"])
    assert put("Not A Name", "application/json", b"{}") == (422, ["problems"])
    assert put("one", "application/json", bytes((1 << 20) + 1)) == (413, ["problems"])
    assert put("one", "application/x-tar", b"no tar at all") == (422, ["problems"])
    assert not link.heard
    assert list((link.store / "staging").iterdir()) == []


def test_delete_withdraws_what_was_put_here(link: AgentdStandIn) -> None:
    deleted = in_background(lambda: link.http.delete("/api/v1/pipelines/one"))
    withdraw = link.hear(messages.Withdraw)
    assert (withdraw.name, withdraw.origin) == ("one", "http")
    assert link.control is not None
    link.control.send(messages.Offered("one", "", "http", "removed", "", 0, withdraw.ticket))
    assert deleted().status_code == 204
    link.tell(pipeline("two", origin="folder"))
    eventually(lambda: link.http.delete("/api/v1/pipelines/one").status_code == 404, "one is gone")
    assert link.http.delete("/api/v1/pipelines/two").status_code == 409


# posts


def post(
    link: AgentdStandIn, content: bytes, name: str = "one", kind: str = "application/json"
) -> httpx.Response:
    headers = {"content-type": kind}
    return link.http.post(f"/api/v1/pipelines/{name}/inputs/accel", content=content, headers=headers)


@pytest.mark.parametrize(
    ("kind", "decoder"),
    [
        ("application/json; charset=utf-8", "json"),
        ("application/cbor", "cbor"),
        ("application/octet-stream", "raw"),
    ],
)
@pytest.mark.parametrize("size", [0, 10, 1 << 20])
def test_a_post_reaches_io_whole_and_its_answer_comes_back(
    link: AgentdStandIn, kind: str, decoder: str, size: int
) -> None:
    content = os.urandom(size)
    answer = in_background(lambda: post(link, content, kind=kind))
    sent, body = link.take_post()
    assert (sent.pipeline, sent.input, sent.decoder, sent.size, body) == (
        "one",
        "accel",
        decoder,
        size,
        content,
    )
    link.io.send(messages.Posted(sent.ticket - 1, 9, 0))  # one that nobody waits for
    link.io.send(messages.Posted(sent.ticket, 5, 0))
    assert (answer().status_code, answer().json()) == (202, {"accepted": 5})


def test_a_post_that_io_rejects_says_why(link: AgentdStandIn) -> None:
    for reason, code in (("json: line 1", 400), ("unknown_input: no such input", 404)):
        answer = in_background(lambda: post(link, b"{"))
        link.io.send(messages.Posted(link.take_post()[0].ticket, 0, 1, reason))
        assert answer().status_code == code


def test_posts_that_cannot_be_taken_never_reach_io(link: AgentdStandIn) -> None:
    assert post(link, b"{}", name="nobody").status_code == 404
    assert post(link, b"{}", kind="text/html").status_code == 415
    assert post(link, bytes((1 << 20) + 1)).status_code == 413
    chunks = (bytes(1 << 16) for _ in range(100))
    answer = link.http.post("/api/v1/pipelines/one/inputs/accel", content=chunks, headers=JSON)
    assert answer.status_code == 413
    assert link.io.receive() is None
    assert link.counter(labelled("posts_rejected_total", reason="size")) == 2


def test_a_full_socket_is_answered_with_429_and_heals(link: AgentdStandIn) -> None:
    body = bytes(30_000)
    with ThreadPoolExecutor(40) as pool:
        answers = [pool.submit(post, link, body) for _ in range(40)]
        refused = eventually(
            lambda: [a.result() for a in answers if a.done() and a.result().status_code == 429], "429"
        )
        assert refused[0].headers["retry-after"] == "1"
        while not all(a.done() for a in answers):
            if (received := link.io.receive()) is not None:
                assert isinstance(received[0], messages.Post)
                link.io.send(messages.Posted(received[0].ticket, 1, 0))
    codes = [a.result().status_code for a in answers]
    assert set(codes) == {202, 429}
    late = in_background(lambda: post(link, body))
    link.io.send(messages.Posted(link.take_post()[0].ticket, 1, 0))
    assert late().status_code == 202


def test_an_io_that_does_not_answer_is_a_timeout(link: AgentdStandIn) -> None:
    answer = in_background(lambda: post(link, b"{}"))
    link.take_post()
    assert answer().status_code == 504


# the uplink


def one_to(count: int, name: str = "one") -> list[tuple[str, int]]:
    return [(name, number) for number in range(1, count + 1)]


def test_a_backlog_arrives_once_and_in_order_when_the_relay_comes(
    device: AgentdStandIn, relay: StandInRelay
) -> None:
    relay.stop()
    device.start()
    for start in range(0, 3000, 10):
        device.commit("one", block(10, start))
    eventually(lambda: device.counter("uplink_backlog") == 3000, "the backlog is counted")
    assert device.http.get("/healthz").status_code == 200
    assert device.http.get("/api/v1/device").json()["relay"]["error"]
    relay.start()
    eventually(lambda: len(relay.received) >= 3000, "all is at the relay")
    assert relay.received == one_to(3000)
    eventually(lambda: device.counter("uplink_backlog") == 0, "nothing waits")
    assert device.counter(labelled("uplink_acked", pipeline="one")) == 3000


def test_a_relay_that_comes_and_goes_has_every_event_in_order(
    device: AgentdStandIn, relay: StandInRelay
) -> None:
    device.start()
    for turn in range(5):
        device.commit("one", *(block(10, turn * 100 + start) for start in range(0, 50, 10)))
        eventually(lambda: relay.batches, "something is at the relay")
        relay.stop()
        device.commit("one", *(block(10, turn * 100 + start) for start in range(50, 100, 10)))
        relay.start()
    eventually(lambda: len(set(relay.received)) == 500, "all is at the relay")
    assert list(dict.fromkeys(relay.received)) == one_to(500)


def test_link_killed_five_times_sends_everything_and_nothing_that_was_acknowledged(
    device: AgentdStandIn, relay: StandInRelay
) -> None:
    for turn in range(5):
        device.start()
        device.commit("one", *(block(10, turn * 200 + start) for start in range(0, 200, 10)))
        enough = turn * 200
        eventually(lambda: len(set(relay.received)) > enough, "some of it is at the relay")  # noqa: B023
        acked = dict(relay.acked)
        device.kill()
        before = len(relay.batches)
    device.start()
    eventually(lambda: len(set(relay.received)) == 1000, "all is at the relay")
    assert list(dict.fromkeys(relay.received)) == one_to(1000)
    assert all(batch.first > acked[batch.journal_id] for batch in relay.batches[before + 16 :])


def test_the_hello_names_every_journal_and_heartbeats_say_how_it_is(
    device: AgentdStandIn, relay: StandInRelay
) -> None:
    device.commit("gone", block(4))
    device.commit("_agent", block(1))
    device.board.slot(3).counter(labelled("rows_total", input="a")).add(5)
    device.statuses = (pipeline("one", slot=3, digest="abc", origin="folder"),)
    device.start()
    eventually(
        lambda: sorted(set(relay.received)) == sorted([*one_to(4, "gone"), ("_agent", 1)]), "old events"
    )
    hello = relay.hellos[0]
    assert (hello.device, hello.fleet, hello.revision) == ("dev-1", "test", 0)
    assert {(j.pipeline, j.first, j.last) for j in hello.journals} == {("gone", 1, 4), ("_agent", 1, 1)}
    beat = eventually(lambda: relay.heartbeats[-1] if len(relay.heartbeats) > 2 else None, "heartbeats")
    assert beat.host.memory_total > 0
    state = beat.pipelines[0]
    assert (state.name, state.digest, state.origin, state.state) == ("one", "abc", "folder", "running")
    assert state.counters['rows_total{input="a"}'] == 5
    eventually(lambda: relay.heartbeats[-1].backlog == 0, "no backlog")


def test_many_journals_are_uploaded_beside_one_another(device: AgentdStandIn, relay: StandInRelay) -> None:
    relay.stop()
    device.start()
    for name in ("a", "b", "c"):
        device.commit(name, *(block(1, i) for i in range(100)))
    relay.start()
    eventually(lambda: len(relay.received) == 300, "all is at the relay")
    assert {name for name, _ in relay.received[:3]} == {"a", "b", "c"}


def test_a_relay_that_never_welcomes_or_acknowledges_stops_nothing(
    device: AgentdStandIn, relay: StandInRelay
) -> None:
    relay.forgetful = True
    device.start()
    device.commit("one", *(block(1, i) for i in range(100)))
    eventually(lambda: len(relay.batches) == 16, "the window is full")
    assert device.http.get("/api/v1/events?limit=1").json()["more"]
    eventually(lambda: len(relay.heartbeats) > 3, "heartbeats go on")
    assert len(relay.batches) == 16
    relay.stop()
    relay.forgetful, relay.silent = False, True
    relay.start()
    eventually(lambda: len(relay.hellos) == 2, "it is tried again")
    assert device.http.get("/healthz").status_code == 200


def test_a_store_put_back_sends_nothing_until_its_journal_is_a_new_one(
    device: AgentdStandIn, relay: StandInRelay
) -> None:
    journal = device.commit("one", block(5))
    relay.acked[journal.id] = 50
    device.start()
    eventually(lambda: device.counter("uplink_conflict") == 1, "the conflict is seen")
    assert device.http.get("/api/v1/device").json()["relay"]["conflicts"] == ["one"]
    device.commit("one", block(20))
    eventually(lambda: len(relay.heartbeats) > 3, "heartbeats go on")
    assert relay.batches == []
    device.journals.pop("one").close()
    for path in (device.store / "journals" / "one").iterdir():
        path.unlink()
    device.commit("one", block(7))
    eventually(lambda: relay.received == one_to(7), "the new journal's events")
    eventually(lambda: device.counter("uplink_conflict") == 0, "the conflict is over")


def desired(relay: StandInRelay, revision: int, files: dict[str, bytes]) -> Desired:
    manifest = make_manifest("new", files, {})
    for data in files.values():
        relay.add(data)
    wish = Desired(name="new", digest=manifest.digest, manifest=manifest.encode())
    relay.desired = DesiredState(revision=revision, pipelines=[wish])
    return wish


def test_what_the_relay_wants_is_fetched_over_breaks_offered_and_reported(
    device: AgentdStandIn, relay: StandInRelay
) -> None:
    files = {"pipeline.yaml": b"edgeflow: 1\nname: new\n", "m.onnx": os.urandom(10_500)}
    wish = desired(relay, 3, files)
    relay.cut_after = 4
    device.start()
    offer = device.hear(messages.Offer)
    assert (offer.name, offer.origin, offer.revision) == ("new", "relay", 3)
    staged = {p.name: p.read_bytes() for p in Path(offer.staging).iterdir()}
    assert staged == {**files, "manifest.json": wish.manifest}
    assert [offset for offset in relay.offsets if offset] == [4000, 8000]
    assert device.control is not None
    device.control.send(messages.Offered("new", wish.digest, "relay", "active", "", 3))
    device.tell(pipeline("new", origin="relay", digest=wish.digest))
    eventually(lambda: relay.statuses and relay.statuses[-1].state == "active", "active is reported")
    states = list(dict.fromkeys(status.state for status in relay.statuses))
    assert states == ["fetching", "verified", "active"]
    relay.stop()
    relay.statuses.clear()
    relay.start()
    eventually(lambda: [s.state for s in relay.statuses] == ["active"], "it is reported again")
    assert relay.hellos[-1].revision == 3
    assert not device.heard
    relay.stop()
    relay.desired = DesiredState(revision=4)
    relay.start()
    assert device.hear(messages.Withdraw).name == "new"


def test_nothing_is_left_in_staging_by_a_link_that_was_killed(device: AgentdStandIn) -> None:
    half = device.store / "staging" / ".half"
    half.mkdir()
    whole = device.store / "staging" / "offered"
    whole.mkdir()
    device.start()
    assert not half.exists()
    assert whole.exists()
    shm.take(device.commits)
