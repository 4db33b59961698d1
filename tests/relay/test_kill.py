"""The relay killed at any moment: what it acknowledged is there, and everything is there once."""

from __future__ import annotations

import random
import threading
import time

import pytest

from tests.relay.conftest import Connect
from tests.relay.harness import FakeDevice, Relay, sequences
from tests.support.processes import eventually

BLOCKS, SIZE = 1500, 20


def test_killed_in_the_midst_of_a_stream_it_has_every_event_once(own_relay: Relay, connect: Connect) -> None:
    own_relay.start()
    rng = random.Random(4)
    acked = 0
    for _ in range(6):
        device = connect(own_relay, "kill", journals=("j1",))
        stored = device.welcomed.get("j1", 0)
        assert stored >= acked, "an acknowledged event is gone"
        acked = send_from(own_relay, device, stored, rng.uniform(0.0, 0.15))
    device = connect(own_relay, "kill", journals=("j1",))
    resume(device, device.welcomed.get("j1", 0))
    everything = list(range(1, BLOCKS * SIZE + 1))
    count = "/api/v1/events/count?device=kill"
    eventually(lambda: own_relay.get(count)["count"] == len(everything), "all events arrive")
    events = own_relay.events(device="kill")
    assert sequences(events) == everything
    assert len({event["id"] for event in events}) == len(events)


def send_from(relay: Relay, device: FakeDevice, acked: int, after: float) -> int:
    """Send everything behind `acked`, kill the relay while it comes, and return what it had acknowledged."""
    sender = threading.Thread(target=resume, args=(device, acked))
    sender.start()
    time.sleep(after)
    relay.kill()
    sender.join()
    device.done.wait(20)
    reached = max(acked, device.acked.get("j1", 0))
    relay.start()
    return reached


def resume(device: FakeDevice, acked: int) -> None:
    for first in range(acked - acked % SIZE + 1, BLOCKS * SIZE, SIZE):
        device.block(first, SIZE)


@pytest.mark.parametrize("signal", ["term", "kill"])
def test_a_pipeline_that_was_taken_is_there_after_the_end(
    own_relay: Relay, connect: Connect, signal: str
) -> None:
    text = b"edgeflow: 1\nname: stays\ninputs: {a: {host: {}}}\noutputs: {o: {from: a, event: {}}}\n"
    own_relay.start()
    connect(own_relay, "stays").close()
    assert own_relay.request("PUT", "/api/v1/pipelines/stays", text, Content_Type="text/yaml")[0] == 201
    assert own_relay.request("PUT", "/api/v1/devices/stays/pipelines/stays")[0] == 202
    own_relay.stop() if signal == "term" else own_relay.kill()
    own_relay.start()
    assert own_relay.request("GET", "/api/v1/pipelines/stays/pipeline.yaml")[1] == text
    device = connect(own_relay, "stays")
    eventually(lambda: device.desired and device.desired[0].pipelines, "the wish is sent")
    assert device.desired[0].revision == 1
