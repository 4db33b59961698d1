"""The real endpoint of a real `link` process; the test plays `agentd`, `io` and the workers."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from edgeflow_agent.core import messages
from edgeflow_agent.core.board import labelled
from edgeflow_proto import archive
from tests.agent.web.harness import AgentdStandIn, block, pipeline
from tests.support.processes import eventually

pytestmark = pytest.mark.system
JSON = {"content-type": "application/json"}


def in_background(work: Callable[[], httpx.Response]) -> Callable[[], httpx.Response]:
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return lambda: future.result(20)


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
    told = {"name": "new", "digest": "abc", "runs": "http", "warnings": []}
    assert (answer.status_code, answer.json()) == (201, told)
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


def test_put_leaves_out_what_is_hidden_and_refuses_files_where_the_manifest_lies(link: AgentdStandIn) -> None:
    headers = {"content-type": archive.CONTENT_TYPE}
    strewn = archive.pack({".DS_Store": b"", "lib/__pycache__/f.pyc": b""})
    put = in_background(lambda: link.http.put("/api/v1/pipelines/one", content=strewn, headers=headers))
    offer = link.hear(messages.Offer)
    assert list(Path(offer.staging).iterdir()) == []
    assert link.control is not None
    link.control.send(messages.Offered("one", "", "http", "refused", "no such file", 0, offer.ticket))
    assert put().status_code == 422
    body = tarfile.TarInfo("manifest.json/x").tobuf()
    answer = link.http.put("/api/v1/pipelines/one", content=body, headers=headers)
    assert answer.status_code == 422
    assert "manifest.json is the name of the bundle's manifest" in answer.json()["problems"][0]


def test_put_stages_nothing_where_there_is_no_room(link: AgentdStandIn) -> None:
    link.room = 1000
    put = in_background(lambda: link.http.put("/api/v1/pipelines/one", content=b"{}", headers=JSON))
    asked = link.hear(messages.Claim)
    assert asked.size > 2
    answer = put()
    assert answer.status_code == 507
    assert "are more than 1000" in answer.json()["problems"][0]
    assert list((link.store / "staging").iterdir()) == []


def test_put_gives_its_room_back_when_all_is_written(link: AgentdStandIn) -> None:
    put = in_background(lambda: link.http.put("/api/v1/pipelines/one", content=b"{}", headers=JSON))
    asked = link.hear(messages.Claim)
    assert link.hear(messages.Claim) == messages.Claim(asked.ticket, 0)
    offer = link.hear(messages.Offer)
    assert link.control is not None
    link.control.send(messages.Offered("one", "abc", "http", "active", "", 0, offer.ticket))
    assert put().status_code == 200


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
