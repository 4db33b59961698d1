"""Devices' streams: what is stored and acknowledged, what is told, and what is refused without harm."""

from __future__ import annotations

import struct
import time

import grpc
import pytest

from edgeflow_proto.event import Column
from edgeflow_proto.v1 import device_pb2
from tests.relay.conftest import Connect
from tests.relay.harness import Relay, block, sequences
from tests.support.processes import eventually

METHOD = "/edgeflow.v1.Fleet/Connect"


def test_a_hello_is_welcomed_and_told_what_is_desired(relay: Relay, connect: Connect) -> None:
    device = connect(relay, "hello-1", journals=("j1",))
    assert device.welcome.heartbeat_interval_ms == 5000
    assert device.welcomed == {}
    eventually(lambda: device.desired, "the desired state comes")
    assert (device.desired[0].revision, list(device.desired[0].pipelines)) == (0, [])
    known = relay.device("hello-1")
    assert known["online"] is True
    assert (known["machine"], known["agent_version"], known["fleet"]) == ("x86_64", "0.1", "default")


def test_events_are_stored_once_however_often_they_come(relay: Relay, connect: Connect) -> None:
    device = connect(relay, "twice")
    before = relay.metric("edgeflow_relay_events_duplicate_total")
    for _ in range(3):
        device.block(1, 10)
    device.block(6, 10)  # half of it is known
    device.await_ack(15)
    assert sequences(relay.events(device="twice")) == list(range(1, 16))
    eventually(
        lambda: relay.metric("edgeflow_relay_events_duplicate_total") == before + 25, "duplicates are counted"
    )


def test_an_event_is_cloudevents_json(relay: Relay, connect: Connect) -> None:
    device = connect(relay, "form")
    device.block(
        7, 1, keys=("press-3",), key=struct.pack("<I", 0), inputs=("accel",), spans=struct.pack("<2q", 4, 9)
    )
    device.await_ack(7)
    (event,) = relay.events(device="form")
    assert event["specversion"] == "1.0"
    assert (event["id"], event["source"]) == ("j1-7", "/devices/form/pipelines/watch")
    assert (event["subject"], event["inputspan"]) == ("press-3", "accel:4-9")
    assert (event["data"], event["time"]) == ({"value": 7.0}, "2023-11-14T22:13:27.000000Z")


def test_a_device_that_comes_back_hears_how_far_it_was(relay: Relay, connect: Connect) -> None:
    device = connect(relay, "resume")
    device.block(1, 5)
    device.block(1, 3, journal="j2")
    device.await_ack(5)
    device.await_ack(3, "j2")
    device.close()
    again = connect(relay, "resume", journals=("j1", "j2", "unknown"))
    assert again.welcomed == {"j1": 5, "j2": 3}
    other = connect(relay, "other-device", journals=("j1",))
    assert other.welcomed == {}


def test_numbers_that_were_passed_over_are_counted(relay: Relay, connect: Connect) -> None:
    device = connect(relay, "missing")
    before = relay.metric("edgeflow_relay_events_missing_total")
    device.block(1, 5)
    device.block(11, 5)
    device.await_ack(15)
    assert relay.metric("edgeflow_relay_events_missing_total") == before + 5


def test_a_second_stream_of_a_device_replaces_the_first(relay: Relay, connect: Connect) -> None:
    first = connect(relay, "replaced")
    second = connect(relay, "replaced")
    assert first.refusal == ("ABORTED", "the device has opened another stream")
    second.block(1)
    second.await_ack(1)
    assert relay.device("replaced")["online"] is True


def test_a_device_that_leaves_is_offline(relay: Relay, connect: Connect) -> None:
    device = connect(relay, "leaves")
    assert relay.device("leaves")["online"] is True
    device.close()
    eventually(lambda: relay.device("leaves")["online"] is False, "it is offline")


@pytest.fixture
def impatient(own_relay: Relay) -> Relay:
    """A relay that shows a device as offline after half a second."""
    config = own_relay.folder / "relay.yaml"
    config.write_text("heartbeat: 100ms\noffline_after: 500ms\n")
    own_relay.extra = ("--config", str(config))
    return own_relay.start()


def test_a_device_that_falls_silent_is_offline_until_it_is_heard_again(
    impatient: Relay, connect: Connect
) -> None:
    device = connect(impatient, "silent")
    assert device.welcome.heartbeat_interval_ms == 100
    eventually(lambda: impatient.device("silent")["online"] is False, "it is shown as offline")
    assert impatient.metric("edgeflow_relay_streams_silent_total") == 1
    device.block(1)
    device.await_ack(1)
    assert not device.done.is_set()
    eventually(lambda: impatient.device("silent")["online"] is True, "it is shown as online")


def test_what_is_desired_of_a_silent_device_is_sent_all_the_same(impatient: Relay, connect: Connect) -> None:
    device = connect(impatient, "hears")
    eventually(lambda: impatient.device("hears")["online"] is False, "it is shown as offline")
    eventually(lambda: len(device.desired) > 1, "what is desired comes again")


def test_a_silent_device_that_opens_another_stream_has_one(impatient: Relay, connect: Connect) -> None:
    first = connect(impatient, "again", journals=("j1",))
    eventually(lambda: impatient.device("again")["online"] is False, "it is shown as offline")
    second = connect(impatient, "again", journals=("j2",))  # its store was wiped
    first.block(1)
    assert first.refusal == ("ABORTED", "the device has opened another stream")
    second.block(1, journal="j2")
    second.await_ack(1, "j2")


def test_a_heartbeat_tells_how_a_device_fares(relay: Relay, connect: Connect) -> None:
    device = connect(relay, "fares")
    host = device_pb2.HostMetrics(cpu_percent=12.5, memory_total=1 << 63, load_1m=float("nan"))
    pipeline = device_pb2.PipelineState(
        name="watch", digest="d" * 64, origin="relay", state="running", counters={"rows_total": 7}
    )
    device.heartbeat(host=host, pipelines=[pipeline], backlog=42, clock_quality="unsynchronised")
    eventually(lambda: relay.device("fares")["backlog"] == 42, "the heartbeat arrives")
    known = relay.device("fares")
    assert known["host"]["cpu_percent"] == 12.5
    assert known["host"]["memory_total"] == 1 << 63
    assert known["host"]["load_1m"] is None
    assert known["host"]["temperature"] is None
    assert known["clock_quality"] == "unsynchronised"
    assert known["pipelines"] == [
        {"name": "watch", "digest": "d" * 64, "origin": "relay", "state": "running", "reason": "",
         "counters": {"rows_total": 7}}
    ]  # fmt: skip


def test_a_heartbeat_that_asks_for_the_time_is_told_it(relay: Relay, connect: Connect) -> None:
    device = connect(relay, "asks")
    before = time.time_ns()
    for moment, asks in ((1, False), (2, True), (3, False)):
        device.heartbeat(boot_time_ns=moment, asks_time=asks)
    device.block(1)
    device.await_ack(1)
    answers = [message.time for message in device.messages if message.WhichOneof("message") == "time"]
    assert [answer.boot_time_ns for answer in answers] == [2]
    assert before <= answers[0].wall_time_ns <= time.time_ns()


def test_what_devices_said_outlives_the_relay(own_relay: Relay, connect: Connect) -> None:
    own_relay.start()
    device = connect(own_relay, "outlives")
    device.heartbeat(backlog=7, host=device_pb2.HostMetrics(cpu_percent=float("inf")))
    eventually(lambda: own_relay.device("outlives")["backlog"] == 7, "the heartbeat arrives")
    assert own_relay.stop() == 0
    assert device.refusal == ("UNAVAILABLE", "the relay is stopping")
    own_relay.start()
    known = own_relay.device("outlives")
    assert (known["online"], known["backlog"]) == (False, 7)


BAD_BLOCKS = {
    "no CBOR": b"\xff\xff",
    "nothing": b"",
    "another number of events": block(1, 4),
    "a word that cannot be stored": block(1, 2, type="bad\0type"),
    "a key that is not there": block(1, 2, keys=("a",), key=struct.pack("<2I", 0, 9)),
    "a column that is shorter than it says": block(1, 2, data=(Column("v", "float32", (2,), b"1234"),)),
    "a column of endless empty values": block(1, 2, data=(Column("v", "float32", (10**12, 0), b""),)),
}


@pytest.mark.parametrize("name", BAD_BLOCKS)
def test_a_block_that_cannot_be_read_is_kept_and_passed(relay: Relay, connect: Connect, name: str) -> None:
    device = connect(relay, f"bad-{list(BAD_BLOCKS).index(name)}")
    before = relay.metric("edgeflow_relay_blocks_rejected_total")
    for _ in range(2):  # sent again, it is kept once
        device.batch(1, BAD_BLOCKS[name], 2)
    device.block(3, 2)
    device.await_ack(4)
    assert sequences(relay.events(device=device.name)) == [3, 4]
    assert relay.metric("edgeflow_relay_blocks_rejected_total") == before + 2


def message(**values: object) -> bytes:
    return device_pb2.DeviceMessage(**values).SerializeToString()  # type: ignore[arg-type]


def batch(**values: object) -> bytes:
    usual: dict[str, object] = {"journal_id": "j1", "pipeline": "watch", "first": 1, "count": 1, "block": b""}
    return message(events=device_pb2.EventBatch(**usual | values))  # type: ignore[arg-type]


HELLO = message(hello=device_pb2.Hello(device="malformed", fleet="default"))
MALFORMED = {
    "no message": ([b"\xff\xff\xff"], "3 bytes that are no DeviceMessage"),
    "an empty message": ([b""], "a stream begins with a hello"),
    "no hello": ([message(heartbeat=device_pb2.Heartbeat())], "a stream begins with a hello"),
    "a name with a slash": ([message(hello=device_pb2.Hello(device="a/b"))], "not a device name: 'a/b'"),
    "no name": ([message(hello=device_pb2.Hello())], "not a device name: ''"),
    "no message later": ([HELLO, b"\x0a\xff"], "2 bytes that are no DeviceMessage"),
    "a second hello": ([HELLO, HELLO], "neither events nor a heartbeat nor a status"),
    "no journal": ([HELLO, batch(journal_id="")], "not a journal id: ''"),
    "no such pipeline name": ([HELLO, batch(pipeline="a/+/#")], "not a pipeline name: 'a/+/#'"),
    "no events": ([HELLO, batch(count=0)], "a block of 0 events"),
    "too many events": ([HELLO, batch(count=5000)], "a block of 5000 events"),
    "number 0": ([HELLO, batch(first=0)], "sequence number 0"),
    "a number beyond all": ([HELLO, batch(first=(1 << 64) - 1)], "sequence number"),
    "a status of nothing": (
        [HELLO, message(status=device_pb2.DeploymentStatus(name="../x"))],
        "not a pipeline name: '../x'",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_messages_end_their_own_stream_alone(relay: Relay, connect: Connect, name: str) -> None:
    sent, words = MALFORMED[name]
    neighbour = connect(relay, "neighbour")
    before = relay.metric("edgeflow_relay_malformed_total")
    with (
        grpc.insecure_channel(f"127.0.0.1:{relay.grpc}") as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        list(channel.stream_stream(METHOD)(iter(sent), timeout=20))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
    assert words in caught.value.details()  # type: ignore[attr-defined]
    assert relay.metric("edgeflow_relay_malformed_total") == before + 1
    neighbour.block(1)
    neighbour.await_ack(1)


def test_a_device_of_another_fleet_is_refused(relay: Relay, connect: Connect) -> None:
    device = connect(relay, "stray", fleet="elsewhere")
    assert device.refusal == ("FAILED_PRECONDITION", "this relay serves fleet 'default', not 'elsewhere'")
    assert relay.json("GET", "/api/v1/devices/stray")[0] == 404


def test_blobs_that_are_not_there_are_refused(relay: Relay, connect: Connect) -> None:
    device = connect(relay, "blobs")
    for digest in ("0" * 64, "", "../relay.db", "A" * 64):
        with pytest.raises(grpc.RpcError) as caught:
            device.fetch(digest)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]
    with (
        grpc.insecure_channel(f"127.0.0.1:{relay.grpc}") as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        list(channel.unary_stream("/edgeflow.v1.Blobs/Fetch")(b"\xff", timeout=20))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]


def test_many_devices_at_once(relay: Relay, connect: Connect) -> None:
    devices = [connect(relay, f"many-{i}") for i in range(20)]
    for start in range(1, 1000, 100):
        for device in devices:
            device.block(start, 100, pipeline="crowd")
    for device in devices:
        device.await_ack(1000)
    assert relay.get("/api/v1/events/count?pipeline=crowd")["count"] == 20_000
    assert sequences(relay.events(device="many-7")) == list(range(1, 1001))


def test_another_agent_of_the_same_name_is_refused_and_the_first_is_not_disturbed(
    relay: Relay, connect: Connect
) -> None:
    first = connect(relay, "pump", journals=("a1", "a2"))
    other = connect(relay, "pump", journals=("b1",))
    eventually(other.done.is_set, "the other one is refused")
    assert other.error is not None
    assert other.error.code() is grpc.StatusCode.ALREADY_EXISTS
    assert other.error.details() == "another agent calls itself 'pump'"
    assert not first.done.is_set()
    assert relay.device("pump")["rival"]
    assert "pump: two agents call themselves so" in relay.log
    assert relay.metric("edgeflow_relay_streams_rivals_total") == 1
    again = connect(relay, "pump", journals=("a2", "a3"))  # the first one, anew
    eventually(first.done.is_set, "it takes the place of its former stream")
    assert not again.done.is_set()


def test_a_device_from_the_same_card_image_is_refused_and_takes_no_numbers(
    relay: Relay, connect: Connect
) -> None:
    first = connect(relay, "clone", journals=("j1",), boot="boot-a")
    first.block(1, 10)
    first.await_ack(10)
    other = connect(relay, "clone", journals=("j1",), boot="boot-b")
    assert other.refusal == ("ALREADY_EXISTS", "another agent calls itself 'clone'")
    assert relay.device("clone")["rival"]
    assert "clone: two agents call themselves so" in relay.log
    first.block(11, 10)
    first.await_ack(20)
    again = connect(relay, "clone", journals=("j1",), boot="boot-a")
    assert first.refusal[0] == "ABORTED"
    assert again.welcomed == {"j1": 20}


def test_a_card_image_in_two_devices_is_noticed_when_they_take_turns(relay: Relay, connect: Connect) -> None:
    first = connect(relay, "turns", journals=("j1",), boot="boot-a")
    first.close()
    eventually(lambda: relay.device("turns")["online"] is False, "the first is gone")
    second = connect(relay, "turns", journals=("j1",), boot="boot-b")
    assert second.welcome
    assert not relay.device("turns")["rival"]
    second.close()
    eventually(lambda: relay.device("turns")["online"] is False, "the second is gone")
    assert connect(relay, "turns", journals=("j1",), boot="boot-a").refusal[0] == "ALREADY_EXISTS"
    assert relay.device("turns")["rival"]


def test_a_device_that_was_rebooted_gets_in_when_its_former_stream_has_been_silent(
    own_relay: Relay, connect: Connect
) -> None:
    config = own_relay.folder / "relay.yaml"
    config.write_text("heartbeat: 1s\noffline_after: 60s\n")
    own_relay.extra = ("--config", str(config))
    own_relay.start()
    former = connect(own_relay, "reboot", journals=("j1",), boot="boot-a")
    refused = connect(own_relay, "reboot", journals=("j1",), boot="boot-b")
    assert refused.refusal[0] == "ALREADY_EXISTS"
    assert not former.done.is_set()
    eventually(lambda: not own_relay.device("reboot")["rival"], "it may be the same device")
    assert connect(own_relay, "reboot", journals=("j1",), boot="boot-b").welcome
    assert former.refusal[0] == "ABORTED"
    assert not own_relay.device("reboot")["rival"]


def test_a_device_that_goes_on_beside_another_boot_makes_it_a_rival_for_minutes(
    own_relay: Relay, connect: Connect
) -> None:
    config = own_relay.folder / "relay.yaml"
    config.write_text("heartbeat: 500ms\noffline_after: 60s\n")
    own_relay.extra = ("--config", str(config))
    own_relay.start()
    first = connect(own_relay, "beside", journals=("j1",), boot="boot-a")
    connect(own_relay, "beside", journals=("j1",), boot="boot-b")
    first.block(1)
    first.await_ack(1)
    time.sleep(1.5)  # longer than a device that was rebooted would count as another one
    assert own_relay.device("beside")["rival"]
