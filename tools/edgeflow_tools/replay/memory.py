"""What the steps of a candidate remember, beside a pipeline whose memory was recorded.

A step may take up what another remembered if it is the same step: of the same name, kind, options and code,
that reads the same of steps and inputs which are the same. Then it would remember just that, had it been
there. Any other begins without memory, and what comes of it says nothing until its own has filled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edgeflow_proto.pipeline.graph import Graph, StepNode
from edgeflow_proto.pipeline.kinds.base import StepKind
from edgeflow_proto.pipeline.kinds.steps import detect, routing, shape, signal, values
from edgeflow_proto.pipeline.kinds.steps.python import Python
from edgeflow_tools.engine import Engine

_HALVES = 20  # after so many half-lives less than a millionth of what was before is left
_SETTLING_NS = 10**9  # rows that are brought together wait no longer for each other


class Extent(NamedTuple):
    """How far back a step remembers: rows of a key it was given, and time.

    One that is `latched` remembers what it passed on last, however long ago; until it passes something on
    again. Infinitely many rows: what it remembers never fades.
    """

    rows: float = 0
    ns: int = 0
    latched: bool = False


_ENDLESS = Extent(math.inf)  # the author's own, models that carry their state, filters
_EXTENTS: dict[type[StepKind], Callable[[Any, float | None], Extent]] = {
    shape.Window: lambda options, rate: Extent(options.rows(rate)[0]),
    shape.Batch: lambda options, _: Extent(options.size),
    shape.Resample: lambda options, _: Extent(ns=2 * options.period_ns + options.max_gap_ns),
    shape.Join: lambda options, _: Extent(ns=int(options.tolerance) + _SETTLING_NS),
    shape.Merge: lambda *_: Extent(ns=_SETTLING_NS),
    detect.ZScore: lambda options, _: Extent(options.size + options.hop),
    detect.Threshold: lambda options, _: Extent(options.hold.rows or 0, options.hold.ns or 0, latched=True),
    detect.Silence: lambda options, _: Extent(ns=int(options.after)),
    values.Diff: lambda *_: Extent(1),
    values.Fill: lambda *_: Extent(1),
    routing.Change: lambda *_: Extent(1),
    routing.Deadband: lambda *_: Extent(latched=True),
    routing.Throttle: lambda options, _: Extent(ns=int(options.per)),
    routing.Dedupe: lambda options, _: Extent(ns=int(options.within)),
    signal.Ewma: lambda options, _: _fading(options),
}


def _fading(options: signal.Ewma) -> Extent:
    half = options.half_life
    if half is not None:
        return Extent(_HALVES * (half.rows or 0), _HALVES * (half.ns or 0))
    keep = 1 - (options.alpha or 0)
    return Extent(_HALVES * math.log(0.5) / math.log(keep) if keep > 0 else 1)


def extents(graph: Graph, steps: Iterable[str]) -> dict[str, Extent]:
    """Return how far back steps that remember anything do."""
    found = {}
    for name in steps:
        node = graph.steps[name]
        rate = graph.flows[next(iter(node.sources.values()))].rate
        known = _EXTENTS.get(type(node.options))
        found[name] = _ENDLESS if known is None else known(node.options, rate)
    return found


class Memory:
    """Which outputs of a candidate say what they would, had it been there before."""

    def __init__(self, candidate: Engine, own: Engine) -> None:
        self._engine = candidate
        self.fits = frozenset(fitting(candidate, own))
        operators = candidate.runtime.plan.operators
        self._cannot = [step for step in operators if step not in self.fits]
        remember = [step for step in self._cannot if not operators[step].stateless]
        self._extents = extents(candidate.graph, remember)
        self.without = tuple(remember)  # the steps that begin without memory
        self._cold: dict[str, tuple[int, int] | None] = {}  # rows and age since which each step fills its own
        self._unsure: dict[str, bool] = {}  # by output; whether it is so for good, or for the next event
        self._passed: set[tuple[str, str, int]] = set()

    def begin(self, age: int) -> None:
        """Of what was remembered, what fits has been taken up."""
        self._cold = dict.fromkeys(self._cannot)
        self._passed.clear()
        self.turn(age)

    def turn(self, age: int) -> None:
        """Look which steps have filled their memory, each once those that it reads have."""
        graph = self._engine.graph
        for step in [*self._cold]:
            if not self._cold.keys() & _read(graph, graph.steps[step]) and self._filled(step, age):
                del self._cold[step]
        latched = {step for step, extent in self._extents.items() if extent.latched}
        behind = {name: _behind(graph, node.source) for name, node in graph.outputs.items()}
        self._unsure = {
            name: bool(self._cold.keys() & steps)
            for name, steps in behind.items() if (self._cold.keys() | latched) & steps
        }  # fmt: skip

    def _filled(self, step: str, age: int) -> bool:
        """Whether a step has been given all that it would remember, since those before it have."""
        if step not in self._extents:
            return True
        engine, needed = self._engine, self._extents[step]
        rows = engine.tally.steps[step].rows
        begun = self._cold[step] = self._cold[step] or (rows, age)
        keys = max(1, *map(len, engine.key_names.values()))
        return rows - begun[0] >= needed.rows * keys and age - begun[1] >= needed.ns

    def sure(self, output: str, subject: str, side: int) -> bool:
        """Say whether an event of an output, and one of the other side, can be held against each other."""
        if output not in self._unsure:
            return True
        if self._unsure[output]:
            return False
        known = (output, subject, side) in self._passed
        self._passed.add((output, subject, side))
        return known


def fitting(candidate: Engine, own: Engine) -> list[str]:
    """Return the steps of a candidate that remember what the steps of a pipeline do."""
    code = _code(own.folder).items() <= _code(candidate.folder).items()
    found: list[str] = []
    for name, node in candidate.graph.steps.items():
        same = own.graph.steps.get(name) == node and candidate.models.get(name) == own.models.get(name)
        if same and (code or not isinstance(node.options, Python)) and _fed(node, candidate, own, found):
            found.append(name)
    return found


def _fed(node: StepNode, candidate: Engine, own: Engine, fits: list[str]) -> bool:
    """Whether all that a step reads is the same."""
    for edge in node.sources.values():
        step = edge.partition(".")[0]
        if step not in fits and not _same_input(edge, candidate.graph, own.graph):
            return False
    return True


def _same_input(name: str, one: Graph, other: Graph) -> bool:
    if name not in one.inputs or name not in other.inputs:
        return False
    mine, theirs = (
        msgspec.structs.replace(graph.inputs[name].intake, record="off", buffer=None)
        for graph in (one, other)
    )
    return mine == theirs


def _code(folder: Path) -> dict[str, bytes]:
    """Return the author's Python by its place: a function may use all that is beside it."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*.py"))}


def _read(graph: Graph, node: StepNode) -> set[str]:
    """Return the steps that a step reads."""
    return {step for edge in node.sources.values() if (step := edge.partition(".")[0]) in graph.steps}


def _behind(graph: Graph, edge: str) -> set[str]:
    """Return all steps that an edge comes from."""
    found, todo = set[str](), [edge.partition(".")[0]]
    while todo:
        step = todo.pop()
        if step in graph.steps and step not in found:
            found.add(step)
            todo += _read(graph, graph.steps[step])
    return found
