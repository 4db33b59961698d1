from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgeflow_agent.core import board, snapshot
from edgeflow_agent.core.snapshot import Snapshots
from edgeflow_agent.store import segment
from edgeflow_agent.store.journal import Journal, JournalError
from edgeflow_agent.store.ledger import DURABLE_NS, HELD_NS, Ledger
from edgeflow_proto.event import Block, Clock

BYTES = 4 << 20


def block() -> Block:
    return Block(
        output="a", type="t", severity="info", count=1, clock=Clock("b", 0, "synchronised"), t=bytes(8)
    )


class Device:
    """A store and the memory that outlives workers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.memory = snapshot.create()
        self.board = board.create()

    def worker(self, digest: str = "d") -> tuple[Journal, Ledger]:
        journal = Journal(self.path, BYTES)
        slot = board.Board(self.board).slot(3)
        return journal, Ledger(journal, Snapshots(self.memory), slot, digest, lambda: 0)


def test_a_worker_resumes_at_the_commit_that_carried_its_events(tmp_path: Path) -> None:
    device = Device(tmp_path)
    journal, ledger = device.worker()
    assert ledger.resume() is None
    assert ledger.commit(1, [block()], b"one", 0)[0]
    assert ledger.commit(2, [block()], b"two", 0)[0]
    journal.close()
    assert device.worker()[1].resume() == b"two"


def test_a_settled_point_without_events_is_newer_than_the_last_commit(tmp_path: Path) -> None:
    device = Device(tmp_path)
    journal, ledger = device.worker()
    ledger.commit(DURABLE_NS, [block()], b"one", 0)
    ledger.settle(DURABLE_NS + 1, b"later")
    journal.close()
    assert device.worker()[1].resume() == b"later"


def test_death_between_snapshot_and_transaction_resumes_before_the_events(tmp_path: Path) -> None:
    device = Device(tmp_path)
    journal, ledger = device.worker()
    ledger.commit(DURABLE_NS, [block()], b"one", 0)
    Snapshots(device.memory).write(journal.serial + 1, b"never committed")
    journal.close()
    assert device.worker()[1].resume() == b"one"


def test_death_between_transaction_and_settling_resumes_behind_the_events(tmp_path: Path) -> None:
    device = Device(tmp_path)
    journal, ledger = device.worker()
    ledger.commit(DURABLE_NS, [block()], b"one", 0)
    Snapshots(device.memory).write(journal.serial + 1, b"two")
    journal.commit([block()], journal.serial + 1)
    journal.close()
    assert device.worker()[1].resume() == b"two"


def test_the_durable_copy_serves_when_memory_is_gone_and_only_the_same_pipeline(tmp_path: Path) -> None:
    device = Device(tmp_path)
    journal, ledger = device.worker()
    ledger.commit(DURABLE_NS, [block()], b"one", 0, last=True)
    journal.close()
    device.memory = snapshot.create()
    journal, ledger = device.worker()
    assert ledger.resume() is None
    assert ledger.restored() == b"one"
    journal.close()
    assert device.worker("another")[1].restored() is None


def test_what_is_urgent_waits_for_no_group_but_a_disk_that_refuses_is_left_alone(tmp_path: Path) -> None:
    journal, ledger = Device(tmp_path).worker()
    every = 200_000_000
    ledger.commit(1_000, [block()], b"one", 0)
    assert not ledger.due(2_000, every)
    assert ledger.due(2_000, every, urgent=True)
    journal.limit, journal.hold = 0, True
    for _ in range(20):
        assert not ledger.commit(3_000, [block()], b"two", 0)[0]
    assert not ledger.due(3_000 + every, every, urgent=True)
    assert ledger.due(3_000 + 10 * every, every)
    journal.limit = BYTES
    assert ledger.commit(4_000, [block()], b"two", 0)[0]
    assert ledger.due(4_000 + every, every)


READER = """
import sys, lmdb
env = lmdb.open(sys.argv[1], subdir=False, map_size=64 << 20, max_dbs=2, max_readers=32, readonly=True)
with env.begin():
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_process_that_keeps_a_transaction_open_is_found_once(tmp_path: Path) -> None:
    journal, ledger = Device(tmp_path).worker()
    ledger.commit(1, [block()], b"one", 0)
    command = [sys.executable, "-c", READER, str(segment.names(tmp_path)[-1])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"open\n"
        ledger.commit(2, [block()], b"two", 0)
        found = [ledger.held(look * HELD_NS) for look in range(1, 5)]
        assert found == [[], [reader.pid], [], []]
        reader.kill()
    assert ledger.held(9 * HELD_NS) == []
    assert journal.readers() == set()


def test_on_a_disk_that_refuses_the_point_to_resume_from_goes_on_and_the_disk_is_asked_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(tmp_path)
    journal, ledger = device.worker()
    ledger.commit(DURABLE_NS, [block()], b"one", 0)
    asked = list[int]()

    def refusing(*_: object) -> None:
        asked.append(1)
        raise JournalError("Read-only file system")

    monkeypatch.setattr(journal, "commit", refusing)
    for turn in range(1, 600):
        ledger.settle(DURABLE_NS + turn * DURABLE_NS // 60, f"{turn}".encode())
    assert len(asked) == 9
    assert ledger.resume() == b"599"
    journal.close()
    assert device.worker()[1].resume() == b"599"
