"""The graph of a checked pipeline: what the runtime, the device and the relay work from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.base import Handling, InputKind, Intake, OutputKind, StepKind


class InputNode(msgspec.Struct, frozen=True):
    """An input: its source and how its payloads become rows."""

    name: str
    kind: str
    options: InputKind
    intake: Intake


class StepNode(msgspec.Struct, frozen=True):
    """A step; `sources` are the edges it reads (``window`` or ``alarm.raised``) by what it calls them."""

    name: str
    kind: str
    options: StepKind
    sources: dict[str, str]
    handling: Handling = Handling()


class OutputNode(msgspec.Struct, frozen=True):
    """An output; `source` is the edge it reads."""

    name: str
    kind: str
    options: OutputKind
    source: str


class Graph(msgspec.Struct, frozen=True):
    """A pipeline without mistakes. `steps` stand in an order in which each follows what it reads."""

    name: str
    params: dict[str, Any]
    inputs: dict[str, InputNode]
    steps: dict[str, StepNode]
    outputs: dict[str, OutputNode]
    flows: dict[str, Flow]  # by edge

    def readers(self, edge: str) -> Iterator[StepNode | OutputNode]:
        """Yield the steps and outputs that read an edge."""
        nodes: list[StepNode | OutputNode] = [*self.steps.values(), *self.outputs.values()]
        for node in nodes:
            if edge in (node.sources.values() if isinstance(node, StepNode) else (node.source,)):
                yield node

    def capacity(self, name: str) -> int:
        """Rows the ring of an input holds: `buffer`, else 10 s or 4 windows, whichever is more.

        There is room beside them for the rows before an event that are to be recorded with it.
        """
        intake = self.inputs[name].intake
        rate = intake.rate or 100.0
        before = intake.before(rate)
        if intake.buffer is not None:
            return before + intake.buffer.count(rate)
        steps = (node.options for node in self.readers(name) if isinstance(node, StepNode))
        windows = (options.history(intake.rate) for options in steps)
        keys = intake.max_keys if intake.key else 1
        return before + max(16, round(10 * rate), 4 * max(windows, default=0) * min(keys, 16))

    @property
    def records(self) -> bool:
        """Whether rows of any input are to be recorded."""
        return any(node.intake.record != "off" for node in self.inputs.values())
