"""What is stored on disks that are full or fail, and on the same disks when they are mended."""

from __future__ import annotations

import asyncio
import errno
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import pytest

from edgeflow_agent.store.journal import Journal, JournalError
from edgeflow_agent.store.journal_reader import JournalReader
from edgeflow_agent.store.state import Alive, State
from edgeflow_agent.uplink.memory import Memory
from edgeflow_proto.event import Block, Clock, Column
from tests.support.small_disk import failing_disk, fill, loop_disk

MB = 1 << 20
CLOCK = Clock("boot", 0, "synchronised")
OPENED = """
import sys
from pathlib import Path
from edgeflow_agent.store.environment import opened
try:
    opened(Path(sys.argv[1]), subdir=False)
except OSError as error:
    sys.exit(error.errno)
"""


def block(count: int) -> Block:
    data = (Column("x", "float32", (), bytes(4 * count)),)
    times = struct.pack(f"<{count}q", *range(count))
    return Block(output="o", type="t", severity="info", count=count, clock=CLOCK, t=times, data=data)


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    with failing_disk(tmp_path / "disk", 64 * MB) as disk:
        yield disk


def failures(work: Callable[[], None], error: type[Exception]) -> int:
    """Do it many times; return how often it failed."""
    failed = 0
    for _ in range(200):
        try:
            work()
        except error:
            failed += 1
    return failed


def test_a_journal_goes_on_when_its_disk_does(failing: tuple[Path, Path]) -> None:
    disk, below = failing
    journal = Journal(disk / "journal", 16 * MB)
    committed = []

    def commit() -> None:
        journal.commit([block(2000)], len(committed) + 1)
        committed.append(journal.next)

    for _ in range(10):
        commit()
    filler = fill(below)
    assert failures(commit, JournalError) > 100
    filler.unlink()
    for _ in range(500):
        commit()
    journal.close()
    reader = JournalReader(disk / "journal")
    found = [first + count for first, count, _ in reader.read(0, 1 << 30)]
    reader.close()
    assert found == committed


def test_a_journal_that_kept_what_it_said_it_refused_is_left_to_who_resumes(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 16 * MB)
    journal.commit([block(3)], 1)
    journal.close()  # as behind a write that failed
    other = Journal(tmp_path, 16 * MB)
    other.commit([block(2)], 2)
    other.close()
    with pytest.raises(RuntimeError, match="not as it was left"):
        journal.commit([block(2)], 2)


def test_the_state_is_written_again_when_its_disk_is_mended(failing: tuple[Path, Path]) -> None:
    disk, below = failing
    state, walls = State(disk / "state"), iter(range(1_000_000))
    state.live(Alive("boot", 1, next(walls), False))
    filler = fill(below)
    assert failures(lambda: state.live(Alive(100_000 * "b", 1, next(walls), False)), lmdb.Error) > 100
    before = state.next_generation()
    filler.unlink()
    state.live(Alive("boot", 1, 7, True))
    assert state.next_generation() == before + 1
    state.close()
    again = State(disk / "state")
    assert again.alive() == Alive("boot", 1, 7, True)
    assert again.next_generation() == before + 2
    again.close()


def test_a_state_that_is_gone_is_not_begun_anew_under_who_has_read_it(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    state.close()  # as behind a write that failed
    (tmp_path / "state" / "data.mdb").unlink()
    with pytest.raises(lmdb.Error, match="No such file"):
        state.live(Alive("boot", 1, 2, True))
    assert not (tmp_path / "state" / "data.mdb").exists()


def test_what_the_uplink_remembers_is_written_when_its_disk_is_mended(
    failing: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    disk, below = failing
    memory = Memory(disk / "uplink")
    memory.ack("j", 1)
    asyncio.run(memory.save())
    filler = fill(below)
    for number in range(2, 200):
        memory.ack(f"j{number}" + 200 * "x", number)
        asyncio.run(memory.save())
    assert "cannot be written" in caplog.text
    filler.unlink()
    memory.ack("j", 500)
    asyncio.run(memory.save())
    memory.close()
    found = Memory(disk / "uplink").acked
    assert (found["j"], len(found)) == (500, 199)


def test_opening_on_a_full_disk_is_refused_and_kills_nobody(tmp_path: Path) -> None:
    with loop_disk(tmp_path / "disk", 16 * MB) as disk:
        (disk / "segment").touch()
        fill(disk)
        done = subprocess.run([sys.executable, "-c", OPENED, str(disk / "segment")], check=False)
        assert done.returncode == errno.ENOSPC
