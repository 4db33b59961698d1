"""A real agent on a disk that fills up, and journals over a month that nobody fetches."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edgeflow_agent.config import Settings, StorageSettings
from edgeflow_agent.control.storage import Reserved, Storage
from edgeflow_agent.core.board import Board, Counter, create, labelled
from edgeflow_agent.store.budget import Limits
from edgeflow_agent.store.journal import Journal, JournalError
from edgeflow_agent.store.journal_reader import JournalReader
from edgeflow_agent.store.recording import Recording, RecordingReader
from edgeflow_agent.store.retention import Evicted
from edgeflow_proto.event import ROW_BITS, Block, Clock, Column
from edgeflow_proto.pipeline.units import Size
from edgeflow_proto.rows import Rows
from tests.support.bulk import taken
from tests.support.device import Device
from tests.support.mosquitto import Mosquitto
from tests.support.processes import eventually, kill
from tests.support.small_disk import failing_disk, fill, loop_disk, mend, turn_read_only

pytestmark = pytest.mark.system

WATCH = """
edgeflow: 1
name: watch
inputs: {host: {host: 50ms, fields: [cpu]}}
steps: {all: {from: host, filter: cpu >= 0}}
outputs:
  seen: {from: all, event: watch.all}
  told: {from: all, mqtt: told}
"""
LONE = """
edgeflow: 1
name: {name}
inputs: {{host: {{host: 50ms, fields: [cpu]}}}}
outputs: {{seen: {{from: host, event: all}}}}
"""
MB = 1 << 20
NOBODY = 65534


@pytest.fixture
def full(tmp_path: Path, broker: Mosquitto) -> Iterator[Device]:
    """An agent whose store is a file system of 64 MB."""
    storage = {"budget": "52 MB", "free": "1 MB"}
    with loop_disk(tmp_path / "disk", 64 * MB) as disk:
        (disk / "store").mkdir()
        (tmp_path / "store").symlink_to(disk / "store")
        device = Device(tmp_path, broker=broker.port, storage=storage, log_bytes=4 * MB)
        yield device
        device.close()


def listener(port: int) -> tuple[mqtt.Client, list[bytes]]:
    heard: list[bytes] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, message: heard.append(message.payload)
    client.connect("127.0.0.1", port)
    client.subscribe("told")
    client.loop_start()
    return client, heard


def ready(device: Device) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(device.text("/readyz"))
    return found


def moment(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()


def test_on_a_full_disk_it_goes_on_deciding_and_acting_and_writes_all_of_it_when_there_is_room(
    full: Device, broker: Mosquitto
) -> None:
    full.start()
    full.deploy("watch", WATCH)
    client, heard = listener(broker.port)
    eventually(lambda: full.events("watch", "watch.all"), "it decides")
    assert not [words for words in ready(full)["degraded"] if "disk" in words]
    filler = fill(full.folder / "disk")
    eventually(lambda: any("refuses" in words for words in ready(full)["degraded"]), "it is degraded", 90)
    assert ready(full)["ready"]
    before, stored = len(heard), len(full.events("watch", "watch.all"))
    eventually(lambda: len(heard) > before + 100, "it goes on acting")
    filler.unlink()
    eventually(lambda: not any("disk" in words for words in ready(full)["degraded"]), "it heals", 90)
    eventually(lambda: len(full.events("watch", "watch.all")) > stored + 100, "what waited is written")
    client.loop_stop()
    client.disconnect()
    times = [moment(event) for event in full.events("watch", "watch.all")]
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 1.0
    sequences = [int(event["sequence"]) for event in full.events("watch")]
    assert sequences == list(range(1, len(sequences) + 1))


def test_a_worker_that_dies_on_a_full_disk_is_back_at_once(full: Device, broker: Mosquitto) -> None:
    full.start()
    full.deploy("watch", WATCH)
    client, heard = listener(broker.port)
    eventually(lambda: full.events("watch", "watch.all"), "it decides")
    filler = fill(full.folder / "disk")
    eventually(lambda: any("refuses" in words for words in ready(full)["degraded"]), "it is degraded", 90)
    (worker,) = full.workers()
    kill(worker)
    eventually(lambda: full.workers() and worker not in full.workers(), "another worker runs")
    before, stored = len(heard), len(full.events("watch", "watch.all"))
    eventually(lambda: len(heard) > before + 20, "it acts")
    filler.unlink()
    eventually(lambda: len(full.events("watch", "watch.all")) > stored + 20, "it writes")
    client.loop_stop()
    client.disconnect()
    sequences = [int(event["sequence"]) for event in full.events("watch")]
    assert sequences == list(range(1, len(sequences) + 1))
    times = [event["monotonicns"] for event in full.events("watch", "watch.all")]
    assert len(times) == len(set(times))


def test_on_a_disk_that_fails_for_a_while_it_goes_on_and_writes_all_of_it_when_the_disk_does(
    tmp_path: Path, broker: Mosquitto
) -> None:
    with failing_disk(tmp_path / "disk", 64 * MB) as (disk, below):
        (tmp_path / "store").symlink_to(disk)
        storage = {"budget": "52 MB", "free": "1 MB"}
        device = Device(tmp_path, broker=broker.port, storage=storage, log_bytes=4 * MB)
        device.start()
        try:
            fail_for_a_while(device, broker, below)
        finally:
            device.close()


def fail_for_a_while(device: Device, broker: Mosquitto, below: Path) -> None:
    device.deploy("watch", WATCH.replace("fields: [cpu]", "fields: [cpu], record: all"))
    client, heard = listener(broker.port)
    eventually(lambda: device.events("watch", "watch.all"), "it decides")
    (worker,) = device.workers()
    filler = fill(below)
    eventually(lambda: any("refuses" in words for words in ready(device)["degraded"]), "it is degraded", 90)
    before, stored = len(heard), len(device.events("watch", "watch.all"))
    eventually(lambda: len(heard) > before + 100, "it goes on acting")
    filler.unlink()
    eventually(lambda: not any("disk" in words for words in ready(device)["degraded"]), "it heals", 90)
    eventually(lambda: len(device.events("watch", "watch.all")) > stored + 100, "what waited is written")
    client.loop_stop()
    client.disconnect()
    times = [moment(event) for event in device.events("watch", "watch.all")]
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 1.0
    sequences = [int(event["sequence"]) for event in device.events("watch")]
    assert sequences == list(range(1, len(sequences) + 1))
    assert device.workers() == [worker]
    status, body = device.request("DELETE", "/api/v1/pipelines/watch")  # the state is written too
    assert status in (200, 204), body.decode()


def test_on_a_disk_that_turns_read_only_it_goes_on_acting_and_what_was_committed_is_there_when_it_is_mended(
    full: Device, broker: Mosquitto
) -> None:
    full.start()
    full.deploy("watch", WATCH)
    client, heard = listener(broker.port)
    eventually(lambda: full.events("watch", "watch.all"), "it decides")
    turn_read_only(full.folder / "disk")
    eventually(lambda: any("refuses" in words for words in ready(full)["degraded"]), "it is degraded", 90)
    before, known = len(heard), full.events("watch")
    eventually(lambda: len(heard) > before + 20, "it goes on acting")
    client.loop_stop()
    client.disconnect()
    full.stop()
    mend(full.folder / "disk")
    full.start()
    eventually(lambda: len(full.events("watch")) > len(known) + 20, "it writes again", 90)
    events = full.events("watch")
    assert [event["id"] for event in events[: len(known)]] == [event["id"] for event in known]
    sequences = [int(event["sequence"]) for event in events]
    assert sequences == list(range(1, len(sequences) + 1))
    assert full.events("_agent", "edgeflow.gap")  # that it stopped with events in hand


def without_privileges(folder: Path) -> list[str]:
    """Return the command that runs another as who owns a folder and may not look past permissions.

    That is another user, or where that one may not run this interpreter root without its privileges to.
    """
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("giving up privileges takes root and setpriv")
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    probe = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
    if subprocess.run([*user, sys.executable, "-c", probe], check=False, capture_output=True).returncode:
        return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    return user


def test_a_store_that_lost_its_permissions_is_named_and_used_again_when_it_has_them() -> None:
    with tempfile.TemporaryDirectory() as name:
        device = Device(Path(name), log_bytes=4 * MB)
        device.prefix = without_privileges(Path(name))
        device.start()
        try:
            lose_permissions(device)
        finally:
            device.close()


def lose_permissions(device: Device) -> None:
    for name in ("watch", "other"):
        device.deploy(name, LONE.format(name=name))
        eventually(lambda name=name: device.events(name, "all"), f"{name} decides")
    journal = device.store / "journals" / "watch"
    for path in (*journal.iterdir(), journal):
        path.chmod(0)
    for worker in device.workers():
        kill(worker)
    eventually(lambda: "Permission denied" in device.pipeline("watch")["reason"], "it is named", 90)
    before = len(device.events("other", "all"))
    eventually(lambda: len(device.events("other", "all")) > before + 10, "the other one goes on")
    journal.chmod(0o700)
    for path in journal.iterdir():
        path.chmod(0o600)
    eventually(lambda: device.pipeline("watch")["state"] == "running", "it runs again", 90)
    more = len(device.events("watch", "all"))
    eventually(lambda: len(device.events("watch", "all")) > more, "it decides again")
    sequences = [int(event["sequence"]) for event in device.events("watch")]
    assert sequences == list(range(1, len(sequences) + 1))


def test_the_agent_commits_its_own_state_on_a_full_disk(full: Device) -> None:
    full.start()
    ballast = full.store / "ballast"
    eventually(ballast.exists, "there is a ballast")
    full.deploy("watch", WATCH)
    filler = fill(full.folder / "disk")
    status, body = full.request("DELETE", "/api/v1/pipelines/watch")
    assert status in (200, 204), body.decode()
    full.kill_agentd()
    full.start()
    assert "watch" not in [pipeline["name"] for pipeline in full.json("/api/v1/pipelines")["pipelines"]]
    filler.unlink()
    eventually(ballast.exists, "there is a ballast again")


DAY = 86400
EVERY = 600  # seconds between two commits
ONLINE, COMMITS = 5 * DAY // EVERY, 35 * DAY // EVERY  # first the relay takes all, then nobody for a month
RATES = {"busy": 300, "usual": 150, "seldom": 5}  # events in one of them
ROWS = 400  # that the usual one records in one of them
CLOCK = Clock("boot", 0, "unsynchronised")


def block(first: int, count: int) -> Block:
    t = struct.pack(f"<{count}q", *range(first, first + count))
    data = (
        Column("score", "float32", (), bytes(4 * count)),
        Column("more", "float64", (8,), bytes(64 * count)),
    )
    return Block(output="o", type="t", severity="info", count=count, clock=CLOCK, t=t, data=data)


def recorded_block(turn: int) -> Rows:
    first = (1 << ROW_BITS) + turn * ROWS
    return Rows(
        input="a", first=first, count=ROWS, clock=CLOCK, t=bytes(8 * ROWS), shape=(3,), dtype="float32",
        values=bytes(12 * ROWS), next={"a": first + ROWS}, written_ns=turn * EVERY * 10**9,
    )  # fmt: skip


class Month:
    """Journals and a recording below one budget, each commit of them a stretch of simulated time."""

    def __init__(self, store: Path, budget: int) -> None:
        (store / "journals").mkdir()
        board, settings = Board(create()), Settings(storage=StorageSettings(Size(budget), Size(MB)))
        self.link = board.slot(2)
        self.store = store
        self.storage = Storage(
            store, settings, Reserved(MB, "_agent", MB), (board.slot(0), self.link), lambda *_: None
        )
        self._running = {name: name == "usual" for name in RATES}
        self.storage.look(self._running)
        self.journals = {
            name: Journal(store / "journals" / name, self._limits(name).journal) for name in RATES
        }
        self.evicted: dict[str, list[Evicted]] = {name: [] for name in RATES}
        self.recording = Recording(store / "recordings" / "usual", self._limits("usual").recording)
        self.rows_evicted = self.rows_refused = 0

    def _limits(self, name: str) -> Limits:
        return self.storage.limits[name]

    def acked(self, name: str) -> int:
        return self._counter(name).value

    def _counter(self, name: str) -> Counter:
        return self.link.counter(labelled("uplink_acked", pipeline=name))

    def commit(self, turn: int) -> None:
        for name, count in RATES.items():
            journal = self.journals[name]
            self._note(name, journal.commit([block(turn, count)], acked=lambda: self.acked(name)))  # noqa: B023
            if turn < ONLINE:
                self._counter(name).set(journal.next - 1)
        try:
            self.rows_evicted += self.recording.write([recorded_block(turn)])
        except JournalError:  # events need all of the room
            self.rows_refused += ROWS

    def look(self) -> int:
        """Let the limits be looked after; return what all takes."""
        self.storage.look(self._running)
        for name, journal in self.journals.items():
            self._note(name, journal.trim(self._limits(name).journal, lambda: self.acked(name)))  # noqa: B023
        self.rows_evicted += self.recording.trim(self._limits("usual").recording)
        return taken(self.store)

    def _note(self, name: str, gone: Evicted | None) -> None:
        self.evicted[name] += [gone] if gone else []

    def close(self) -> None:
        for journal in (*self.journals.values(), self.recording):
            journal.close()


def test_a_month_offline_never_exceeds_the_budget_and_every_event_is_accounted_for() -> None:
    budget, most = 60 * MB, 0
    with tempfile.TemporaryDirectory() as folder, loop_disk(Path(folder) / "disk", 160 * MB) as store:
        month = Month(store, budget)
        for turn in range(COMMITS):
            month.commit(turn)
            if turn % 6 == 0:  # an hour
                most = max(most, month.look())
        month.close()
        assert budget // 2 < most <= budget
        for name, count in RATES.items():
            account(month, name, COMMITS * count)
        assert sum(gone.lost for gone in month.evicted["busy"])
        assert sum(gone.last - gone.first + 1 - gone.lost for gone in month.evicted["busy"])
        assert not month.evicted["seldom"]  # a busy one pushes out nothing of a quiet one
        reader = RecordingReader(store / "recordings" / "usual")
        kept = [rows.first for rows in reader.between()]
        reader.close()
        assert kept == sorted(set(kept))
        assert month.rows_evicted > 0  # recordings go before events that nobody else has
        assert len(kept) * ROWS + month.rows_evicted + month.rows_refused == COMMITS * ROWS


def account(month: Month, name: str, written: int) -> None:
    """Check that written = present + acknowledged and dropped + told as a gap, each number in one of them."""
    reader = JournalReader(month.store / "journals" / name)
    present = reader.last - reader.first + 1
    evicted, acked = month.evicted[name], ONLINE * RATES[name]
    lost = sum(gone.lost for gone in evicted)
    dropped = sum(gone.last - gone.first + 1 - gone.lost for gone in evicted)
    assert reader.last == written == present + dropped + lost
    assert [gone.first for gone in evicted] == [1, *(gone.last + 1 for gone in evicted)][:-1]
    assert dropped == min(acked, reader.first - 1)
    assert lost == max(0, reader.first - 1 - acked)
    reader.close()
