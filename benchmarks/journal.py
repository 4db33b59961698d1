"""The journal: appends and reads per second against bare LMDB with blocks of the same size, and a long one.

Both sync at each commit. The long journal has a million events in commits of a hundred.
"""

from __future__ import annotations

import random
import shutil
import statistics
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import lmdb

from benchmarks.common import Result, in_turns
from edgeflow_agent.store.journal import Journal
from edgeflow_agent.store.journal_reader import JournalReader
from edgeflow_agent.store.readers import Journals, OpenJournal
from edgeflow_proto.event import Block, Clock, Column, decode_block, events

SIZES = (1, 16, 256, 1000)
SECONDS = 0.5
CLOCK = Clock("00000000-0000-0000-0000-000000000000", 0, "synchronised")


def block(count: int) -> Block:
    """Return a block of `count` events with three float32 columns and a span each."""
    data = tuple(Column(name, "float32", (), bytes(4 * count)) for name in ("score", "level", "peak"))
    return Block(
        output="anomaly", type="bearing.anomaly", severity="warning", count=count, clock=CLOCK, data=data,
        t=struct.pack(f"<{count}q", *range(count)), spans=bytes(16 * count), inputs=("accel",),
        pipeline_digest="0" * 64, models={"score": "0" * 64},
    )  # fmt: skip


def _ours(folder: Path, count: int) -> float:
    journal = Journal(Path(tempfile.mkdtemp(dir=folder)), 1 << 30)
    example, done, begin = block(count), 0, time.perf_counter()
    while time.perf_counter() - begin < SECONDS:
        journal.commit([example], journal.serial + 1)
        done += count
    elapsed = time.perf_counter() - begin
    journal.close()
    return done / elapsed


def _bare(folder: Path, count: int) -> float:
    data, done = block(count).encode(), 0
    with lmdb.open(tempfile.mkdtemp(dir=folder), map_size=1 << 30) as env:
        begin = time.perf_counter()
        while time.perf_counter() - begin < SECONDS:
            with env.begin(write=True) as txn:
                txn.put(done.to_bytes(8, "big"), data, append=True)
            done += count
        return done / (time.perf_counter() - begin)


def measure() -> Iterator[Result]:
    """Yield appends, reads, and what is asked of a long journal."""
    folder = Path(tempfile.mkdtemp(prefix="edgeflow-bench-"))
    try:
        for count in SIZES:
            ours, bare = in_turns(
                lambda n=count: _ours(folder, n), lambda n=count: _bare(folder, n), rounds=5
            )
            against = "bare LMDB, same bytes, synced"
            yield Result(f"journal, events/s, blocks of {count}", against, "events/s", ours, bare, "≥ 0.7×")
            yield from _reading(folder, count)
        for count in (1, 100):
            yield from _long(folder / f"of {count}" / "long", count)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _reading(folder: Path, count: int) -> Iterator[Result]:
    """Yield how fast everything is read back, in pages as `link` reads them, against a bare cursor."""
    path, bare_path = folder / f"read-{count}", folder / f"bare-{count}"
    journal, example = Journal(path, 1 << 30), block(count)
    with lmdb.open(str(bare_path), map_size=1 << 30) as env:
        for lot in range(100):
            journal.commit([example] * 20)
            with env.begin(write=True) as txn:
                for place in range(20):
                    txn.put((20 * lot + place).to_bytes(8, "big"), example.encode(), append=True)
        journal.close()
        reader = JournalReader(path)
        ours, bare = in_turns(lambda: 2000 * count / _read(reader), lambda: 2000 * count / _cursor(env))
        reader.close()
    against = "bare LMDB cursor, same bytes"
    yield Result(f"journal, events/s read, blocks of {count}", against, "events/s", ours, bare, "≥ 0.7×")


def _read(reader: JournalReader) -> float:
    begin, after = time.perf_counter(), 0
    while blocks := reader.read(after):
        after = blocks[-1][0] + blocks[-1][1] - 1
    return time.perf_counter() - begin


def _cursor(env: lmdb.Environment) -> float:
    begin = time.perf_counter()
    with env.begin() as txn, txn.cursor() as cursor:
        _ = [(int.from_bytes(key, "big"), bytes(value)) for key, value in cursor]
    return time.perf_counter() - begin


def _long(path: Path, count: int) -> Iterator[Result]:
    """Yield how long a journal of a million events takes to open, and an event to be found by its id.

    When all segments were looked at, as `link` has in the first seconds, and before in one that was not.
    """
    journal, example = Journal(path, 1 << 30), block(count)
    for _ in range(10_000):
        journal.commit([example] * (100 // count))
    journal.close()
    opened = [_opening(path) for _ in range(5)]
    what = f"journal of 1,000,000 events in blocks of {count}"
    yield _milliseconds(f"{what}, open", opened, "< 100 ms")
    journals = Journals(path.parent)
    journals.refresh()
    reader = journals.get(path.name)
    assert reader is not None
    first = [_finding(reader, sequence) for sequence in range(1, 1_000_001, 10_000)]
    while journals.look_ahead():
        pass
    found = [_finding(reader, random.Random(seed).randrange(1, 1_000_001)) for seed in range(1000)]
    yield _milliseconds(f"{what}, find an event, median", found, "< 1 ms")
    yield _milliseconds(f"{what}, find an event, slowest of 1000", [max(found)], "< 1 ms")
    yield _milliseconds(f"{what}, find an event, slowest of all before", [max(first)], "")
    journals.close()


def _milliseconds(what: str, seconds: list[float], goal: str) -> Result:
    return Result(what, "absolute", "ms", statistics.median(seconds) * 1e3, None, goal)


def _opening(path: Path) -> float:
    """Open it to write and to read, as a worker and `link` do."""
    begin = time.perf_counter()
    Journal(path, 1 << 30).close()
    journals = Journals(path.parent)
    journals.refresh()
    elapsed = time.perf_counter() - begin
    journals.close()
    return elapsed


def _finding(reader: OpenJournal, sequence: int) -> float:
    begin = time.perf_counter()
    ((first, _, data),) = reader.read(sequence - 1, 1)
    event = next(events(decode_block(data), first, reader.id, "device", "pipeline", sequence - first))
    assert event.sequence == sequence
    return time.perf_counter() - begin
