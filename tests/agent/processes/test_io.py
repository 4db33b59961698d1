"""A real `io` process and a real broker; the test plays `agentd`, the workers and `link` (see io_standin)."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import cbor2
import numpy as np
import pytest

from edgeflow_agent.core import messages
from edgeflow_agent.core.clock import boottime_ns
from tests.agent.processes.io_standin import AgentdStandIn, Client, document, read, ready
from tests.support.mosquitto import Mosquitto
from tests.support.processes import eventually

pytestmark = pytest.mark.system
FAILED = (messages.InputFailed, messages.OutputFailed)


def test_samples_of_a_message_are_spaced_by_the_rate_and_carry_their_key(
    agentd: AgentdStandIn, client: Client
) -> None:
    text = '  accel: {mqtt: "plant/{m}/accel", key: m, decode: {json: data}, fields: [x, n], rate: 1 kHz}'
    ring = agentd.deploy(document(text)).rings["accel"]
    agentd.start()
    ready(agentd)
    before = boottime_ns()
    for i in range(10):
        client.send(f"plant/{'ab'[i % 2]}/accel", {"data": [[i, j] for j in range(20)]})
        read(ring, 20 * (i + 1))
        time.sleep(0.05)
    assert ring.rows()[:, 0].tolist() == [i for i in range(10) for _ in range(20)]
    assert ring.names() == [name for _ in range(5) for name in ["a"] * 20 + ["b"] * 20]
    steps = np.diff(ring.times())
    assert (np.delete(steps, np.arange(19, 199, 20)) == 10**6).all()
    assert before - 20 * 10**6 < ring.times()[0]
    assert ring.times()[-1] < boottime_ns()
    assert ring.gaps() == []


def test_all_that_was_sent_is_accepted_or_rejected_by_reason(agentd: AgentdStandIn, client: Client) -> None:
    inputs = "  x: {mqtt: {topic: s/x, qos: 1}, fields: {x: acc.x}}\n  raw: {mqtt: s/raw, decode: raw}"
    rings = agentd.deploy(document(inputs)).rings
    agentd.start()
    ready(agentd)
    bad = {
        b'{"acc": {"x": 1': "json",
        b"": "json",
        b'{"acc": {"x": "1"}}': "type",
        b'{"acc": {"y": 1}}': "missing_field",
        b'{"acc": {"x": NaN}}': "nan",
        b'{"acc": {"x": 1e60}}': "range",
        b"[1, 2]": "shape",
        b"x" * (10 << 20): "size",
        b"x" * ((1 << 20) + 1): "size",
    }
    for i, payload in enumerate(bad):
        client.send("s/x", payload)
        client.send("s/x", {"acc": {"x": i}, "more": True})
        client.send("s/raw", np.array([i, i + 0.5], "<f4").tobytes())
        client.send("s/raw", b"odd")
    read(rings["x"], len(bad))
    read(rings["raw"], 2 * len(bad))
    assert rings["x"].rows()[:, 0].tolist() == [*range(len(bad))]
    assert rings["raw"].rows()[:, 0].tolist() == [i + half for i in range(len(bad)) for half in (0, 0.5)]
    eventually(lambda: agentd.count("input_messages_total", input="x") == 2 * len(bad), "all are counted")
    assert agentd.count("input_accepted_total", input="x") == len(bad)
    for reason in set(bad.values()):
        expected = [*bad.values()].count(reason)
        assert agentd.count("input_rejected_total", input="x", reason=reason) == expected
    odd = {"input": "raw", "reason": "shape"}
    eventually(lambda: agentd.count("input_rejected_total", **odd) == len(bad), "the last of them is too")
    assert "10485760 bytes, the most is 1048576" in agentd.log


def test_the_first_rejected_payload_is_told_at_once_and_the_others_with_their_count(
    agentd: AgentdStandIn, client: Client
) -> None:
    agentd.deploy(document("  x: {mqtt: {topic: s/x, qos: 1}, fields: {x: acc.x}}"))
    agentd.start()
    ready(agentd)
    for payload in (b'{"acc": {"y": 1}}', b"", b'{"acc": {"y": 2}}', b'{"acc": {"y": 3}}'):
        client.send("s/x", payload)
    eventually(lambda: agentd.count("input_rejected_total", input="x") == 4, "all are counted")
    first = eventually(
        lambda: len(found := agentd.hear(messages.InputRejected)) == 2 and found, "two reasons"
    )
    assert [(told.reason, told.example, told.count) for told in first] == [
        ("missing_field", '{"acc": {"y": 1}}', 1),
        ("json", "", 1),
    ]
    assert agentd.stop() == 0
    last = agentd.hear(messages.InputRejected)[2:]  # nothing more can follow
    assert [(told.reason, told.example, told.count) for told in last] == [
        ("missing_field", '{"acc": {"y": 3}}', 2)
    ]
    assert (last[0].pipeline, last[0].input, "acc" in last[0].detail) == ("watch", "x", True)


FLOOD = """
import sys, time
from paho.mqtt import client as mqtt
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_start()
begin, sent = time.monotonic(), 0
while (elapsed := time.monotonic() - begin) < 3:
    for _ in range(int(elapsed * 20000) - sent):
        client.publish("s/junk", b'{"x": "junk, and some more of it"}')
        sent += 1
    time.sleep(0.001)
client.publish("s/junk", b"", qos=1).wait_for_publish(60)
client.disconnect()
client.loop_stop()
print(sent + 1)
"""


def test_a_flood_of_junk_is_counted_and_the_sensor_beside_it_loses_nothing(
    agentd: AgentdStandIn, broker: Mosquitto, client: Client
) -> None:
    inputs = """
  good: {mqtt: s/good, fields: [n], rate: 100 Hz}
  junk: {mqtt: {topic: s/junk, qos: 0}, fields: [x]}"""
    ring = agentd.deploy(document(inputs)).rings["good"]
    agentd.start()
    ready(agentd)
    flood = subprocess.Popen([sys.executable, "-c", FLOOD, str(broker.port)], stdout=subprocess.PIPE)
    sent = 0
    while flood.poll() is None:
        client.send("s/good", [sent])
        sent += 1
        time.sleep(0.01)
    junk = int(flood.communicate()[0])
    eventually(lambda: agentd.count("input_rejected_total", input="junk") == junk, f"{junk} rejected")
    read(ring, sent)
    assert ring.rows()[:, 0].tolist() == [*range(sent)]
    assert ring.gaps() == []
    assert len([line for line in agentd.log.splitlines() if "rejected" in line]) < 5


def test_filters_that_overlap_bring_each_message_once_to_each_input(
    agentd: AgentdStandIn, client: Client
) -> None:
    filters = {"a": "s/+/x", "b": "s/one/+", "c": "s/one/x", "d": "s/#", "e": "s/two/x"}
    inputs = "\n".join(f"  {name}: {{mqtt: {topic}}}" for name, topic in filters.items())
    rings = agentd.deploy(document(inputs)).rings
    other = agentd.deploy(document("  a: {mqtt: {topic: s/one/x, qos: 0}}", name="other")).rings
    agentd.start()
    ready(agentd)
    for topic in ("s/one/x", "s/one/y", "s/two/x", "s/one/x"):
        client.send(topic, 1)
    read(rings["d"], 4)
    time.sleep(0.3)
    assert [ring.read() for ring in rings.values()] == [3, 3, 2, 4, 1]
    assert other["a"].read() == 2


def test_keys_beyond_the_limit_are_rejected_and_the_known_ones_go_on(
    agentd: AgentdStandIn, client: Client
) -> None:
    ring = agentd.deploy(document('  v: {mqtt: "s/{id}", key: id, max_keys: 2}')).rings["v"]
    agentd.start()
    ready(agentd)
    for topic in ("s/a", "s/b", "s/c", "s/a", "s/c", "s/" + "k" * 64, "s/"):
        client.send(topic, 1)
    eventually(lambda: agentd.count("input_messages_total") == 7, "all are counted")
    read(ring, 3)
    assert ring.names() == ["a", "b", "a"]
    assert agentd.count("input_rejected_total", reason="max_keys") == 2
    assert agentd.count("input_rejected_total", reason="key") == 2


def test_inputs_come_and_go_while_io_runs(agentd: AgentdStandIn, client: Client) -> None:
    agentd.start()
    first = agentd.deploy(document("  v: {mqtt: s/a}", name="first")).rings["v"]
    ready(agentd)
    second = agentd.deploy(document("  v: {mqtt: s/+}", name="second")).rings["v"]
    eventually(lambda: client.send("s/b", 1) or second.read(), "the second is subscribed")
    client.send("s/a", 2)
    read(first, 1)
    agentd.detach("second")
    client.send("s/a", 3)
    read(first, 2)
    before = second.read()
    client.send("s/a", 4)
    read(first, 3)
    assert second.read() == before
    assert first.rows()[:, 0].tolist() == [2, 3, 4]


def test_a_new_worker_reads_on_where_the_one_before_was(agentd: AgentdStandIn, client: Client) -> None:
    ring = agentd.deploy(document("  v: {mqtt: s/a}")).rings["v"]
    agentd.start()
    ready(agentd)
    client.send("s/a", 0)
    read(ring, 1)
    for i in range(1, 5):
        agentd.rebind("watch", "v")
        client.send("s/a", i)
    read(ring, 5)
    assert ring.rows()[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_posts_are_decoded_by_their_content_type_and_answered(agentd: AgentdStandIn) -> None:
    inputs = "  h: {http: {}, decode: {json: data}, fields: [x, y], buffer: 9000 rows}\n  m: {mqtt: s/a}"
    ring = agentd.deploy(document(inputs)).rings["h"]
    agentd.start()
    many = [[i, -i] for i in range(5000)]
    answers = [
        agentd.post("watch", "h", "json", b'{"data": [[1, 2], [3, 4]]}'),
        agentd.post("watch", "h", "cbor", cbor2.dumps({"data": [[5, 6]]})),
        agentd.post("watch", "h", "raw", np.array([7, 8], "<f4").tobytes()),
        agentd.post("watch", "h", "json", json.dumps({"data": many}).encode()),
    ]
    assert [(answer.accepted, answer.rejected, answer.reason) for answer in answers] == [
        (2, 0, ""), (1, 0, ""), (1, 0, ""), (5000, 0, ""),
    ]  # fmt: skip
    read(ring, 5004)
    assert ring.rows().tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], *many]
    for decoder, body, reason in (
        ("json", b"junk", "json:"), ("xml", b"<a/>", "content_type:"), ("json", b"x" * (2 << 20), "size:"),
    ):  # fmt: skip
        answer = agentd.post("watch", "h", decoder, body)
        assert (answer.accepted, answer.rejected) == (0, 1)
        assert answer.reason.startswith(reason)
    for pipeline, name in (("watch", "m"), ("watch", "none"), ("none", "h")):
        assert agentd.post(pipeline, name, "json", b"1").reason.startswith("unknown_input:")
    assert agentd.count("input_rejected_total", input="h") == 3
    assert agentd.count("input_accepted_total", input="h") == 4


def test_a_recorded_file_waits_for_the_reader_and_is_whole_after_a_kill(agentd: AgentdStandIn) -> None:
    lines = [f"{i},{i / 2}" for i in range(20_000)]
    lines[5] = "oops,1"
    text = document("  f: {file: rows.csv, fields: [n, half], rate: 1 kHz, buffer: 1000 rows}")
    ring = agentd.deploy(text, rows__csv=("n,half\n" + "\n".join(lines)).encode()).rings["f"]
    agentd.start()
    eventually(lambda: ring.read() > 3000, "the first rows")
    agentd.kill()
    agentd.start()
    read(ring, 19_999)
    assert ring.rows()[:, 0].astype(int).tolist() == [i for i in range(20_000) if i != 5]
    assert ring.lost == 0
    assert ring.gaps() == []
    assert set(np.diff(ring.times()).tolist()) == {10**6}
    assert agentd.count("input_rejected_total", reason="type") == 1
    assert agentd.count("input_rows_total") == 19_999


def test_a_file_that_is_not_there_is_told_once_and_read_when_it_comes(agentd: AgentdStandIn) -> None:
    path = agentd.folder / "later.jsonl"
    ring = agentd.deploy(document(f"  f: {{file: {path}, rate: 1 kHz}}")).rings["f"]
    agentd.start()
    eventually(lambda: agentd.hear(*FAILED), "the failure is told")
    path.write_text("1\n2\n")
    read(ring, 2)
    heard = eventually(lambda: len(found := agentd.hear(*FAILED)) == 2 and found, "it is served again")
    assert [type(message) for message in heard] == [messages.InputFailed] * 2
    assert "later.jsonl" in heard[0].reason  # type: ignore[attr-defined]
    assert heard[1].reason == ""  # type: ignore[attr-defined]


def test_host_rows_come_at_their_period(agentd: AgentdStandIn) -> None:
    ring = agentd.deploy(document("  h: {host: 50ms}\n  some: {host: 20ms, fields: {used: memory}}")).rings
    agentd.start()
    read(ring["h"], 20)
    steps = np.diff(ring["h"].times())
    assert abs(steps.mean() / 50e6 - 1) < 0.1 or agentd.count("input_skipped_total") > 0
    rows = ring["h"].rows()
    assert rows.shape[1] == 6
    assert ((rows[:, :3] >= 0) & (rows[:, :3] <= 100)).all()
    assert (rows[1:, 4:] >= 0).all()
    read(ring["some"], 10)
    assert (ring["some"].rows() > 0).all()


def test_an_input_that_cannot_be_served_is_told_and_the_others_are(
    agentd: AgentdStandIn, client: Client
) -> None:
    inputs = "  good: {mqtt: s/a}\n  lost: {mqtt: {topic: s/b, broker: nowhere}}"
    outputs = "  o: {from: SOURCE, mqtt: {topic: out/x, broker: nowhere}}"
    pipeline = agentd.deploy(document(inputs, outputs))
    agentd.start()
    ready(agentd)
    client.send("s/a", 1)
    read(pipeline.rings["good"], 1)
    heard = eventually(lambda: len(found := agentd.hear(*FAILED)) == 2 and found, "both are told")
    assert {(type(message).__name__, message.reason.split("(")[0].strip()) for message in heard} == {  # type: ignore[attr-defined]
        ("InputFailed", "LookupError: no broker 'nowhere' in the device's settings"),
        ("OutputFailed", "no broker 'nowhere' in the device's settings"),
    }
    pipeline.send("o", (1, boottime_ns(), "", {"value": 1}))
    eventually(
        lambda: agentd.count("effects_dropped_total", output="o", reason="failed") == 1, "it is counted"
    )


def test_a_bundle_that_cannot_be_read_is_told_and_the_others_are_served(
    agentd: AgentdStandIn, client: Client
) -> None:
    broken = agentd.deploy(document("  v: {mqtt: s/a}", name="broken"))
    (broken.folder / "pipeline.yaml").write_text("edgeflow: 1")
    ring = agentd.deploy(document("  v: {mqtt: s/a}", name="whole")).rings["v"]
    agentd.start()
    ready(agentd)
    client.send("s/a", 1)
    read(ring, 1)
    heard = agentd.hear(*FAILED)
    assert [(message.pipeline, message.input) for message in heard] == [("broken", "v")]  # type: ignore[attr-defined]
