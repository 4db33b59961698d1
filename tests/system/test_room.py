"""Bundles for a real device whose budget is taken: room is made before they come, or they are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeflow_agent.store.journal import Journal
from tests.support.bulk import bulk, taken
from tests.support.device import Device
from tests.support.processes import eventually
from tests.support.relay import Relay

pytestmark = pytest.mark.system

MB = 1 << 20
BUDGET = 80 * MB
HELD = 50 * MB  # events of a pipeline that is gone
FITS, TOO_MUCH = 8 * MB, 60 * MB
TEXT = """
edgeflow: 1
name: {name}
inputs: {{host: {{host: 1s, fields: [cpu]}}}}
outputs: {{seen: {{from: host, event: all}}}}
"""


def pipeline(folder: Path, name: str, size: int) -> Path:
    """Make a bundle whose files take `size` bytes."""
    (folder / name).mkdir(parents=True)
    (folder / name / "pipeline.yaml").write_text(TEXT.format(name=name))
    (folder / name / "weights.npy").write_bytes(os.urandom(size))
    return folder / name


def history(store: Path) -> None:
    """Leave a journal of as many events as there is room for."""
    folder = store / "journals" / "gone"
    folder.mkdir(parents=True)
    journal = Journal(folder, HELD)
    for _ in range(HELD // MB + 5):
        journal.commit([bulk(), bulk(), bulk()])
    journal.close()


class Most:
    """The most that a store took, looked at all the time."""

    def __init__(self, store: Path) -> None:
        self._store, self.bytes, self._ended = store, 0, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._ended.wait(0.01):
            self.bytes = max(self.bytes, taken(self._store))

    def __enter__(self) -> Most:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


DEPLOY = [sys.executable, "-m", "edgeflow_tools.cli", "deploy"]


def deploy(path: Path, *whom: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEPLOY, str(path), *whom], capture_output=True, text=True, check=False, timeout=120
    )


def running(device: Device) -> set[str]:
    found = device.json("/api/v1/pipelines")["pipelines"]
    return {told["name"] for told in found if told["state"] == "running"}


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    relay = Relay(tmp_path / "relay").start()
    yield relay
    relay.stop()


def device(folder: Path, relay: int | None) -> Device:
    """Return a device with so many events that no bundle has room beside them."""
    history(folder / "store")
    storage = {"budget": f"{BUDGET >> 20} MiB", "free": "1 MB"}
    return Device(folder, relay=relay, storage=storage, log_bytes=4 * MB).start()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Device]:
    alone = device(tmp_path, None)
    yield alone
    alone.close()


@pytest.fixture
def known(tmp_path: Path, relay: Relay) -> Iterator[Device]:
    """One whose events the relay has."""
    known = device(tmp_path, relay.grpc)
    eventually(lambda: relay.events("gone"), "the relay has events")
    eventually(lambda: known.json("/api/v1/device")["relay"]["backlog"] == 0, "it has all of them")
    yield known
    known.close()


def test_room_is_made_for_a_bundle_and_what_it_costs_is_told(alone: Device, tmp_path: Path) -> None:
    with Most(alone.store) as most:
        done = deploy(pipeline(tmp_path / "made", "put", FITS), "--to", alone.url)
        assert done.returncode == 0, done.stderr
    assert BUDGET // 2 < most.bytes <= BUDGET
    assert running(alone) == {"put"}
    assert not list((alone.store / "staging").iterdir())
    gone = alone.metric("edgeflow_events_evicted_unacked_total", pipeline="gone")
    gaps = [event["data"] for event in alone.events("_agent", "edgeflow.gap")]
    assert 0 < gone == sum(gap["last"] - gap["first"] + 1 for gap in gaps if gap.get("pipeline") == "gone")


def test_half_of_the_budget_stays_with_events_that_nobody_else_has(alone: Device, tmp_path: Path) -> None:
    made = pipeline(tmp_path / "made", "laid", 2 * FITS)
    made.rename(alone.pipelines / "laid")
    eventually(lambda: "there can be room for" in json.dumps(alone.json("/api/v1/pipelines")), "it says why")
    time.sleep(3)  # the folder is looked at again
    assert alone.metric("edgeflow_events_evicted_total", pipeline="gone") == 0
    (alone.pipelines / "laid" / "weights.npy").write_bytes(b"")
    eventually(lambda: running(alone) == {"laid"}, "a smaller one runs")


def test_what_the_relay_has_makes_room_however_bundles_come(
    known: Device, relay: Relay, tmp_path: Path
) -> None:
    put, sent, laid = (pipeline(tmp_path / "made", name, FITS) for name in ("put", "sent", "laid"))
    with Most(known.store) as most:
        for path, whom in ((put, ("--to", known.url)), (sent, ("--device", "dev1", "--relay", relay.url))):
            done = deploy(path, *whom)
            assert done.returncode == 0, done.stderr
        laid.rename(known.pipelines / "laid")
        eventually(lambda: running(known) == {"put", "sent", "laid"}, "all run")
    assert BUDGET // 2 < most.bytes <= BUDGET
    assert known.metric("edgeflow_events_evicted_total", pipeline="gone") > 0
    assert known.metric("edgeflow_events_evicted_unacked_total") == 0


def test_a_bundle_that_never_fits_costs_nothing_and_is_refused_with_its_size(
    known: Device, relay: Relay, tmp_path: Path
) -> None:
    big = pipeline(tmp_path / "made", "big", TOO_MUCH)
    with Most(known.store) as most:
        for whom in (("--to", known.url), ("--device", "dev1", "--relay", relay.url)):
            done = deploy(big, *whom)
            assert (done.returncode, "has for bundles" in done.stderr) == (1, True), done.stderr
            assert "Errno" not in done.stderr
        big.rename(known.pipelines / "big")
        eventually(lambda: "has for bundles" in json.dumps(known.json("/api/v1/pipelines")), "it says why")
    assert most.bytes < HELD + 4 * MB
    assert known.metric("edgeflow_events_evicted_total", pipeline="gone") == 0
    assert not list((known.store / "bundles").iterdir())


def test_who_waits_for_a_device_without_room_is_told_so_and_gets_it_later(
    known: Device, relay: Relay, tmp_path: Path
) -> None:
    first, second = (pipeline(tmp_path / "made", name, 30 * MB) for name in ("first", "second"))
    done = deploy(first, "--to", known.url)
    assert done.returncode == 0, done.stderr
    notes = tmp_path / "notes"
    with notes.open("wb") as file:
        command = [*DEPLOY, str(second), "--device", "dev1", "--relay", relay.url]
        waiting = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file)
    eventually(lambda: "there can be room for" in notes.read_text(), "who waits is told why")
    status, body = known.request("DELETE", "/api/v1/pipelines/first")
    assert status == 204, body.decode()
    assert waiting.wait(120) == 0
    assert running(known) == {"second"}


def test_no_bundle_takes_the_room_that_a_pipeline_needs_to_run(tmp_path: Path) -> None:
    lone = Device(tmp_path, storage={"budget": "48 MiB", "free": "1 MB"}).start()
    try:
        done = deploy(pipeline(tmp_path / "made", "big", 10 * MB), "--to", lone.url)
        assert (done.returncode, "has for bundles" in done.stderr) == (1, True), done.stderr
        done = deploy(pipeline(tmp_path / "made", "small", 5 * MB), "--to", lone.url)
        assert done.returncode == 0, done.stderr
        eventually(lambda: lone.events("small", "all"), "its events have room")
        assert lone.json("/api/v1/device")["degraded"] == []
    finally:
        lone.close()
