"""A pipeline at work in this process, through the runtime that devices run, and counts of what it does."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from edgeflow_agent.core.batch import Batch
from edgeflow_agent.models.load import load_model
from edgeflow_agent.operators.load import operators
from edgeflow_agent.outputs.event import EventOutput
from edgeflow_agent.runtime.plan import Plan, compile_plan
from edgeflow_agent.runtime.run import Runtime
from edgeflow_proto.event import Clock, Event, event_id, events
from edgeflow_proto.pipeline.graph import Graph

DEVICE, JOURNAL = "local", "run"
CLOCK = Clock("run", 0, "unsynchronised")


@dataclass(slots=True)
class Step:
    """What a step was given; of each call how many nanoseconds it took, and how many rows it was given."""

    rows: int = 0
    dropped: int = 0
    calls: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))

    def ran(self, rows: int, ns: int) -> None:
        """Note a call."""
        self.rows += rows
        self.calls.append(ns)
        self.sizes.append(rows)

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
        self.steps[step].ran(rows, ns)

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


class Engine:
    """One run of a pipeline; its counts are there to be read at any time."""

    def __init__(self, graph: Graph, folder: Path, digest: str, models: dict[str, str]) -> None:
        """Set the pipeline to work; raises PlanError. `digest` names it, `models` its models by step."""
        kinds = {node.kind for node in graph.steps.values()}
        self.graph, self.folder, self.models = graph, folder, models
        self.tally = Tally([*graph.steps])
        self.rows = dict.fromkeys(graph.inputs, 0)
        self.outputs = dict.fromkeys(graph.outputs, 0)  # rows that reached each
        self.rejected: dict[str, Counter[str]] = {}  # input → lines or rows left out, by reason
        self.spent = Spent()
        self.remarks: list[str] = []  # what is wrong with what it was given
        self.clock = CLOCK  # of the events to come
        self.key_names: dict[str, dict[int, str]] = {name: {} for name in graph.inputs}
        plan = compile_plan(graph, folder, operators(kinds), load_model)
        self.notices = [f"steps.{step}: {what}" for step, op in plan.operators.items() for what in op.notices]
        self.runtime = Runtime(plan, self.tally, time.perf_counter_ns)
        nodes = [node for node in graph.outputs.values() if not node.options.effect]
        self._events = {node.name: EventOutput(graph, node, digest, models) for node in nodes}
        self._count = 0

    def push(self, name: str, batch: Batch) -> list[Event]:
        """Run rows of an input; return the events they make, not numbered yet. Raises StepStoppedError."""
        self.rows[name] += len(batch)
        begin = time.perf_counter_ns()
        results = self.runtime.push(name, batch)
        self.spent.pushing += time.perf_counter_ns() - begin
        return self._given(results)

    def tick(self, t: int) -> list[Event]:
        """Let time pass, for steps that wait for it: all rows before have been pushed."""
        if not self.runtime.plan.ticks:
            return []
        begin = time.perf_counter_ns()
        results = self.runtime.tick(t)
        self.spent.pushing += time.perf_counter_ns() - begin
        return self._given(results)

    def _given(self, results: list[tuple[str, Batch]]) -> list[Event]:
        begin = time.perf_counter_ns()
        made: list[Event] = []
        for output, rows in results:
            self.outputs[output] += len(rows)
            if output in self._events:
                for block in self._events[output].blocks([rows], self._key_name(output), self.clock, 0):
                    made += events(block, 1, JOURNAL, DEVICE, self.graph.name)
        self.spent.telling += time.perf_counter_ns() - begin
        return made

    def _key_name(self, output: str) -> Callable[[int], str]:
        """Return what names the keys of an output's rows: its first input's samples, where they carry any."""
        flow = self.graph.flows[self.graph.outputs[output].source]
        names = self.key_names[flow.inputs[0]]
        return lambda key: names.get(key, "")

    def numbered(self, found: Iterable[Event]) -> Iterator[Event]:
        """Number events by time; at one time, outputs come in the order of the graph."""
        for event in sorted(found, key=lambda event: event.t):
            self._count += 1
            identity = event_id(JOURNAL, self._count)
            yield msgspec.structs.replace(event, id=identity, sequence=self._count)

    # what was done

    @property
    def plan(self) -> Plan:
        """The steps at work."""
        return self.runtime.plan

    @property
    def event_count(self) -> int:
        """Events so far."""
        return self._count

    @property
    def inferences(self) -> int:
        """Rows that models were given."""
        return sum(self.tally.steps[name].rows for name in self.models)

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
