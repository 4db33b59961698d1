"""What a pipeline is like before it has seen a row: the form and rate of each edge, and where its rows lie.

Forms and rates come from the check. Where rows lie is found by a trial with made-up rows through the steps at
work: whether what a step gives is a view of what it read, or takes memory of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec
import numpy as np

from edgeflow_agent.core.batch import Batch, Values, numbered
from edgeflow_agent.core.errors import reason
from edgeflow_agent.core.layout import RingSpec
from edgeflow_agent.runtime.plan import Plan, PlannedStep
from edgeflow_agent.runtime.run import Runtime
from edgeflow_proto.pipeline.flow import ITEM_BYTES
from edgeflow_proto.pipeline.graph import Graph, InputNode

Memory = Literal["ring", "taken", "view", "kept", "new"]
COPIES: dict[Memory, int] = {"ring": 0, "taken": 1, "view": 0, "kept": 1, "new": 1}
TRIAL_BYTES = 1 << 20  # of one call
TRIAL_CALLS, TRIAL_S = 64, 3.0  # at most, until every edge has had rows


class Edge(msgspec.Struct, frozen=True):
    """What runs along an edge.

    `rate` is rows per second, of each key where there is one. `memory`: ``ring`` as they lie in the input's
    ring, ``taken`` out of it, as is done where a step remembers rows; ``view`` of what the step reads,
    ``kept`` once by the step and overlapping, ``new`` for each row; ``None`` where the trial brought no rows.
    `copies` is how often a value is written for it.
    """

    name: str
    kind: str
    reads: tuple[str, ...]
    read_by: tuple[str, ...]
    shape: tuple[int, ...] | None
    dtype: str | None
    columns: tuple[str, ...] | None
    rate: float | None
    key: str | None
    bytes_per_second: float | None
    memory: Memory | None
    copies: int | None


class Ring(msgspec.Struct, frozen=True):
    """The memory of an input: rows it holds, seconds of them where a rate is stated, and bytes in all."""

    rows: int
    seconds: float | None
    bytes: int


class Explained(msgspec.Struct, frozen=True):
    """A pipeline explained; `raised` is what steps say of made-up rows."""

    pipeline: str
    rings: dict[str, Ring]
    edges: list[Edge]
    outputs: dict[str, dict[str, str]]
    raised: dict[str, str]


def explained(graph: Graph, plan: Plan) -> Explained:
    """Explain a pipeline whose steps are at work; they are called with made-up rows."""
    trial = Trial(graph, plan)
    trial.run()
    return Explained(
        graph.name,
        {name: _ring(graph, node) for name, node in graph.inputs.items()},
        [_edge(graph, name, trial.memory.get(name)) for name in graph.flows],
        {node.name: {"kind": node.kind, "from": node.source} for node in graph.outputs.values()},
        trial.raised,
    )


def _ring(graph: Graph, node: InputNode) -> Ring:
    intake = node.intake
    spec = RingSpec(
        graph.name, node.name, intake.row_shape, intake.dtype, graph.capacity(node.name), 0,
        intake.max_keys if intake.key else 1,
    )  # fmt: skip
    return Ring(spec.capacity, spec.capacity / intake.rate if intake.rate else None, spec.size)


def _edge(graph: Graph, name: str, memory: Memory | None) -> Edge:
    flow = graph.flows[name]
    base = name.partition(".")[0]
    step = graph.steps.get(base)
    known = flow.size is not None and flow.dtype is not None and flow.rate is not None
    speed = (flow.size or 0) * ITEM_BYTES[flow.dtype or "bool"] * (flow.rate or 0.0) if known else None
    return Edge(
        name=name, kind=step.kind if step else graph.inputs[base].kind,
        reads=tuple(step.sources.values()) if step else (),
        read_by=tuple(node.name for node in graph.readers(name)),
        shape=flow.shape, dtype=flow.dtype, columns=flow.columns,
        rate=None if flow.rate is None else float(flow.rate), key=flow.key,
        bytes_per_second=speed, memory=memory, copies=None if memory is None else COPIES[memory],
    )  # fmt: skip


class Trial:
    """Made-up rows through a plan; `memory` is what is seen of each edge (port Observer, and Tap)."""

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self._graph = graph
        self._plan = plan
        self._runtime = Runtime(plan, self)
        self._runtime.tap = self._look
        self.memory: dict[str, Memory] = {}
        self.raised: dict[str, str] = {}

    def run(self) -> None:
        """Push rows into every input in turn, until all edges have had some or it has been tried enough."""
        rng = np.random.default_rng(1)
        remembers = any(not operator.stateless for operator in self._plan.operators.values())
        self.memory = dict.fromkeys(self._graph.inputs, "taken" if remembers else "ring")
        deadline = time.monotonic() + TRIAL_S
        with np.errstate(all="ignore"):
            for turn in range(TRIAL_CALLS):
                if self.memory.keys() == self._graph.flows.keys() or time.monotonic() > deadline:
                    return
                self._turn(turn, rng)

    def _turn(self, turn: int, rng: np.random.Generator) -> None:
        for node in self._graph.inputs.values():
            batch = _made_up(node, turn, rng)
            self._runtime.push(node.name, batch)
            if self._plan.ticks:
                self._runtime.tick(int(batch.t[-1]))

    def ran(self, step: str, rows: int, ns: int) -> None:
        """Nothing is measured."""

    def failed(self, step: str, error: Exception, rows: Batch) -> None:
        """Keep a step's first failure."""
        self.raised.setdefault(step, reason(error))

    def _look(self, edges: Mapping[str, Batch]) -> None:
        for step in self._plan.all_steps:
            for edge in step.edges.values():
                if edge in edges and len(edges[edge]):
                    self.memory[edge] = _memory(step, edges, edges[edge].values)


def _memory(step: PlannedStep, edges: Mapping[str, Batch], values: Values) -> Memory:
    read = [edges[source].values for source in step.sources if source in edges]
    if any(np.may_share_memory(values, other) for other in read):
        return "view"
    return "kept" if _extent(values) < values.nbytes else "new"


def _extent(values: Values) -> int:
    """Return the bytes from the first to the last of an array: fewer than it has where rows overlap."""
    spans = ((size - 1) * abs(stride) for size, stride in zip(values.shape, values.strides, strict=True))
    return int(sum(spans)) + values.itemsize


def _made_up(node: InputNode, turn: int, rng: np.random.Generator) -> Batch:
    """Return rows of noise, of one key, that follow those of the turn before."""
    intake = node.intake
    row_bytes = ITEM_BYTES[intake.dtype] * math.prod(intake.row_shape)
    count = max(2, min(4096, TRIAL_BYTES // row_bytes))
    noise = rng.normal(0, 10, (count, *intake.row_shape))
    values = (np.abs(noise) if intake.dtype.startswith("u") else noise).astype(intake.dtype)
    first = turn * count
    t = ((first + np.arange(count)) * (1e9 / (intake.rate or 1e3))).astype(np.int64)
    return numbered(values, t, np.zeros(count, np.uint32), first, intake.columns)


# for people


def lines(found: Explained) -> Iterator[tuple[str, ...]]:
    """Yield the cells of a table: edge, made by, row, columns, rate, data rate, memory, read by."""
    for edge in found.edges:
        reads = f" of {', '.join(edge.reads)}" if edge.reads else ""
        yield (
            edge.name, edge.kind + reads, _row(edge), _columns(edge), _rate(edge), _speed(edge),
            _WORDS[edge.memory] if edge.memory else "?", ", ".join(edge.read_by),
        )  # fmt: skip


HEADINGS = ("edge", "made by", "row", "columns", "rate", "data", "memory", "read by")
_WORDS: dict[Memory, str] = {
    "ring": "the ring itself", "taken": "copied from the ring", "view": "view",
    "kept": "one copy, overlapping", "new": "new",
}  # fmt: skip
_SHOWN_COLUMNS = 4


def _row(edge: Edge) -> str:
    shape = "?" if edge.shape is None else f"[{', '.join(map(str, edge.shape))}]"
    return f"{shape} {edge.dtype or '?'}"


def _columns(edge: Edge) -> str:
    names = edge.columns or ()
    more = f", … {len(names)}" if len(names) > _SHOWN_COLUMNS else ""
    return ", ".join(names[:_SHOWN_COLUMNS]) + more


def _rate(edge: Edge) -> str:
    if edge.rate is None:
        return "?"
    return f"{edge.rate:,.6g} Hz" + (f" per {edge.key}" if edge.key else "")


def _speed(edge: Edge) -> str:
    if edge.bytes_per_second is None:
        return "?"
    size = edge.bytes_per_second
    return f"{size / 1e6:,.1f} MB/s" if size >= 1e6 else f"{size / 1e3:,.1f} kB/s"
