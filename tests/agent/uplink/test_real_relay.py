"""The real `link` process and a real relay; the test plays `agentd` and the workers."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeflow_agent.core import messages
from edgeflow_agent.core.board import labelled
from edgeflow_proto import archive
from tests.agent.web.harness import AgentdStandIn, block, pipeline
from tests.support.processes import eventually
from tests.support.relay import Relay

pytestmark = pytest.mark.system
TURNS = 5
DOCUMENT = b"""edgeflow: 1
name: new
inputs:
  load: {host: {}, rate: 1 Hz}
steps:
  high: {from: load, threshold: {column: cpu, above: 90}}
outputs:
  alarm: {from: high.raised, event: {}}
"""


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    started = Relay(tmp_path / "relay", "--fleet", "test").start()
    yield started
    started.stop()


@pytest.fixture
def device(tmp_path: Path, relay: Relay) -> Iterator[AgentdStandIn]:
    agentd = AgentdStandIn(tmp_path / "store", f"127.0.0.1:{relay.grpc}", statuses=(pipeline("one"),))
    yield agentd
    agentd.close()


def sequences(relay: Relay) -> list[int]:
    """Numbers of the events the relay holds, in the order it stored them."""
    return [int(event["sequence"]) for event in relay.events("one")]


def put(relay: Relay, path: str, body: bytes, content: str) -> Any:
    request = urllib.request.Request(relay.url + path, body, {"Content-Type": content}, method="PUT")
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read())


def test_a_relay_killed_again_and_again_holds_every_event_once_and_in_order(
    device: AgentdStandIn, relay: Relay
) -> None:
    device.start()
    for turn in range(TURNS):
        device.commit("one", *(block(10, turn * 400 + start) for start in range(0, 200, 10)))
        eventually(
            lambda: device.counter(labelled("uplink_acked", pipeline="one")) > 0, "some are acknowledged"
        )
        relay.kill()
        device.commit("one", *(block(10, turn * 400 + start) for start in range(200, 400, 10)))
        relay.start()
    total = TURNS * 400
    eventually(lambda: device.counter(labelled("uplink_acked", pipeline="one")) == total, "all acknowledged")
    assert sequences(relay) == list(range(1, total + 1))
    values = [event["data"]["value"] for event in relay.events("one")]
    assert values == [float(i) for i in range(total)]


def test_a_link_killed_again_and_again_leaves_every_event_once_and_in_order(
    device: AgentdStandIn, relay: Relay
) -> None:
    for turn in range(TURNS):
        device.start()
        device.commit("one", *(block(7, turn * 350 + start) for start in range(0, 350, 7)))
        eventually(lambda: len(sequences(relay)) > turn * 350, "some are at the relay")  # noqa: B023
        device.kill()
    device.start()
    eventually(lambda: len(sequences(relay)) >= TURNS * 350, "all are at the relay")
    assert sequences(relay) == list(range(1, TURNS * 350 + 1))


def test_a_relay_away_from_the_beginning_gets_the_whole_backlog(device: AgentdStandIn, relay: Relay) -> None:
    relay.kill()
    device.start()
    device.commit("one", *(block(100, start) for start in range(0, 20_000, 100)))
    eventually(lambda: device.counter("uplink_backlog") == 20_000, "the backlog is counted")
    relay.start()
    eventually(lambda: device.counter("uplink_backlog") == 0, "the backlog is gone")
    assert sequences(relay) == list(range(1, 20_001))


def test_a_relay_whose_store_was_put_back_gets_what_the_device_still_has(
    device: AgentdStandIn, relay: Relay
) -> None:
    device.start()
    device.commit("one", block(5))
    eventually(lambda: sequences(relay) == [1, 2, 3, 4, 5], "the first five are at the relay")
    relay.stop()
    shutil.rmtree(relay.folder / "store")
    relay.start()
    eventually(lambda: sequences(relay) == [1, 2, 3, 4, 5], "they are at the relay again")
    device.commit("one", block(2, 5))
    eventually(lambda: sequences(relay) == [1, 2, 3, 4, 5, 6, 7], "so are new ones")


def test_a_wiped_store_is_not_mistaken_for_its_past(
    device: AgentdStandIn, relay: Relay, tmp_path: Path
) -> None:
    device.start()
    device.commit("one", block(5))
    eventually(lambda: len(sequences(relay)) == 5, "the first five are at the relay")
    device.kill()
    again = AgentdStandIn(tmp_path / "new store", device.relay, statuses=(pipeline("one"),))
    again.start()
    again.commit("one", block(3, 100))
    eventually(lambda: len(sequences(relay)) == 8, "the next three are at the relay")
    again.close()
    assert [event["data"]["value"] for event in relay.events("one")] == [0, 1, 2, 3, 4, 100, 101, 102]


def test_a_pipeline_deployed_at_the_relay_is_fetched_offered_and_shown_there(
    device: AgentdStandIn, relay: Relay
) -> None:
    device.start()
    eventually(lambda: relay.json("/api/v1/devices")["devices"], "the device is known")
    bundle = archive.pack({"pipeline.yaml": DOCUMENT})
    uploaded = put(relay, "/api/v1/pipelines/new", bundle, archive.CONTENT_TYPE)
    wanted = put(relay, "/api/v1/devices/dev-1/pipelines/new", b"{}", "application/json")
    offer = device.hear(messages.Offer)
    assert (offer.name, offer.origin, offer.revision) == ("new", "relay", wanted["revision"])
    assert (Path(offer.staging) / "pipeline.yaml").read_bytes() == DOCUMENT
    assert device.control is not None
    answer = messages.Offered("new", uploaded["digest"], "relay", "active", "", offer.revision)
    device.control.send(answer)
    device.tell(pipeline("new", origin="relay", digest=uploaded["digest"]))

    def deployment() -> str:
        return str(relay.json("/api/v1/devices/dev-1")["deployments"].get("new", {}).get("state"))

    eventually(lambda: deployment() == "active", "the relay shows it active")
    device.kill()
    device.start()
    eventually(lambda: device.counter("uplink_connected"), "connected again")
    told = (messages.RelayTime, messages.Claim)
    assert not [heard for heard in device.heard if not isinstance(heard, told)]
