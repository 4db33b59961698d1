"""A real `io` process and a real broker; the test plays `agentd`, the workers and `link` (see io_standin)."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paho.mqtt import client as mqtt

from edgeflow_agent.core import messages
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.ring import Gap
from tests.agent.processes.io_standin import AgentdStandIn, Ring
from tests.support.mosquitto import Mosquitto
from tests.support.processes import eventually, free_port

pytestmark = pytest.mark.system


@pytest.fixture
def broker(mosquitto: Path, tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(mosquitto, tmp_path / "broker").start()
    yield broker
    broker.stop()


@pytest.fixture
def agentd(broker: Mosquitto, tmp_path: Path) -> Iterator[AgentdStandIn]:
    agentd = AgentdStandIn(tmp_path, brokers={"local": {"port": broker.port}})
    yield agentd
    agentd.close()


class Client:
    """A sensor or an actuator: an MQTT client in a thread of its own."""

    def __init__(self, port: int, *topics: str) -> None:
        self.heard: list[mqtt.MQTTMessage] = []
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self.client.max_queued_messages_set(0)
        self.client.on_message = lambda client, data, message: self.heard.append(message)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        if topics:
            ready = threading.Event()
            self.client.on_subscribe = lambda *_: ready.set()
            self.client.subscribe([(topic, 1) for topic in topics])
            assert ready.wait(10)

    def send(self, topic: str, payload: Any, qos: int = 1, retain: bool = False) -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.client.publish(topic, data, qos, retain).wait_for_publish(30)

    def payloads(self, topic: str) -> list[Any]:
        return [json.loads(message.payload) for message in self.heard if message.topic == topic]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def client(broker: Mosquitto) -> Iterator[Client]:
    client = Client(broker.port, "out/#")
    yield client
    client.close()


def ready(agentd: AgentdStandIn) -> None:
    eventually(lambda: agentd.connected(), "io is connected")


def read(ring: Ring, count: int) -> None:
    eventually(lambda: ring.read() >= count, f"{count} rows in the ring")


def document(inputs: str, outputs: str = "  o: {from: SOURCE, event: t}", name: str = "watch") -> str:
    """Return a pipeline whose outputs read the first of `inputs`."""
    source = inputs.strip().partition(":")[0]
    names = [line.strip().partition(":")[0] for line in inputs.splitlines() if line.strip()]
    rest = "\n".join(f"  unused_{other}: {{from: {other}, event: t}}" for other in names[1:])
    outputs = outputs.replace("SOURCE", source)
    return f"edgeflow: 1\nname: {name}\ninputs:\n{inputs}\noutputs:\n{outputs}\n{rest}\n"


# inputs over MQTT


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
        b'{"acc": {"x": 1': "json", b"": "json", b'{"acc": {"x": "1"}}': "type", b'{"acc": {"y": 1}}': "missing_field",
        b'{"acc": {"x": NaN}}': "nan", b'{"acc": {"x": 1e60}}': "range", b"[1, 2]": "shape", b"x" * (10 << 20): "size",
        b"x" * ((1 << 20) + 1): "size",
    }  # fmt: skip
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
    assert agentd.count("input_rejected_total", input="raw", reason="shape") == len(bad)
    assert "10485760 bytes, the most is 1048576" in agentd.log


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
    inputs = "  good: {mqtt: s/good, fields: [n], rate: 100 Hz}\n  junk: {mqtt: {topic: s/junk, qos: 0}, fields: [x]}"
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
    inputs = "  a: {mqtt: s/+/x}\n  b: {mqtt: s/one/+}\n  c: {mqtt: s/one/x}\n  d: {mqtt: s/#}\n  e: {mqtt: s/two/x}"
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


# losing the broker and losing io


def test_a_broker_that_forgets_leaves_a_gap(agentd: AgentdStandIn, broker: Mosquitto) -> None:
    rings = agentd.deploy(document("  v: {mqtt: s/a}\n  quiet: {mqtt: s/b}")).rings
    agentd.start()
    ready(agentd)
    sensor = Client(broker.port)
    sensor.send("s/a", 0)
    read(rings["v"], 1)
    sensor.close()
    broker.kill()
    eventually(lambda: not agentd.connected(), "the loss is noticed")
    (broker.folder / "mosquitto.db").unlink(missing_ok=True)
    broker.start()
    ready(agentd)
    sensor = Client(broker.port)
    eventually(lambda: sensor.send("s/a", 1) or rings["v"].read() > 1, "rows come again")
    sensor.close()
    assert rings["v"].gaps() == [(1, Gap.DISCONNECT)]
    assert agentd.count("mqtt_reconnects_total") == 1
    assert rings["quiet"].read() == 0


@pytest.mark.parametrize("qos", [0, 1])
def test_a_session_that_was_kept_leaves_no_gap_at_qos_1(
    agentd: AgentdStandIn, broker: Mosquitto, qos: int
) -> None:
    ring = agentd.deploy(document("  v: {mqtt: {topic: s/a, qos: 1}}")).rings["v"]
    agentd.start()
    ready(agentd)
    sensor = Client(broker.port)
    eventually(lambda: sensor.send("s/a", 0, qos) or ring.read(), "the subscription is there")
    sensor.close()
    broker.stop()
    eventually(lambda: not agentd.connected(), "the loss is noticed")
    broker.start()
    sensor = Client(broker.port)
    sent = [*range(1, 50)]
    for value in sent:
        sensor.send("s/a", value, qos)
    ready(agentd)
    sensor.send("s/a", 50, qos)
    sensor.close()
    eventually(lambda: ring.read() and ring.rows()[-1, 0] == 50, "rows come again")
    marks = [reason for _, reason in ring.gaps()]
    if qos:
        assert [value for value in ring.rows()[:, 0].tolist() if value] == [*sent, 50]
        assert marks == []
    else:
        assert marks == [Gap.DISCONNECT]


def test_killed_under_load_io_marks_the_gap_and_no_acknowledged_sample_is_lost(
    agentd: AgentdStandIn, broker: Mosquitto
) -> None:
    ring = agentd.deploy(document("  v: {mqtt: s/a, buffer: 100000 rows}")).rings["v"]
    agentd.start()
    ready(agentd)
    sensor, sent, stop = Client(broker.port), [0], threading.Event()

    def send() -> None:
        while not stop.is_set():
            sensor.client.publish("s/a", str(sent[0]), qos=1)
            sent[0] += 1
            time.sleep(0.0005)

    thread = threading.Thread(target=send)
    thread.start()
    for _ in range(5):
        before = ring.read()
        eventually(lambda before=before: ring.read() > before + 100, "io is back")
        agentd.kill()
        time.sleep(0.1)
        agentd.start()
    stop.set()
    thread.join()
    eventually(lambda: ring.read() and ring.rows()[-1, 0] == sent[0] - 1, "the last sample")
    sensor.close()
    values = ring.rows()[:, 0].astype(int)
    assert set(values.tolist()) == {*range(sent[0])}
    assert len(values) - sent[0] <= agentd.count("input_redelivered_total")
    assert [reason for _, reason in ring.gaps()] == [Gap.RESTART] * 5
    assert ring.lost == 0


def test_what_an_earlier_life_left_in_the_session_is_given_up(
    agentd: AgentdStandIn, broker: Mosquitto, client: Client
) -> None:
    old = agentd.deploy(document("  v: {mqtt: s/#}", name="old")).rings["v"]
    ring = agentd.deploy(document("  v: {mqtt: t/a}", name="new")).rings["v"]
    agentd.start()
    ready(agentd)
    eventually(lambda: client.send("s/x", 1) or old.read(), "subscribed")
    agentd.kill()
    del agentd.pipelines["old"]
    client.send("s/x", 2)
    agentd.start()
    eventually(lambda: agentd.count("mqtt_unrouted_total") > 0, "a message that nobody wants")
    eventually(lambda: "the old session is gone" in agentd.log and agentd.connected(), "a new session")
    eventually(lambda: client.send("t/a", 1) or ring.read(), "the new one is served")
    unrouted = agentd.count("mqtt_unrouted_total")
    client.send("s/x", 3)
    client.send("t/a", 7)
    eventually(lambda: ring.read() and ring.rows()[-1, 0] == 7, "the row behind it")
    assert agentd.count("mqtt_unrouted_total") == unrouted
    assert "subscription that nobody has" in agentd.log


def test_io_waits_for_a_broker_that_talks_nonsense_and_serves_the_rest(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        served = [0]

        def nonsense() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    served[0] += 1
                    peer.sendall(
                        b"\x20\x02\x00\x00" * (served[0] % 2) + b"HTTP/1.1 400 Bad Request\r\n" * 100
                    )

        thread = threading.Thread(target=nonsense, daemon=True)
        thread.start()
        agentd = AgentdStandIn(tmp_path, brokers={"local": {"port": port}})
        rings = agentd.deploy(document("  v: {mqtt: s/a}\n  host: {host: 20ms}")).rings
        agentd.start()
        try:
            eventually(lambda: served[0] >= 3, "it is tried again")
            read(rings["host"], 20)
            assert agentd.process is not None
            assert agentd.process.poll() is None
            assert agentd.hear() == []
        finally:
            agentd.close()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


# other inputs


def test_posts_are_decoded_by_their_content_type_and_answered(agentd: AgentdStandIn) -> None:
    import cbor2

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
    eventually(agentd.hear, "the failure is told")
    path.write_text("1\n2\n")
    read(ring, 2)
    failed = agentd.hear()
    assert [type(message) for message in failed] == [messages.InputFailed]
    assert "later.jsonl" in failed[0].reason  # type: ignore[attr-defined]


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
    heard = eventually(lambda: len(agentd.hear()) == 2 and agentd.hear(), "both are told")
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
    heard = agentd.hear()
    assert [(message.pipeline, message.input) for message in heard] == [("broken", "v")]  # type: ignore[attr-defined]


# effects


OUTPUTS = """
  stop: {from: SOURCE, mqtt: {topic: "out/stop", payload: {cmd: stop}, qos: 1, max_age: 2s}}
  all: {from: SOURCE, mqtt: {topic: "out/all"}}
  log: {from: SOURCE, file: log.csv}
"""


def test_effects_are_carried_out_once_whoever_dies(agentd: AgentdStandIn, client: Client) -> None:
    pipeline = agentd.deploy(document("  v: {mqtt: s/a}", OUTPUTS))
    agentd.start()
    ready(agentd)
    rows = [(row, boottime_ns(), "k", {"value": row / 2}) for row in range(1, 6)]
    pipeline.send("stop", *rows[:2])
    pipeline.send("all", *rows[:3])
    pipeline.send("log", *rows[:3])
    eventually(
        lambda: len(client.payloads("out/all")) == 3 and len(client.payloads("out/stop")) == 2, "published"
    )
    assert client.payloads("out/stop") == [{"cmd": "stop"}] * 2
    assert [payload["value"] for payload in client.payloads("out/all")] == [0.5, 1, 1.5]
    eventually(lambda: pipeline.marks[:3] == [2, 3, 3], "marked")
    agentd.kill()
    agentd.start()
    ready(agentd)
    pipeline.send("all", *rows)  # as a worker does that begins again behind its snapshot
    pipeline.send("log", *rows)
    eventually(lambda: len(client.payloads("out/all")) == 5, "the new ones only")
    assert [payload["value"] for payload in client.payloads("out/all")] == [0.5, 1, 1.5, 2, 2.5]
    eventually(lambda: agentd.count("effects_done_total", output="log") == 5, "logged")
    found = (agentd.files / "watch" / "log.csv").read_text().splitlines()
    assert [line.rsplit(",", 1)[1] for line in found] == ["value", "0.5", "1.0", "1.5", "2.0", "2.5"]


def test_effects_wait_for_the_broker_but_not_for_ever(agentd: AgentdStandIn, broker: Mosquitto) -> None:
    pipeline = agentd.deploy(document("  v: {mqtt: s/a}", OUTPUTS))
    broker.stop()
    agentd.start()
    now = boottime_ns()
    pipeline.send("stop", (1, now, "", {"value": 1}), (2, now + 10**11, "", {"value": 2}))
    pipeline.send("all", (1, now - 10**12, "", {"value": 1}))
    eventually(lambda: agentd.count("effects_dropped_total", reason="max_age") == 2, "two are too old")
    broker.start()
    actuator = Client(broker.port, "out/#")
    eventually(lambda: len(actuator.payloads("out/stop")) == 1, "the third is published")
    eventually(lambda: agentd.count("effects_done_total", output="stop") == 1, "it is done")
    assert actuator.payloads("out/all") == []
    actuator.close()


def test_a_worker_that_sends_nonsense_harms_nobody(agentd: AgentdStandIn, client: Client) -> None:
    pipeline = agentd.deploy(document("  v: {mqtt: s/a}", OUTPUTS))
    agentd.start()
    ready(agentd)
    for data in (b"junk", b"\x93\x01\x02\x03", b"\xc1"):
        pipeline.effects[0].send(data)
    row = messages.EffectRow(2**70, 1, "", {})
    for effect in (
        messages.Effect("nobody", 0, (row,)), messages.Effect("all", 10**6, (row,)), messages.Effect("all", 1, (row,)),
    ):  # fmt: skip
        pipeline.effects[0].send(_encoded(effect))
    pipeline.send("log", (1, boottime_ns(), "", {"value": 1}))
    eventually(lambda: agentd.count("effects_done_total", output="log") == 1, "it is served on")


def _encoded(message: messages.Message) -> bytes:
    import msgspec

    try:
        return msgspec.msgpack.encode(message)
    except OverflowError:
        return b"\xc1"


# the connection


def test_a_clean_stop_says_goodbye_and_a_kill_leaves_the_will(broker: Mosquitto, tmp_path: Path) -> None:
    will = {"topic": "out/status", "payload": '"gone"', "online": '"here"'}
    agentd = AgentdStandIn(tmp_path, brokers={"local": {"port": broker.port, "will": will}})
    agentd.start()
    ready(agentd)
    watcher = Client(broker.port, "out/#")
    try:
        eventually(lambda: watcher.payloads("out/status") == ["here"], "it is here")
        agentd.kill()
        eventually(lambda: watcher.payloads("out/status") == ["here", "gone"], "the will")
        agentd.start()
        eventually(lambda: watcher.payloads("out/status")[2:] == ["here"], "it is back")
        assert agentd.stop() == 0
        eventually(lambda: watcher.payloads("out/status")[3:] == ["gone"], "it has gone")
    finally:
        watcher.close()
        agentd.close()


def test_a_stop_brings_in_what_has_come_and_exits_0(agentd: AgentdStandIn, client: Client) -> None:
    pipeline = agentd.deploy(document("  v: {mqtt: s/a}", OUTPUTS))
    agentd.start()
    ready(agentd)
    for i in range(100):
        pipeline.send("stop", (i + 1, boottime_ns(), "", {"value": i}))
    assert agentd.stop() == 0
    eventually(lambda: len(client.payloads("out/stop")) == 100, "all were published")


def test_io_ends_when_agentd_is_gone(agentd: AgentdStandIn) -> None:
    agentd.start()
    eventually(lambda: agentd.slot.beaten, "io beats")
    assert agentd.channel is not None
    assert agentd.process is not None
    agentd.channel.close()
    assert agentd.process.wait(20) == 0


def test_the_loop_beats_while_a_broker_cannot_be_reached(tmp_path: Path) -> None:
    agentd = AgentdStandIn(tmp_path, brokers={"local": {"port": free_port()}})
    agentd.deploy(document("  v: {mqtt: s/a}"))
    agentd.start()
    try:
        eventually(lambda: "ConnectionRefusedError" in agentd.log, "the refusal is logged")
        first = agentd.slot.beaten
        eventually(lambda: agentd.slot.beaten > first + 10**9, "it beats on")
        assert agentd.log.count("\n") < 3
        assert not agentd.connected()
    finally:
        agentd.close()


def test_credentials_and_encryption(mosquitto: Path, tmp_path: Path) -> None:
    openssl = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    openssl += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(tmp_path / "key.pem")]
    subprocess.run([*openssl, "-out", str(tmp_path / "cert.pem")], check=True, capture_output=True)
    (tmp_path / "password").write_text("secret\n")
    users = tmp_path / "users"
    users.touch()
    subprocess.run(["mosquitto_passwd", "-b", str(users), "io", "secret"], check=True, capture_output=True)
    extra = f"allow_anonymous false\npassword_file {users}\ncertfile {tmp_path}/cert.pem\nkeyfile {tmp_path}/key.pem\n"
    broker = Mosquitto(mosquitto, tmp_path / "broker", extra).start()
    tls = {"ca": str(tmp_path / "cert.pem")}
    account = {"username": "io", "password_file": str(tmp_path / "password")}
    brokers = {
        "local": {"port": broker.port, "tls": tls, **account},
        "wrong": {"port": broker.port, "tls": tls, "username": "io", "password": "guess"},
        "plain": {"port": broker.port, **account},
    }
    agentd = AgentdStandIn(tmp_path, brokers=brokers)
    inputs = "".join(f"  {name}: {{mqtt: {{topic: s/a, broker: {name}}}}}\n" for name in brokers)
    outputs = "  o: {from: SOURCE, mqtt: {topic: s/a, qos: 1, data: [value]}}"
    pipeline = agentd.deploy(document(inputs, outputs))
    agentd.start()
    try:
        ready(agentd)
        pipeline.send("o", *((i + 1, boottime_ns(), "", {"value": i}) for i in range(50)))
        read(pipeline.rings["local"], 50)
        assert pipeline.rings["local"].rows()[:, 0].tolist() == [*range(50)]
        eventually(lambda: "ot authorized" in agentd.log, "the wrong password is named")
        assert agentd.count("mqtt_connected") == 1
    finally:
        agentd.close()
        broker.stop()
