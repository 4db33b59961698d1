"""The agent as a service: one per store, known to systemd, drained by SIGTERM, at home in its own store."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from tests.support import sensor
from tests.support.device import Device
from tests.support.mosquitto import Mosquitto
from tests.support.processes import eventually
from tests.system.test_kill import PIPELINE, keys, oracle

pytestmark = pytest.mark.system

LONE = """
edgeflow: 1
name: {name}
inputs:
  host: {{host: 100ms, fields: [cpu]}}
steps:
  some: {{from: host, filter: {where}}}
outputs:
  all: {{from: some, event: {name}.all}}
"""


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Device]:
    """A device that knows no broker and no relay."""
    device = Device(tmp_path)
    yield device
    device.close()


def second(device: Device) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeflow_tools.cli", "agent", "--config", str(device.config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_second_agent_on_the_same_store_is_told_who_has_it(lone: Device) -> None:
    lone.start()
    found = second(lone)
    assert found.returncode != 0
    assert str(lone.pid) in found.stderr
    assert lone.text("/healthz")


def test_a_store_of_another_version_is_left_alone(lone: Device) -> None:
    lone.start()
    assert lone.stop() == 0
    with lmdb.open(str(lone.store / "state"), max_dbs=2) as env, env.begin(write=True) as txn:
        txn.put(b"format", b"99", db=env.open_db(b"meta", txn=txn))
    found = second(lone)
    assert found.returncode != 0
    assert "store format 99" in found.stderr


def test_sigterm_drains_and_commits_all_that_was_received(
    device: Device, broker: Mosquitto, tmp_path: Path
) -> None:
    device.start()
    device.deploy("kill", PIPELINE)
    record = tmp_path / "sent.npy"
    sent = sensor.report(sensor.start(broker.port, "plant/accel", record, seconds=2))
    eventually(lambda: device.metric("edgeflow_input_rows_total", pipeline="kill") >= sent, "all is received")
    assert device.stop() == 0
    device.start()
    assert keys(device.events("kill")) == oracle(tmp_path, record)
    assert not [event for event in device.events("_agent") if event["type"] == "edgeflow.gap"]


def test_systemd_hears_that_it_is_ready_alive_and_stopping(lone: Device, tmp_path: Path) -> None:
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(tmp_path / "notify"))
    notify.settimeout(20)
    os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"] = str(tmp_path / "notify"), "900000"
    try:
        lone.start()
    finally:
        del os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"]
    heard = [notify.recv(100), notify.recv(100), notify.recv(100)]
    assert heard == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
    lone.stop()
    notify.setblocking(False)
    while (last := notify.recv(100)) == b"WATCHDOG=1":
        pass
    assert last == b"STOPPING=1"
    notify.close()


def test_the_watched_folder_is_followed(lone: Device) -> None:
    file = lone.pipelines / "watch.yaml"
    file.write_text(LONE.format(name="watch", where="cpu >= 0"))
    (lone.pipelines / "wrong.yaml").write_text(LONE.format(name="wrong", where="cpx >= 0"))
    lone.start()
    eventually(lambda: lone.events("watch", "watch.all"), "the file in the folder runs")
    first = lone.pipeline("watch")
    assert (first["origin"], first["state"]) == ("folder", "running")
    wrong = eventually(lambda: lone.pipeline("wrong"), "the wrong one is shown")
    assert wrong["state"] == "refused"
    assert "no column 'cpx'" in wrong["reason"]
    file.write_text(LONE.format(name="watch", where="cpu > 1000"))
    eventually(lambda: lone.pipeline("watch")["digest"] != first["digest"], "the changed file runs")
    lone.deploy("watch", LONE.format(name="watch", where="cpu >= 1"))
    assert lone.pipeline("watch")["origin"] == "http"
    lone.request("DELETE", "/api/v1/pipelines/watch")
    eventually(lambda: lone.pipeline("watch")["origin"] == "folder", "the folder's is back")
    file.unlink()
    eventually(lambda: lone.request("GET", "/api/v1/pipelines/watch")[0] == 404, "the removed file's is gone")


def test_it_starts_from_what_it_has_stored_with_nobody_else_there(lone: Device) -> None:
    lone.start()
    lone.deploy("watch", LONE.format(name="watch", where="cpu >= 0"))
    digest = lone.pipeline("watch")["digest"]
    eventually(lambda: lone.events("watch", "watch.all"), "it decides")
    lone.kill_agentd()
    before = len(lone.events_on_disk("watch"))
    lone.start()
    eventually(lambda: lone.pipeline("watch")["state"] == "running", "it runs again")
    assert lone.pipeline("watch")["digest"] == digest
    eventually(lambda: len(lone.events("watch", "watch.all")) > before, "it goes on deciding")
    sequences = [int(event["sequence"]) for event in lone.events("watch")]
    assert sequences == list(range(1, len(sequences) + 1))


def test_a_process_that_stands_still_is_killed_and_started_again(device: Device, broker: Mosquitto) -> None:
    device.start()
    eventually(lambda: json.loads(device.text("/readyz"))["ready"], "all beat")
    pid = device.child("io")
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: device.child("io") != pid, "a new io runs", 30)
    died = eventually(lambda: device.events("_agent", "edgeflow.process.died"), "it is told")
    assert "stood still" in died[0]["data"]["reason"]


def test_a_device_whose_state_was_damaged_runs_what_it_ran(lone: Device) -> None:
    lone.start()
    lone.deploy("watch", LONE.format(name="watch", where="cpu >= 0"))
    lone.deploy("watch", LONE.format(name="watch", where="cpu >= -1"))
    digest = lone.pipeline("watch")["digest"]
    eventually(lambda: lone.events("watch", "watch.all"), "it decides")
    lone.stop()
    with (lone.store / "state" / "data.mdb").open("r+b") as file:
        file.write(b"x" * 8192)
    lone.start()
    eventually(lambda: lone.pipeline("watch")["state"] == "running", "it runs again")
    assert lone.pipeline("watch")["digest"] == digest
    (told,) = lone.events("_agent", "edgeflow.state.damaged")
    assert told["data"]["pipelines"] == ["watch"]
    lone.stop()
    lone.start()
    eventually(lambda: lone.pipeline("watch")["state"] == "running", "it is remembered again")


WORN = """
import runpy, sys
from edgeflow_agent.control import pipelines
from edgeflow_agent.processes import agentd
pipelines.WORN_ROWS, agentd.ALIVE_NS = 60, 10**9
sys.argv = sys.argv[3:]
runpy.run_module(sys.argv[0], run_name="__main__")
"""


def test_rings_are_renewed_before_the_numbers_of_their_rows_come_again(lone: Device, tmp_path: Path) -> None:
    script = tmp_path / "worn.py"
    script.write_text(WORN)  # after sixty rows, and not half a million million
    lone.prefix = [sys.executable, str(script)]
    lone.start()
    lone.deploy("watch", LONE.format(name="watch", where="cpu >= 0"))

    def renewed() -> list[dict[str, Any]]:
        gaps = lone.events("_agent", "edgeflow.gap")
        return [gap for gap in gaps if gap["data"]["reason"] == "rings_renewed"]

    eventually(lambda: len(renewed()) >= 2, "they are renewed again and again")
    spans = [event["inputspan"] for event in lone.events("watch", "watch.all")]
    assert len(spans) == len(set(spans)) > 100
    assert len({int(span.partition(":")[2].partition("-")[0]) >> 40 for span in spans}) >= 2
