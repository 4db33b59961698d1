"""A pipeline on recorded files, in this process, through the runtime that devices run.

Nothing in the result depends on a clock or on how the rows are cut: times are the recordings' or count from 0
by the inputs' rates, rows and events are numbered from the first, so the same files give the same bytes.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgeflow_agent.core.batch import Batch, Keys, numbered
from edgeflow_agent.inputs.decode.base import Samples, chosen
from edgeflow_agent.inputs.recording import Recording, columns_of, open_rows
from edgeflow_proto.event import Event
from edgeflow_proto.pipeline.graph import Graph, InputNode
from edgeflow_proto.pipeline.kinds.base import Intake
from edgeflow_proto.pipeline.kinds.inputs import File
from edgeflow_tools.engine import Engine

BLOCK_ROWS = 1024  # of the fastest input in one turn
UNSTATED_HZ = 1.0  # of an input that states no rate
MAX_REMARKS = 10  # on rows of a recording that cannot be used; all of them are counted


class Part(NamedTuple):
    """Rows of one input and of one turn. Inputs take turns, so that rows come in the order of time."""

    turn: int
    input: str
    batch: Batch


class Run(Engine):
    """A run over recordings."""

    def __init__(self, graph: Graph, folder: Path, digest: str, models: dict[str, str]) -> None:
        """Set the pipeline to work, as its engine."""
        super().__init__(graph, folder, digest, models)
        self._keys: dict[str, dict[str, int]] = {name: {} for name in graph.inputs}  # names → numbers
        self._newest = 0  # time of a row of the inputs whose times are the device's
        self._began: dict[str, int] = {}  # the first time of each input

    def events(self, recordings: Mapping[str, Path], *, paced: bool = False) -> Iterator[Event]:
        """Yield the events of recordings by input; `paced` rows come at their rate, else as fast as it goes.

        Raises RecordingError or OSError when a recording cannot be read.
        """
        inputs = [(self.graph.inputs[name], path) for name, path in recordings.items()]
        fastest = max(_rate(node) for node, _ in inputs)
        rows = max(1, min(BLOCK_ROWS, int(fastest / 10))) if paced else BLOCK_ROWS
        turn_ns = round(rows * 1e9 / fastest)
        streams = [self._read(self._stream(node, path, turn_ns)) for node, path in inputs]
        start = time.monotonic() if paced else -math.inf
        for _, parts in groupby(heapq.merge(*streams, key=_turn), key=_turn):
            found = [event for part in parts for event in self._paced(part, start)]
            yield from self.numbered([*found, *self.tick(self._newest + 1)])

    def _read(self, stream: Iterator[Part]) -> Iterator[Part]:
        """Yield what a stream does, and add up how long that takes."""
        while True:
            begin = time.perf_counter_ns()
            part = next(stream, None)
            self.spent.reading += time.perf_counter_ns() - begin
            if part is None:
                return
            yield part

    def _stream(self, node: InputNode, path: Path, turn_ns: int) -> Iterator[Part]:
        """Yield the rows of a recording, cut where a turn ends."""
        intake = node.intake.recorded(columns_of(path))
        recording = open_rows(path, intake, self._remark)
        self.rejected[node.name] = recording.rejected
        first, keys = 0, self._keys[node.name]
        for samples in _on_time(recording, intake):
            if not len(samples.values):
                continue
            batch = _timed(samples, first, node, keys)
            self.key_names[node.name] |= {number: key for key, number in keys.items()}
            first += len(batch)
            turns = batch.t // turn_ns
            ends = np.flatnonzero(np.diff(turns, append=-1)) + 1
            for begin, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
                yield Part(int(turns[begin]), node.name, batch.take(slice(begin, end)))

    def _remark(self, reason: str, where: str, count: int) -> None:
        if len(self.remarks) < MAX_REMARKS:
            self.remarks.append(f"{where} ({reason})")

    def _paced(self, part: Part, start: float) -> list[Event]:
        """Run rows when they are due; `start` is when the first was, minus infinity where nothing waits."""
        self._began.setdefault(part.input, int(part.batch.t[0]))
        passed = float(part.batch.t[-1] - self._began[part.input]) * 1e-9
        time.sleep(max(0.0, start + passed - time.monotonic()))
        if part.input in self.plan.arrival:
            self._newest = max(self._newest, int(part.batch.t[-1]))
        return self.push(part.input, part.batch)


def recordings_of(graph: Graph, folder: Path) -> dict[str, Path]:
    """Return the recordings that a pipeline in `folder` names itself, by input."""
    nodes = graph.inputs.items()
    return {name: folder / node.options.path for name, node in nodes if isinstance(node.options, File)}


def _turn(part: Part) -> int:
    return part.turn


def _rate(node: InputNode) -> float:
    return node.intake.rate or UNSTATED_HZ


def _on_time(recording: Recording, intake: Intake) -> Iterator[Samples]:
    """Yield samples without those that a device would drop as late, which are counted."""
    newest = 0
    for samples in recording:
        times = samples.times
        if times is None or intake.late == "keep":
            yield samples
            continue
        before = np.maximum.accumulate(np.concatenate([[newest], times[:-1]]))
        newest = max(newest, int(times.max()))
        late = times < before
        if late.any():
            recording.reject("late", "samples older than those before them", int(late.sum()))
        yield chosen(samples, ~late)


def _timed(samples: Samples, first: int, node: InputNode, keys: dict[str, int]) -> Batch:
    """Return samples with their own times or `rate` apart, their own keys or none; no time goes back."""
    count = len(samples.values)
    t = samples.times
    if t is None:
        t = np.round(np.arange(first, first + count) * (1e9 / _rate(node))).astype(np.int64)
    key = _key_numbers(samples, keys)
    return numbered(samples.values, np.maximum.accumulate(t), key, first, node.intake.columns)


def _key_numbers(samples: Samples, keys: dict[str, int]) -> Keys:
    if samples.keys is None:
        return np.zeros(len(samples.values), np.uint32)
    return np.array([keys.setdefault(name, len(keys)) for name in samples.keys], np.uint32)
