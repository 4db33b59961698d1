"""Power cuts while a journal is written and read: what was told before a cut is there after it, once."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from edgeflow_agent.store.journal import Journal
from tests.support.power import log, mounts, oracle, writer
from tests.support.power.cuts import Cut, drawn, images, unflushed
from tests.support.power.told import decode, tell
from tests.support.processes import eventually

pytestmark = pytest.mark.system
report = logging.getLogger("power-cuts")
DISK_BYTES = 24 << 20
CUTS_A_ROUND = 125
LIVES = 3  # of the writer in a round: it is killed, and goes on
LIFE_BYTES = 4 << 20  # of the disk's log

Broken = dict[Cut, list[str]]


@contextmanager
def beside(program: str, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of `tests.support.power` while something else happens."""
    command = [sys.executable, "-m", f"tests.support.power.{program}", *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=mounts.REPOSITORY)
    try:
        yield process
        assert process.poll() is None, f"{program} ended"
    finally:
        process.kill()
        process.wait()


def run(folder: Path, before: bytes, *unsynced: str) -> list[log.Record]:
    """Let a writer write and a reader read along on a disk that held `before`; return the disk's log."""
    with mounts.recorded(folder, before) as disk:
        journal = disk.path / "journal"
        with beside("reader", journal, disk.told):
            for life in range(LIVES):
                with beside("writer", journal, disk.told, *unsynced):
                    await_size(disk.log, (life + 1) * LIFE_BYTES)
    return log.read(disk.log)


def await_size(file: Path, size: int) -> None:
    eventually(lambda: file.stat().st_size > size, "the writer writes")


def cut(folder: Path, before: bytes, records: list[log.Record], cuts: list[Cut]) -> tuple[Broken, bytes]:
    """Return what was broken by each cut, and the disk that one of them left."""
    broken, left = {}, before
    chosen = random.Random(len(records)).choice(cuts)
    for each, content in images(before, records, cuts):
        left = bytes(content) if each == chosen else left
        with mounts.left(content, folder) as path:
            broken[each] = oracle.broken(path / "journal", oracle.promised(records, each.at))
    return {each: what for each, what in broken.items() if what}, left


def test_nothing_that_was_told_is_lost_or_there_twice(memory: Path, cuts: int) -> None:
    disk = mounts.empty_ext4(memory, DISK_BYTES)
    rounds = max(2, cuts // CUTS_A_ROUND)
    for number in range(rounds):
        records = run(memory / f"round-{number}", disk)
        drawn_here = drawn(records, cuts // rounds, number)
        broken, disk = cut(memory, disk, records, drawn_here)
        summarise(records, drawn_here)
        assert broken == {}


def test_what_was_told_to_be_gone_stays_gone(memory: Path) -> None:
    empty = mounts.empty_ext4(memory, DISK_BYTES)
    with mounts.recorded(memory / "run", empty) as disk:
        journal = Journal(disk.path / "journal", writer.MAX_BYTES)
        writer.write(disk.path / "journal", journal, partial(tell, disk.told), 1000)
        journal.close()
    records = log.read(disk.log)
    cuts = [Cut(at + 1, "nothing", 0) for at in evictions(records)]
    assert len(cuts) > 2
    assert cut(memory, empty, records, cuts)[0] == {}


def evictions(records: list[log.Record]) -> list[int]:
    """Return where in a log it was told that events had to go."""
    told = [(at, decode(entry.data).first) for at, entry in enumerate(records) if entry.kind == log.TOLD]
    return [at for (_, before), (at, first) in pairwise(told) if first != before]


def summarise(records: list[log.Record], cuts: list[Cut]) -> None:
    """Say what was cut how often."""
    ways = Counter(each.keep for each in cuts)
    torn = sum(unflushed(records, each.at) for each in cuts)
    kinds = Counter(entry.kind.decode() for entry in records)
    text = "%d cuts, %d amid unflushed writes, in %d writes and %d flushes; kept: %s"
    report.info(text, len(cuts), torn, kinds["w"], kinds["f"], dict(ways))


@pytest.mark.parametrize("promise", ["sync", "metasync"])
def test_a_journal_that_breaks_a_promise_is_found_out(promise: str, memory: Path) -> None:
    disk = mounts.empty_ext4(memory, DISK_BYTES)
    records = run(memory / "run", disk, promise)
    broken, _ = cut(memory, disk, records, drawn(records, 20, 1))
    assert broken
