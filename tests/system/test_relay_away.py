"""The relay away for long, and a device whose store is wiped."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support import sensor
from tests.support.device import Device
from tests.support.mosquitto import Mosquitto
from tests.support.processes import eventually
from tests.support.relay import Relay
from tests.system.test_kill import PIPELINE, await_rows, keys, oracle, settled

pytestmark = pytest.mark.system


def await_events(relay: Relay, total: int) -> None:
    eventually(lambda: sum(keys(relay.events("kill")).values()) == total, f"{total} events at the relay")


def test_the_backlog_of_a_whole_run_arrives_in_order_with_nothing_missing(
    broker: Mosquitto, tmp_path: Path
) -> None:
    relay = Relay(tmp_path / "relay")
    device = Device(tmp_path, broker=broker.port, relay=relay.grpc).start()
    try:
        device.deploy("kill", PIPELINE)
        sent = sensor.report(sensor.start(broker.port, "plant/accel", tmp_path / "sent.npy", seconds=10))
        await_rows(device, sent)
        expected = oracle(tmp_path, tmp_path / "sent.npy")
        assert keys(settled(device, expected)) == expected
        relay.start()
        eventually(lambda: len(keys(relay.events("kill"))) == len(expected), "the backlog arrives")
        events = relay.events("kill")
        assert keys(events) == expected
        sequences = [int(event["sequence"]) for event in events]
        assert sequences == list(range(1, len(events) + 1))
        eventually(lambda: device.json("/api/v1/device")["relay"]["backlog"] == 0, "the backlog is gone")
    finally:
        device.close()
        relay.stop()


def test_events_of_a_wiped_device_are_not_taken_for_old_ones(broker: Mosquitto, tmp_path: Path) -> None:
    relay = Relay(tmp_path / "relay").start()
    device = Device(tmp_path, broker=broker.port, relay=relay.grpc).start()
    try:
        total = 0
        for name in ("one.npy", "two.npy"):
            device.deploy("kill", PIPELINE)
            sent = sensor.report(sensor.start(broker.port, "plant/accel", tmp_path / name, seconds=3))
            await_rows(device, sent)
            total += sum(oracle(tmp_path, tmp_path / name).values())
            await_events(relay, total)
            device.stop()
            shutil.rmtree(device.store)
            device.start()
        ids = [event["id"] for event in relay.events("kill")]
        assert len(set(ids)) == len(ids)
        assert len({name.rpartition("-")[0] for name in ids}) == 2
    finally:
        device.close()
        relay.stop()
