"""A pipeline on recorded files, in this process, through the runtime that devices run.

Nothing in the result depends on a clock or on how the rows are cut: times are the recordings' or count from 0
by the inputs' rates, rows and events are numbered from the first, so the same files give the same bytes.
"""

from __future__ import annotations

import heapq
import math
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from edgeflow_agent.core.batch import Batch, Keys, numbered
from edgeflow_agent.inputs.decode.base import Samples, chosen
from edgeflow_agent.inputs.recording import Recording, columns_of, open_rows
from edgeflow_agent.models.load import load_model
from edgeflow_agent.operators.load import operators
from edgeflow_agent.outputs.event import EventOutput
from edgeflow_agent.runtime.plan import Plan, compile_plan
from edgeflow_agent.runtime.run import Runtime
from edgeflow_proto.event import Clock, Event, event_id, events
from edgeflow_proto.pipeline.graph import Graph, InputNode
from edgeflow_proto.pipeline.kinds.base import Intake
from edgeflow_proto.pipeline.kinds.inputs import File

BLOCK_ROWS = 1024  # of the fastest input in one turn
DEVICE, JOURNAL = "local", "run"
CLOCK = Clock("run", 0, "unsynchronised")
UNSTATED_HZ = 1.0  # of an input that states no rate
MAX_REMARKS = 10  # on rows of a recording that cannot be used; all of them are counted


@dataclass(slots=True)
class Step:
    """What a step was given and how long its calls took, in nanoseconds."""

    rows: int = 0
    dropped: int = 0
    calls: array[int] = field(default_factory=lambda: array("q"))

    def quantile_us(self, share: float) -> float:
        """Return how many microseconds a call took at most in that share of the calls."""
        return float(np.quantile(np.asarray(self.calls), share, method="higher")) / 1e3 if self.calls else 0.0


class Tally:
    """Counts what the steps do (port `edgeflow_agent.runtime.run.Observer`)."""

    def __init__(self, steps: Sequence[str]) -> None:
        self.steps = {name: Step() for name in steps}
        self.errors: dict[str, Exception] = {}  # a step's first

    def ran(self, step: str, rows: int, ns: int) -> None:
        """Note a call."""
        self.steps[step].rows += rows
        self.steps[step].calls.append(ns)

    def failed(self, step: str, error: Exception, rows: Batch) -> None:
        """Note rows that a failing step dropped."""
        self.steps[step].dropped += len(rows)
        self.errors.setdefault(step, error)


@dataclass(slots=True)
class Spent:
    """Where the time of a run went, in nanoseconds. `pushing` has that of the steps in it."""

    reading: int = 0
    pushing: int = 0
    telling: int = 0  # making events of rows


class Part(NamedTuple):
    """Rows of one input and of one turn. Inputs take turns, so that rows come in the order of time."""

    turn: int
    input: str
    batch: Batch


class Run:
    """One run of a pipeline over recordings; its counts are there to be read at any time."""

    def __init__(self, graph: Graph, folder: Path, digest: str, models: dict[str, str]) -> None:
        """Set the pipeline to work; raises PlanError. `digest` names it, `models` its models by step."""
        kinds = {node.kind for node in graph.steps.values()}
        self.graph = graph
        self.tally = Tally([*graph.steps])
        self.rows = dict.fromkeys(graph.inputs, 0)
        self.outputs = dict.fromkeys(graph.outputs, 0)  # rows that reached each
        self.rejected: dict[str, Counter[str]] = {}  # input → lines or rows left out, by reason
        self.spent = Spent()
        self.remarks: list[str] = []  # what is wrong with lines or rows, by their place
        self._models = models
        self._keys: dict[str, dict[str, int]] = {name: {} for name in graph.inputs}  # names → numbers
        plan = compile_plan(graph, folder, operators(kinds), load_model)
        self.notices = [f"steps.{step}: {what}" for step, op in plan.operators.items() for what in op.notices]
        self._runtime = Runtime(plan, self.tally, time.perf_counter_ns)
        nodes = [node for node in graph.outputs.values() if not node.options.effect]
        self._events = {node.name: EventOutput(graph, node, digest, models) for node in nodes}
        self._count = 0
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
            found = [event for part in parts for event in self._push(part, start)]
            yield from self._numbered(chain(found, self._tick(self._newest + 1)))

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
            first += len(batch)
            turns = batch.t // turn_ns
            ends = np.flatnonzero(np.diff(turns, append=-1)) + 1
            for begin, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
                yield Part(int(turns[begin]), node.name, batch.take(slice(begin, end)))

    def _remark(self, reason: str, where: str, count: int) -> None:
        if len(self.remarks) < MAX_REMARKS:
            self.remarks.append(f"{where} ({reason})")

    def _push(self, part: Part, start: float) -> Iterator[Event]:
        """Run rows when they are due; `start` is when the first was, minus infinity where nothing waits."""
        self._began.setdefault(part.input, int(part.batch.t[0]))
        passed = float(part.batch.t[-1] - self._began[part.input]) * 1e-9
        time.sleep(max(0.0, start + passed - time.monotonic()))
        if part.input in self._runtime.plan.arrival:
            self._newest = max(self._newest, int(part.batch.t[-1]))
        self.rows[part.input] += len(part.batch)
        begin = time.perf_counter_ns()
        results = self._runtime.push(part.input, part.batch)
        self.spent.pushing += time.perf_counter_ns() - begin
        yield from self._given(results)

    def _tick(self, t: int) -> Iterator[Event]:
        """Let time pass, for steps that wait for it: all rows of this turn have been pushed."""
        if self._runtime.plan.ticks:
            begin = time.perf_counter_ns()
            results = self._runtime.tick(t)
            self.spent.pushing += time.perf_counter_ns() - begin
            yield from self._given(results)

    def _given(self, results: list[tuple[str, Batch]]) -> list[Event]:
        begin = time.perf_counter_ns()
        made: list[Event] = []
        for output, rows in results:
            self.outputs[output] += len(rows)
            if output in self._events:
                for block in self._events[output].blocks([rows], self._key_name(output), CLOCK, 0):
                    made += events(block, 1, JOURNAL, DEVICE, self.graph.name)
        self.spent.telling += time.perf_counter_ns() - begin
        return made

    def _key_name(self, output: str) -> Callable[[int], str]:
        """Return what names the keys of an output's rows: its first input's samples, where they carry any."""
        flow = self.graph.flows[self.graph.outputs[output].source]
        names = [*self._keys[flow.inputs[0]]]
        return lambda key: names[key] if names else ""

    def _numbered(self, found: Iterator[Event]) -> Iterator[Event]:
        """Number events by time; at one time, outputs come in the order of the graph."""
        for event in sorted(found, key=lambda event: event.t):
            self._count += 1
            identity = event_id(JOURNAL, self._count)
            yield msgspec.structs.replace(event, id=identity, sequence=self._count)

    # what was done

    @property
    def plan(self) -> Plan:
        """The steps at work."""
        return self._runtime.plan

    @property
    def event_count(self) -> int:
        """Events so far."""
        return self._count

    @property
    def inferences(self) -> int:
        """Rows that models were given."""
        return sum(self.tally.steps[name].rows for name in self._models)

    @property
    def windows(self) -> int:
        """Windows that were made, as far as something reads them."""
        windows = [node.name for node in self.graph.steps.values() if node.kind == "window"]
        return sum(self._passed(name) for name in windows)

    def _passed(self, edge: str) -> int:
        """Return how many rows an edge carried: what any of its readers was given."""
        reader = next(self.graph.readers(edge))
        return (
            self.tally.steps[reader.name].rows
            if reader.name in self.tally.steps
            else self.outputs[reader.name]
        )

    @property
    def effects(self) -> dict[str, int]:
        """Rows that reached outputs which act on the world; nothing was done with them."""
        return {name: count for name, count in self.outputs.items() if name not in self._events}


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
