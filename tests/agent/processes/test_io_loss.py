"""A real `io` process whose broker goes away, and that is killed itself; the test plays all the others."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeflow_agent.core import messages
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.ring import Gap
from tests.agent.processes.io_standin import AgentdStandIn, Client, document, read, ready
from tests.support.mosquitto import Mosquitto
from tests.support.processes import eventually, free_port

pytestmark = pytest.mark.system


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


class Nonsense:
    """A server that accepts every other connection as a broker does, and then says what no broker says."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.served = 0
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self.server.accept()
                with peer, contextlib.suppress(ConnectionError):
                    self.served += 1
                    accepted = b"\x20\x02\x00\x00" * (self.served % 2)
                    peer.sendall(accepted + b"HTTP/1.1 400 Bad Request\r\n" * 100)

    def close(self) -> None:
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.thread.join()


def test_io_tries_a_broker_that_talks_nonsense_again_and_serves_the_rest(tmp_path: Path) -> None:
    nonsense = Nonsense()
    agentd = AgentdStandIn(tmp_path, brokers={"local": {"port": nonsense.port}})
    rings = agentd.deploy(document("  v: {mqtt: s/a}\n  host: {host: 20ms}")).rings
    agentd.start()
    try:
        eventually(lambda: nonsense.served >= 3, "it is tried again")
        read(rings["host"], 20)
        assert agentd.process is not None
        assert agentd.process.poll() is None
        assert agentd.hear(messages.InputFailed, messages.OutputFailed) == []
    finally:
        agentd.close()
        nonsense.close()


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
        eventually(lambda: "Connection refused" in agentd.log, "the refusal is logged")
        first = agentd.slot.beaten
        eventually(lambda: agentd.slot.beaten > first + 10**9, "it beats on")
        assert agentd.log.count("\n") < 3
        assert not agentd.connected()
    finally:
        agentd.close()


@pytest.fixture
def guarded(mosquitto: Path, tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker with encryption and one user."""
    certificate, key, users = (str(tmp_path / name) for name in ("cert.pem", "key.pem", "users"))
    openssl = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    openssl += f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    subprocess.run(openssl.split(), check=True, capture_output=True)
    Path(users).touch()
    subprocess.run(["mosquitto_passwd", "-b", users, "io", "secret"], check=True, capture_output=True)
    files = {"password_file": users, "certfile": certificate, "keyfile": key}
    lines = ["allow_anonymous false", *(f"{name} {path}" for name, path in files.items())]
    broker = Mosquitto(mosquitto, tmp_path / "broker", "\n".join(lines) + "\n").start()
    yield broker
    broker.stop()


def test_credentials_and_encryption(guarded: Mosquitto, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    tls = {"ca": str(tmp_path / "cert.pem")}
    account = {"username": "io", "password_file": str(tmp_path / "password")}
    brokers = {
        "local": {"port": guarded.port, "tls": tls, **account},
        "wrong": {"port": guarded.port, "tls": tls, "username": "io", "password": "guess"},
        "plain": {"port": guarded.port, **account},
    }
    agentd = AgentdStandIn(tmp_path, brokers=brokers)
    inputs = "\n".join(f"  {name}: {{mqtt: {{topic: s/a, broker: {name}}}}}" for name in brokers)
    pipeline = agentd.deploy(
        document(inputs, "  o: {from: SOURCE, mqtt: {topic: s/a, qos: 1, data: [value]}}")
    )
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
