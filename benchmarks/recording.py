"""Recording and replay: rows to disk against a plain file, and a recording run again against its rows alone.

A commit is a second of an accelerometer (1 kHz, three float32), as the worker writes it, synced. Run again is
window → statistics → threshold over ten minutes of it: read, decoded, checked, run and told, as `edgeflow
replay` does, against the same steps over the same rows in memory, with nothing read and nothing told.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.common import Result, in_turns
from benchmarks.models import Folder
from edgeflow_agent.core.batch import Batch, numbered
from edgeflow_agent.store import segment
from edgeflow_agent.store.recording import Recording, RecordingReader
from edgeflow_proto.event import ROW_BITS, Clock
from edgeflow_proto.pipeline.check import graph_of
from edgeflow_proto.pipeline.graph import Graph
from edgeflow_proto.rows import Rows
from edgeflow_tools.engine import Engine
from edgeflow_tools.replay.player import Player, Replay

RATE, SECONDS = 1000, 600
ROW_BYTES = 3 * 4 + 8  # values and time
CLOCK = Clock("00000000-0000-0000-0000-000000000000", 0, "synchronised")
COLUMNS = ("x", "y", "z")
PIPELINE = """
edgeflow: 1
name: bench
inputs: {accel: {mqtt: a/b, fields: [x, y, z], rate: 1 kHz, record: all}}
steps:
  window: {from: accel, window: {size: 256, hop: 64}}
  level: {from: window, stats: [rms, max]}
  alarm: {from: level, threshold: {column: x.rms, above: 4}}
outputs: {raised: {from: alarm.raised, event: bench.raised}}
"""


def _values(second: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(second).standard_normal((RATE, 3), np.float32)


def _times(second: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return (np.arange(RATE, dtype=np.int64) + second * RATE) * (10**9 // RATE)


def _rows(second: int) -> Rows:
    first = (1 << ROW_BITS) + second * RATE
    return Rows(
        input="accel", first=first, count=RATE, clock=CLOCK, t=_times(second).tobytes(), shape=(3,),
        dtype="float32", values=_values(second).tobytes(), columns=COLUMNS, digest="d",
        next={"accel": first + RATE}, written_ns=(second + 1) * 10**9,
    )  # fmt: skip


def measure() -> Iterator[Result]:
    """Yield what it costs to record, to keep, and to run again."""
    folder = Path(tempfile.mkdtemp(prefix="edgeflow-bench-"))
    try:
        yield from _writing(folder)
        yield from _again(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _writing(folder: Path) -> Iterator[Result]:
    blocks = [_rows(second) for second in range(100)]
    ours, bare = in_turns(lambda: _recorded(folder, blocks), lambda: _appended(folder, blocks), rounds=5)
    what, against = "recording, rows/s in commits of 1,000", "append and fdatasync, same bytes"
    yield Result(what, against, "rows/s", ours, bare, "")


def _recorded(folder: Path, blocks: list[Rows]) -> float:
    recording = Recording(Path(tempfile.mkdtemp(dir=folder)), 1 << 30)
    begin = time.perf_counter()
    for block in blocks:
        recording.write([block])
    elapsed = time.perf_counter() - begin
    recording.close()
    return len(blocks) * RATE / elapsed


def _appended(folder: Path, blocks: list[Rows]) -> float:
    with tempfile.NamedTemporaryFile(dir=folder, buffering=0) as file:
        begin = time.perf_counter()
        for block in blocks:
            file.write(block.values + block.t)
            os.fdatasync(file.fileno())
        return len(blocks) * RATE / (time.perf_counter() - begin)


def _again(folder: Path) -> Iterator[Result]:
    path = folder / "long"
    recording = Recording(path, 1 << 30)
    for second in range(SECONDS):
        recording.write([_rows(second)])
    recording.close()
    per_row = segment.taken_below(path) / (SECONDS * RATE)
    yield Result("recording, bytes on disk a row", "the row itself", "bytes", per_row, ROW_BYTES, "")
    graph = graph_of(PIPELINE, "bench.yaml", Folder(folder), {})
    values = np.concatenate([_values(second) for second in range(SECONDS)])
    times = np.concatenate([_times(second) for second in range(SECONDS)])
    batches = [
        numbered(values[at : at + RATE], times[at : at + RATE], np.zeros(RATE, np.uint32), at, COLUMNS)
        for at in range(0, len(values), RATE)
    ]
    ours, bare = in_turns(lambda: _replayed(path, graph), lambda: _run(graph, batches), rounds=5)
    yield Result("replay, rows/s", "the same steps over rows in memory", "rows/s", ours, bare, "")


def _replayed(path: Path, graph: Graph) -> float:
    reader = RecordingReader(path)
    replay = Replay([Player(Engine(graph, path, "d", {}), own=True)], "d")
    begin = time.perf_counter()
    for made in replay.events(reader.between(-math.inf, math.inf)):
        msgspec.json.encode([event.to_json() for event in made[0]])
    elapsed = time.perf_counter() - begin
    reader.close()
    assert replay.rows == SECONDS * RATE
    return replay.rows / elapsed


def _run(graph: Graph, batches: list[Batch]) -> float:
    engine = Engine(graph, Path(), "d", {})
    begin = time.perf_counter()
    for batch in batches:
        engine.runtime.push("accel", batch)
    return SECONDS * RATE / (time.perf_counter() - begin)
