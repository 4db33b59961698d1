"""Power cuts while an agent runs: what HTTP and the relay were given is there, once, and it goes on."""

from __future__ import annotations

import io
import json
import logging
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from edgeflow_proto.rows import sequence
from tests.support import sensor
from tests.support.device import Device
from tests.support.mosquitto import Mosquitto
from tests.support.power import log, mounts
from tests.support.power.cuts import KEEPS, Cut, Keep, drawn, images
from tests.support.power.outside import Event, Outside, broken, given, stored
from tests.support.processes import alive, eventually
from tests.support.relay import Relay

pytestmark = pytest.mark.system
report = logging.getLogger("power-cuts")
DISK_BYTES = 48 << 20
STORE = Path("device") / "store"
CUTS_A_LIFE = 20
PIPELINE = """
edgeflow: 1
name: cut
inputs:
  accel:
    mqtt: plant/accel
    decode: {json: {samples: data}}
    fields: [x, n]
    rate: 1 kHz
    buffer: 60 s
    record: all
steps:
  window: {from: accel, window: {size: 64, hop: 16}}
  features: {from: window, stats: [mean, rms, max]}
outputs:
  score: {from: features, event: {type: cut.VERSION, data: [x.rms]}}
"""


@dataclass(frozen=True)
class Place:
    """All around an agent that stays while its plug is pulled again and again."""

    folder: Path
    broker: Mosquitto
    relay: Relay
    sensor: subprocess.Popen[bytes]
    outside: Outside


@pytest.fixture
def place(mosquitto: Path, memory: Path) -> Iterator[Place]:
    broker = Mosquitto(mosquitto, memory / "broker").start()
    relay = Relay(memory / "relay").start()
    record = memory / "sent.npy"
    sender = sensor.start(broker.port, "plant/accel", record, seconds=600)
    yield Place(memory, broker, relay, sender, Outside())
    sender.kill()
    sender.communicate()
    relay.stop()
    broker.stop()


@contextmanager
def booted(disk: mounts.Recorded, place: Place) -> Iterator[Device]:
    """Start the agent as after a reboot, and check that it has all that anybody outside was given."""
    ports = {"broker": place.broker.port, "relay": place.relay.grpc}
    device = Device(disk.path / STORE.parent, storage={"free": "4 MiB"}, **ports)
    device.prefix = mounts.other_boot(disk.log.parent)
    device.start()
    try:
        if place.outside.digest:
            eventually(lambda: device.pipeline("cut")["state"] == "running", "the pipeline runs again")
            assert device.pipeline("cut")["digest"] == place.outside.digest
        assert place.outside.events.keys() - known(device.events()) == set()
        assert recorded(device) >= place.outside.last.get("recordings/cut", 0)
        yield device
    finally:
        device.close()


def recorded(device: Device) -> int:
    """Return how many rows are recorded, each of them once."""
    status, body = device.request("GET", "/api/v1/pipelines/cut/recording")
    assert status in (200, 404), body.decode()
    count = end = 0
    for rows in sequence(io.BytesIO(body)) if status == 200 else ():
        assert rows.first >= end
        count, end = count + rows.count, rows.end
    return count


def known(events: list[Event]) -> set[tuple[str, str]]:
    return {(event["source"], event["id"]) for event in events}


def live(device: Device, disk: mounts.Recorded, place: Place, number: int) -> None:
    """Look on for a while; somewhere in it, put another version of the pipeline there."""
    rng, outside = random.Random(number), place.outside
    look_on(device, disk, place, rng.uniform(0, 0.5))
    text = PIPELINE.replace("VERSION", f"version{number}").encode()
    status, body = device.request("PUT", "/api/v1/pipelines/cut", text, "application/yaml")
    assert status in (200, 201), body.decode()
    outside.digest = json.loads(body)["digest"]
    if number % 4 < 3:  # else the plug is pulled while it begins
        eventually(
            lambda: look_on(device, disk, place) or outside.count(f"cut.version{number}") > 9, "events"
        )
    look_on(device, disk, place, rng.uniform(0, 0.5))


def look_on(device: Device, disk: mounts.Recorded, place: Place, seconds: float = 0.0) -> None:
    end = time.monotonic() + seconds
    while True:
        place.outside.look(device, place.relay, disk.told)
        if time.monotonic() >= end:
            return
        time.sleep(0.02)


def pull(device: Device, disk: mounts.Recorded) -> None:
    """Let the disk stand still, and then no process of the agent do anything any more."""
    disk.process.send_signal(signal.SIGSTOP)
    agent = psutil.Process(device.pid)
    processes = [agent, *agent.children(recursive=True)]
    for process in processes:
        process.kill()
    disk.process.kill()  # who waits for the disk gets an error instead, and is dead by then
    eventually(lambda: not any(alive(process.pid) for process in processes), "the agent is gone")


def lived(number: int, before: bytes, place: Place) -> list[log.Record]:
    """Return the log of a disk on which an agent ran until the plug was pulled."""
    with mounts.recorded(place.folder / f"life-{number}", before) as disk, booted(disk, place) as device:
        live(device, disk, place, number)
        pull(device, disk)
    return log.read(disk.log)


def check(before: bytes, records: list[log.Record], cuts: list[Cut], place: Place) -> None:
    """Check the store at other moments of a life that began with `before`."""
    with mounts.left(after(before, records, "everything"), place.folder) as path:
        whole = stored(path / STORE)
    for cut, content in images(before, records, cuts):
        with mounts.left(content, place.folder) as path:
            if (path / STORE / "journals").is_dir():
                assert broken(path / STORE, whole, given(records, cut.at), place.outside.digest) == [], cut


def after(before: bytes, records: list[log.Record], keep: Keep) -> bytes:
    """Return what is on the disk at the end of a life."""
    return bytes(next(images(before, records, [Cut(len(records), keep, len(records))]))[1])


def test_an_agent_goes_on_after_every_cut_and_has_all_it_gave_away(place: Place, cuts: int) -> None:
    disk = mounts.empty_ext4(place.folder, DISK_BYTES)
    for number in range(cuts // CUTS_A_LIFE):
        records = lived(number, disk, place)
        check(disk, records, drawn(records, CUTS_A_LIFE, number), place)
        disk = after(disk, records, KEEPS[number % len(KEEPS)])
        known_rows = place.outside.last.get("recordings/cut", 0)
        report.info(
            "life %d: %d events and %d rows known outside", number, len(place.outside.events), known_rows
        )
    with mounts.recorded(place.folder / "end", disk) as last, booted(last, place) as device:
        everything_is_once_at_the_relay(device, place)


def everything_is_once_at_the_relay(device: Device, place: Place) -> None:
    """Check what relay and device have at the end, when nothing more comes."""
    place.sensor.kill()
    eventually(lambda: known(device.events()) == known(place.relay.events()), "all is at the relay")
    for events in (device.events(), place.relay.events()):
        assert place.outside.events.keys() - known(events) == set()
        numbers = Counter((event["source"], int(event["sequence"])) for event in events)
        ends = Counter(source for source, _ in numbers)
        assert numbers == Counter((source, i + 1) for source, end in ends.items() for i in range(end))
        spans = Counter(event["inputspan"] for event in events if "inputspan" in event)
        assert max(spans.values()) == 1
        assert "journal_damaged" not in {event["data"].get("reason") for event in events}
