"""The uplink of a real `link` process; the test plays `agentd` and the workers, a stand-in the relay."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from edgeflow_agent.core import messages, shm
from edgeflow_agent.core.board import labelled
from edgeflow_proto.bundle import make_manifest
from edgeflow_proto.v1.relay_pb2 import Desired, DesiredState
from tests.agent.uplink.standin import StandInRelay
from tests.agent.web.harness import AgentdStandIn, block, pipeline
from tests.support.processes import eventually

pytestmark = pytest.mark.system


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
    device.commit("one", block(60))  # more than was acknowledged
    eventually(lambda: device.counter("uplink_backlog") == 85, "all of it waits")
    assert device.counter("uplink_conflict") == 1
    assert device.counter(labelled("uplink_acked", pipeline="one")) == 0
    device.stop()
    device.start()
    eventually(lambda: device.counter("uplink_connected"), "connected again")
    eventually(lambda: device.http.get("/api/v1/device").json()["relay"]["conflicts"] == ["one"], "it is so")
    assert "started without" in device.http.get("/").text
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
    assert not [heard for heard in device.heard if not isinstance(heard, messages.Claim)]
    relay.stop()
    relay.desired = DesiredState(revision=4)
    relay.start()
    assert device.hear(messages.Withdraw).name == "new"


def test_what_has_rotted_at_the_relay_is_fetched_once_a_while(
    device: AgentdStandIn, relay: StandInRelay
) -> None:
    wish = desired(relay, 1, {"pipeline.yaml": b"edgeflow: 1\nname: new\n"})
    relay.blobs = {digest: bytes(len(data)) for digest, data in relay.blobs.items()}
    device.start()
    device.hear(messages.Claim)
    told = eventually(lambda: [s for s in relay.statuses if s.reason], "the device says what is wrong")
    assert told[0].digest == wish.digest
    assert told[0].reason.endswith("what came has another digest; it is tried again in 1 min")
    time.sleep(2)
    assert relay.offsets == [0]


def test_nothing_is_left_in_staging_by_a_link_that_was_killed(device: AgentdStandIn) -> None:
    half = device.store / "staging" / ".half"
    half.mkdir()
    whole = device.store / "staging" / "offered"
    whole.mkdir()
    device.start()
    assert not half.exists()
    assert whole.exists()
    shm.take(device.commits)
