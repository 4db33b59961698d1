"""Journal appends per second against bare LMDB with blocks of the same size; both sync at each commit."""

from __future__ import annotations

import shutil
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import lmdb

from benchmarks.common import Result, in_turns
from edgeflow_agent.store.journal import Journal
from edgeflow_proto.event import Block, Clock, Column

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
    """Yield one result per block size."""
    folder = Path(tempfile.mkdtemp(prefix="edgeflow-bench-"))
    try:
        for count in SIZES:
            ours, bare = in_turns(
                lambda n=count: _ours(folder, n), lambda n=count: _bare(folder, n), rounds=5
            )
            against = "bare LMDB, same bytes, synced"
            yield Result(f"journal, events/s, blocks of {count}", against, "events/s", ours, bare, "≥ 0.7×")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
