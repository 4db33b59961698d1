"""Processes killed under load: journal and relay hold what a run over the sender's own record gives."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support import sensor
from tests.support.device import Device
from tests.support.mosquitto import Mosquitto
from tests.support.processes import alive, eventually
from tests.support.relay import Relay

pytestmark = pytest.mark.system

PIPELINE = """
edgeflow: 1
name: kill
inputs:
  accel: {mqtt: plant/accel, decode: {json: {samples: data}}, fields: [x, n], rate: 1 kHz, buffer: 60 s}
steps:
  window: {from: accel, window: {size: 64, hop: 16}}
  features: {from: window, stats: [mean, rms, max]}
  alarm: {from: features, threshold: {column: x.rms, above: 1.6, clear: 1.2, for: 2 rows}}
outputs:
  score: {from: features, event: {type: kill.score, data: [x.rms]}}
  raised: {from: alarm.raised, event: {type: kill.raised, severity: warning, data: [x.rms]}}
  cleared: {from: alarm.cleared, event: {type: kill.cleared, data: [x.rms]}}
"""
ROW = (1 << 40) - 1

Key = tuple[str, int, int]


def keys(events: list[dict[str, Any]]) -> Counter[Key]:
    """Count events by output and span of rows."""
    found: Counter[Key] = Counter()
    for event in events:
        if "inputspan" in event:
            first, last = event["inputspan"].rpartition(":")[2].split("-")
            found[event["output"], int(first) & ROW, int(last) & ROW] += 1
    return found


def oracle(folder: Path, record: Path) -> Counter[Key]:
    """Return what `edgeflow run` makes of the record."""
    file = folder / "oracle.yaml"
    file.write_text(PIPELINE)
    out = folder / "oracle.jsonl"
    command = [
        sys.executable,
        "-m",
        "edgeflow_tools.cli",
        "run",
        str(file),
        "--input",
        f"accel={record}",
        "--out",
        str(out),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return keys([json.loads(line) for line in out.read_text().splitlines()])


def await_rows(device: Device, sent: int) -> None:
    eventually(
        lambda: device.metric("edgeflow_input_rows_total", pipeline="kill") >= sent,
        "every sample is received",
    )
    eventually(lambda: device.metric("edgeflow_rows_total", pipeline="kill") >= sent, "every row is run")


def settled(device: Device, expected: Counter[Key]) -> list[dict[str, Any]]:
    """Return the device's events once there are as many as expected, or all there are after a while."""
    total = sum(expected.values())
    with contextlib.suppress(AssertionError):
        eventually(lambda: len(keys(device.events("kill"))) >= len(expected), f"{total} events", 20)
    return device.events("kill")


def test_a_worker_killed_twenty_times_under_load_loses_and_repeats_nothing(
    device: Device, broker: Mosquitto, tmp_path: Path
) -> None:
    device.start()
    device.deploy("kill", PIPELINE)
    record = tmp_path / "sent.npy"
    sender = sensor.start(broker.port, "plant/accel", record, seconds=25)
    rng = random.Random(1)
    for _ in range(20):
        device.child(
            "worker"
        )  # else one that is made to wait would be killed as soon as it is there, for ever
        time.sleep(rng.uniform(0.05, 1.2))
        device.kill("worker")
    sent = sensor.report(sender)
    await_rows(device, sent)
    expected = oracle(tmp_path, record)
    events = settled(device, expected)
    own = [event["type"] for event in events if event["type"].startswith("edgeflow.")]
    assert own == ["edgeflow.pipeline.started"]  # told once: workers that resume are set up as before
    assert keys(events) == expected
    assert device.metric("edgeflow_rows_lost_total") == 0
    deaths = [event for event in device.events("_agent") if event["type"] == "edgeflow.worker.died"]
    assert len(deaths) == 20


def test_link_and_relay_killed_ten_times_each_event_is_once_at_the_relay(
    broker: Mosquitto, tmp_path: Path
) -> None:
    relay = Relay(tmp_path / "relay").start()
    device = Device(tmp_path, broker=broker.port, relay=relay.grpc).start()
    try:
        device.deploy("kill", PIPELINE)
        record = tmp_path / "sent.npy"
        sender = sensor.start(broker.port, "plant/accel", record, seconds=20)
        rng = random.Random(2)
        for _ in range(10):
            time.sleep(rng.uniform(0.2, 1.0))
            device.kill("link")
            time.sleep(rng.uniform(0.2, 1.0))
            relay.kill()
            relay.start()
        sent = sensor.report(sender)
        await_rows(device, sent)
        expected = oracle(tmp_path, record)
        eventually(lambda: len(keys(relay.events("kill"))) >= len(expected), "the backlog is at the relay")
        events = relay.events("kill")
        assert keys(events) == expected == keys(device.events("kill"))
        assert len({(event["source"], event["id"]) for event in events}) == len(events)
    finally:
        device.close()
        relay.stop()


def test_io_killed_leaves_a_recorded_gap_and_nothing_else(
    device: Device, broker: Mosquitto, tmp_path: Path
) -> None:
    device.start()
    device.deploy("kill", PIPELINE)
    others = {device.child("link"), *device.workers()}
    sender = sensor.start(broker.port, "plant/accel", tmp_path / "sent.npy", seconds=8)
    time.sleep(3)
    device.kill("io")
    sent = sensor.report(sender)
    eventually(lambda: device.metric("edgeflow_rows_total", pipeline="kill") > sent // 2, "rows go on")
    gaps = eventually(lambda: device.events("kill", "edgeflow.gap"), "the gap is an event")
    assert gaps[0]["data"]["reason"] == "restart"
    assert gaps[0]["data"]["input"] == "accel"
    assert {device.child("link"), *device.workers()} == others
    assert [e["data"]["process"] for e in device.events("_agent", "edgeflow.process.died")] == ["io"]


def test_agentd_killed_leaves_no_process_and_all_resumes(
    device: Device, broker: Mosquitto, tmp_path: Path
) -> None:
    device.start()
    device.deploy("kill", PIPELINE)
    first = sensor.start(broker.port, "plant/accel", tmp_path / "sent.npy", seconds=3)
    await_rows(device, sensor.report(first))
    before = keys(settled(device, oracle(tmp_path, tmp_path / "sent.npy")))
    children = device.kill_agentd()
    assert len(children) >= 3
    eventually(lambda: not any(alive(pid) for pid in children), "every child is gone", 5)
    device.start()
    eventually(lambda: device.pipeline("kill")["state"] == "running", "the pipeline runs again")
    gap = device.events("_agent", "edgeflow.gap")[-1]
    assert (gap["data"]["reason"], "seconds" in gap["data"]) == ("agent", False)
    assert gap["data"]["seconds_at_most"] > 0
    second = sensor.start(broker.port, "plant/accel", tmp_path / "again.npy", seconds=3)
    sensor.report(second)
    more = oracle(tmp_path, tmp_path / "again.npy")
    eventually(
        lambda: sum(keys(device.events("kill")).values()) >= sum((before + more).values()), "it goes on"
    )
    assert keys(device.events("kill")) == before + more
