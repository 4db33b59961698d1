"""A real `io` process that acts; the test plays `agentd`, the workers and `link` (see io_standin)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgeflow_agent.core import messages
from edgeflow_agent.core.clock import boottime_ns
from tests.agent.processes.io_standin import AgentdStandIn, Client, document, ready
from tests.support.mosquitto import Mosquitto
from tests.support.processes import eventually
from tests.support.web_server import web_server

pytestmark = pytest.mark.system


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
    eventually(lambda: len(client.payloads("out/all")) == 3, "three are published")
    eventually(lambda: len(client.payloads("out/stop")) == 2, "and two")
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
    row = messages.EffectRow(2**63, 1, "", {})
    for output, mark in (("nobody", 0), ("all", 10**6), ("all", 1)):
        pipeline.effects[0].send(msgspec.msgpack.encode(messages.Effect(output, mark, (row,))))
    pipeline.send("log", (1, boottime_ns(), "", {"value": 1}))
    eventually(lambda: agentd.count("effects_done_total", output="log") == 1, "it is served on")


def test_a_stop_brings_in_what_has_come_and_exits_0(agentd: AgentdStandIn, client: Client) -> None:
    pipeline = agentd.deploy(document("  v: {mqtt: s/a}", OUTPUTS))
    agentd.start()
    ready(agentd)
    for i in range(100):
        pipeline.send("stop", (i + 1, boottime_ns(), "", {"value": i}))
    assert agentd.stop() == 0
    eventually(lambda: len(client.payloads("out/stop")) == 100, "all were published")


POSTS = """
  posts: {from: SOURCE, http: {endpoint: cloud, path: /rows, timeout: 60s}}
  said: {from: SOURCE, log: warning}
  log: {from: SOURCE, file: log.csv}
"""


def test_posts_that_hang_hold_up_neither_rows_nor_other_outputs(tmp_path: Path) -> None:
    with web_server() as server:
        endpoints = {"cloud": {"url": f"http://127.0.0.1:{server.port}", "headers": {"X-Token": "t"}}}
        agentd = AgentdStandIn(tmp_path, endpoints=endpoints).start()
        pipeline = agentd.deploy(document("  v: {http: }", POSTS))
        lost = agentd.deploy(document("  v: {http: }", POSTS.replace("cloud", "clod"), name="other"))
        server.hanging.set()
        rows = [(row, boottime_ns(), "k", {"value": row / 2}) for row in range(1, 6)]
        for name in ("posts", "said", "log"):
            pipeline.send(name, *rows)
        eventually(lambda: agentd.count("effects_done_total", output="log") == 5, "the file is written")
        eventually(lambda: agentd.count("effects_done_total", output="said") == 5, "the log is")
        assert agentd.post("watch", "v", "json", b"3").accepted == 1
        assert agentd.count("effects_done_total", output="posts") == 0
        server.hanging.clear()
        eventually(lambda: agentd.count("effects_done_total", output="posts") == 5, "now they are taken")
        assert [body["value"] for body in server.bodies] == [0.5, 1, 1.5, 2, 2.5]
        assert {headers["X-Token"] for headers in server.headers} == {"t"}
        lost.send("posts", *rows)
        eventually(lambda: agentd.count("effects_dropped_total", pipeline="other") == 5, "they are counted")
        (failed,) = agentd.hear(messages.OutputFailed)
        assert failed.reason == "no endpoint 'clod' in the device's settings (known: cloud)"
        assert agentd.stop() == 0
        assert agentd.log.count('edgeflow.log: watch: outputs.said: {"key":"k"') == 5
        agentd.close()
