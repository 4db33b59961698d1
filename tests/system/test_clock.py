"""A real agent by a simulated kernel clock: 1970 and then NTP, steps at work, reboots without a clock."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.clockwork import Clockwork
from tests.support.device import Device
from tests.support.processes import eventually
from tests.support.relay import Relay

pytestmark = pytest.mark.system

WATCH = """
edgeflow: 1
name: watch
inputs: {host: {host: 50ms, fields: [cpu]}}
steps: {all: {from: host, filter: cpu >= 0}}
outputs: {seen: {from: all, event: watch.seen}}
"""
YEARS = 10 * 365 * 86400.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Event = dict[str, Any]


@pytest.fixture
def clock(tmp_path: Path) -> Clockwork:
    return Clockwork(tmp_path)


@pytest.fixture
def device(tmp_path: Path, clock: Clockwork) -> Iterator[Device]:
    device = Device(tmp_path)
    device.prefix = clock.prefix
    yield device
    device.close()


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    relay = Relay(tmp_path / "relay").start()
    yield relay
    relay.stop()


def seen(device: Device) -> list[Event]:
    return device.events("watch", "watch.seen")


def more(device: Device, count: int = 20) -> None:
    before = len(seen(device))
    eventually(lambda: len(seen(device)) >= before + count, "it goes on deciding")


def wall_ns(event: Event) -> int:
    return (datetime.fromisoformat(event["time"]) - EPOCH) // timedelta(microseconds=1) * 1000


def assert_in_order(events: list[Event]) -> None:
    sequences = [int(event["sequence"]) for event in events]
    assert sequences == sorted(set(sequences))


def assert_right(events: list[Event], truth: Callable[[Event], int]) -> None:
    """Times must be right within the uncertainty that is stated (and the microsecond they are written in)."""
    assert events
    for event in events:
        wrong = abs(wall_ns(event) - (int(event["monotonicns"]) + truth(event)))
        assert wrong <= int(event["timeuncertaintyns"]) + 1000, event


def test_a_boot_in_1970_and_then_ntp(device: Device, clock: Clockwork) -> None:
    device.start()
    device.deploy("watch", WATCH)
    more(device)
    early = len(seen(device))
    assert {event["clockquality"] for event in seen(device)} == {"unsynchronised"}
    assert seen(device)[0]["time"].startswith("1970-01-01T")
    clock.synchronise()
    eventually(lambda: device.events("_agent", "edgeflow.clock.known"), "the clock is known")
    more(device)
    eventually(lambda: seen(device)[0]["clockquality"] == "corrected", "what was before is dated")
    events = seen(device)
    assert {event["clockquality"] for event in events[:early]} == {"corrected"}
    assert events[-1]["clockquality"] == "synchronised"
    assert_right(events, lambda _: clock.truth)
    assert max(int(event["timeuncertaintyns"]) for event in events) < 100_000_000
    assert_in_order(events)


def test_a_step_back_of_one_day_while_it_runs(device: Device, clock: Clockwork) -> None:
    clock.synchronise()
    device.start()
    device.deploy("watch", WATCH)
    eventually(lambda: device.events("_agent", "edgeflow.clock.known"), "the clock is known")
    more(device)
    clock.step(-86400)
    (step,) = eventually(lambda: device.events("_agent", "edgeflow.clock.stepped"), "the step is told")
    assert step["data"]["seconds"] == pytest.approx(-86400, abs=1)
    more(device)
    assert_right(seen(device), lambda _: clock.truth)
    assert_in_order(device.events("watch"))


def test_steps_of_ten_years_lose_nothing_and_stop_nothing(
    tmp_path: Path, clock: Clockwork, relay: Relay
) -> None:
    device = Device(tmp_path, relay=relay.grpc)
    device.prefix = clock.prefix
    clock.synchronise()
    device.start()
    try:
        device.deploy("watch", WATCH)
        more(device)
        for step in (YEARS, -YEARS, YEARS, 0, -YEARS):
            clock.step(step)
            more(device, 30)
        clock.synchronise()
        more(device)
        last = int(seen(device)[-1]["sequence"])
        stored = eventually(lambda: there(relay, last), "all of it is at the relay")
        assert [event["id"] for event in stored] == list(dict.fromkeys(event["id"] for event in stored))
        assert [int(event["sequence"]) for event in stored][:last] == list(range(1, last + 1))
        assert_right(seen(device), lambda _: clock.truth)
    finally:
        device.close()


def test_a_server_that_is_ten_years_ahead_misdates_nothing_once_it_is_right(
    device: Device, clock: Clockwork
) -> None:
    clock.synchronise(YEARS)
    device.start()
    device.deploy("watch", WATCH)
    eventually(lambda: device.events("_agent", "edgeflow.clock.known"), "the clock is known")
    more(device)
    assert wall_ns(seen(device)[-1]) > time.time_ns() + 9 * YEARS / 10 * 10**9
    clock.synchronise()
    eventually(lambda: device.events("_agent", "edgeflow.clock.stepped"), "the step is told")
    more(device)
    eventually(lambda: seen(device)[0]["clockquality"] == "corrected", "what was before is dated")
    assert_right(seen(device), lambda _: clock.truth)
    device.stop()
    clock.boot()
    device.start()
    before = len(seen(device))
    more(device)
    assert all(wall_ns(event) < time.time_ns() for event in seen(device)[before:])


def there(relay: Relay, last: int) -> list[Event]:
    """Return a pipeline's events at the relay once the one numbered `last` is among them."""
    found: list[Event] = relay.events(pipeline="watch")
    return found if any(int(event["sequence"]) >= last for event in found) else []


def test_where_only_the_relay_knows_the_time_the_device_goes_by_it(
    tmp_path: Path, clock: Clockwork, relay: Relay
) -> None:
    device = Device(tmp_path, relay=relay.grpc)
    device.prefix = clock.prefix
    device.start()
    try:
        device.deploy("watch", WATCH)
        eventually(lambda: device.json("/api/v1/device")["clock_quality"] == "corrected", "it knows")
        about = device.json("/api/v1/device")
        assert abs(datetime.now(UTC) - datetime.fromisoformat(about["time"])) < timedelta(minutes=10)
        assert 0 < about["clock_uncertainty_s"] < 60
        known = "the relay is told by what the device goes"
        eventually(lambda: relay.json("/api/v1/devices/dev1")["clock_quality"] == "corrected", known)
        more(device)
        assert {event["clockquality"] for event in seen(device)[-10:]} == {"corrected"}
        status = subprocess.run(
            [sys.executable, "-m", "edgeflow_tools.cli", "status", "--to", device.url],
            capture_output=True,
            text=True,
            check=True,
        )
        assert ", corrected; up" in status.stdout
        assert " of 1.0 GiB" in next(line for line in status.stdout.splitlines() if "storage" in line)
    finally:
        device.close()


def test_two_boots_without_a_clock(device: Device, clock: Clockwork) -> None:
    truths = {}
    for boot in range(4):
        if boot:
            clock.boot()
        if boot in (0, 3):
            clock.synchronise()
        device.start()
        if boot == 0:
            device.deploy("watch", WATCH)
            eventually(lambda: device.events("_agent", "edgeflow.clock.known"), "the clock is known")
        before = len(seen(device))
        more(device)
        truths[seen(device)[before + 5]["bootid"]] = clock.truth
        if boot < 3:
            device.stop()
            time.sleep(1.5)
    eventually(lambda: len(device.events("_agent", "edgeflow.clock.known")) == 2, "the clock is known again")
    eventually(lambda: all("timeuncertaintyns" in event for event in seen(device)), "all are dated")
    events = seen(device)
    assert len({event["bootid"] for event in events}) == len(truths) == 4
    assert_right(events, lambda event: truths[event["bootid"]])
    assert max(int(event["timeuncertaintyns"]) for event in events) < 60 * 10**9
    assert_in_order(device.events("watch"))
