"""The ring: pushing rows against a bare copy, and waking a reader against a bare eventfd."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.common import Result, in_turns, seconds_per_call
from edgeflow_agent.core import shm
from edgeflow_agent.core.layout import RingSpec
from edgeflow_agent.core.ring import RingWriter

WAKES = 2000
PAUSE_S = 0.0005
READER = """
import os, select, sys, time
kind, count, *fds = sys.argv[1:]
ready, back, memory = map(int, fds)
poller = select.poll()
poller.register(ready, select.POLLIN)
if kind == "ring":
    from edgeflow_agent.core.layout import RingSpec
    from edgeflow_agent.core.ring import RingReader
    reader = RingReader(memory, RingSpec("bench", "rows", (3,), "float32", 4096, 1))
    reader.bind(ready)
    reader.poll()
os.write(back, b"ready---")
seen = 0
while seen < int(count):
    poller.poll()
    if kind == "ring":
        fresh = reader.poll()
        reader.position += fresh
    else:
        fresh = os.eventfd_read(ready)
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    seen += fresh
    os.write(back, now.to_bytes(8, "little"))
"""


def _spec(capacity: int = 4096) -> RingSpec:
    return RingSpec("bench", "rows", (3,), "float32", capacity, 1)


def _pushing(count: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return a call that pushes a block into a ring and one that copies it into an array."""
    spec = _spec(100 * count)
    writer = RingWriter(shm.create("bench", spec.size), spec)
    writer.bind(shm.eventfd())
    rows = np.random.default_rng(1).normal(size=(count, 3)).astype(np.float32)
    t, key = np.zeros(count, np.int64), np.zeros(count, np.uint32)
    length = 100 * count
    arrays = np.zeros((length, 3), np.float32), np.zeros(length, np.int64), np.zeros(length, np.uint32)
    place = 0

    def ours() -> None:
        writer.append(rows, t, key, ordered=True)  # as for a message of samples at a stated rate
        writer.publish()

    def bare() -> None:
        nonlocal place
        for array, part in zip(arrays, (rows, t, key), strict=True):
            array[place : place + count] = part
        place = (place + count) % length

    return ours, bare


def _wakes(kind: str) -> list[float]:
    """Return how long each of many rows took from its announcement to a reader in another process, in µs."""
    spec = _spec()
    memory, ready = shm.create("bench", spec.size), os.eventfd(0)
    there, back = os.pipe()
    command = [sys.executable, "-c", READER, kind, str(WAKES), str(ready), str(back), str(memory)]
    writer = RingWriter(memory, spec)
    if kind == "ring":
        writer.bind(os.dup(ready))
    with subprocess.Popen(command, pass_fds=(ready, back, memory)) as process:
        os.read(there, 8)
        took = [_wake(kind, writer, ready, there) for _ in range(WAKES)]
        process.wait(30)
    writer.close()
    for fd in (memory, ready, there, back):
        os.close(fd)
    return took


def _wake(kind: str, writer: RingWriter, ready: int, there: int) -> float:
    time.sleep(PAUSE_S)
    row, t = np.zeros((1, 3), np.float32), np.zeros(1, np.int64)
    begin = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    if kind == "ring":
        writer.append(row, t)
        writer.publish()
    else:
        os.eventfd_write(ready, 1)
    return (int.from_bytes(os.read(there, 8), "little") - begin) / 1e3


def _quantile(kind: str, share: float) -> float:
    return statistics.quantiles(_wakes(kind), n=100)[round(100 * share) - 1]


def measure() -> Iterator[Result]:
    """Yield the time of pushing a block in µs, and of waking a reader."""
    for count in (100, 1000):
        ours, bare = _pushing(count)
        full, limit = in_turns(
            lambda f=ours: seconds_per_call(f) * 1e6, lambda f=bare: seconds_per_call(f) * 1e6
        )
        yield Result(
            f"ring push, blocks of {count} rows", "numpy slice assignment", "µs", full, limit, "≤ 2×"
        )
    for share in (0.5, 0.99):
        ours, bare = in_turns(
            lambda s=share: _quantile("ring", s), lambda s=share: _quantile("bare", s), rounds=5
        )
        what = f"row written → worker awake, p{share * 100:.0f}"
        yield Result(what, "bare eventfd", "µs", ours, bare, "≤ 2×" if share > 0.5 else "")
