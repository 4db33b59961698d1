"""From a checked graph to steps at work, in the order in which rows pass them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from edgeflow_agent.core.ports import ModelLoader, Operator, OperatorFactory, StepContext
from edgeflow_proto.pipeline.graph import Graph, StepNode


class PlanError(ValueError):
    """A step cannot be set to work; the message names it and says why."""

    def __init__(self, step: str, what: str) -> None:
        super().__init__(f"steps.{step}: {what}")
        self.step = step
        self.what = what


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step at work: the edges it reads, with the inputs behind each, and the edge behind each port.

    `stops` says that the pipeline ends where it raises; `source` is the first edge it reads, of `several` or
    alone.
    """

    name: str
    operator: Operator
    sources: dict[str, tuple[str, ...]]
    edges: dict[str, str]
    stops: bool = False
    source: str = field(init=False)
    several: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", next(iter(self.sources)))
        object.__setattr__(self, "several", len(self.sources) > 1)


@dataclass(frozen=True)
class Plan:
    """What rows of each input pass: steps, each after what it reads, then outputs as ``(name, edge)``.

    `bridged` are the inputs whose gaps are passed over, `arrival` those whose time is the device's own.
    """

    steps: dict[str, tuple[PlannedStep, ...]]
    outputs: dict[str, tuple[tuple[str, str], ...]]
    bridged: frozenset[str] = frozenset()
    arrival: frozenset[str] = frozenset()
    all_steps: tuple[PlannedStep, ...] = field(default=())
    all_outputs: tuple[tuple[str, str], ...] = field(default=())

    @cached_property
    def operators(self) -> dict[str, Operator]:
        """Every step's operator, by the step's name."""
        return {step.name: step.operator for steps in self.steps.values() for step in steps}

    @cached_property
    def ticks(self) -> bool:
        """Whether time alone makes any step give rows."""
        return any(operator.ticks for operator in self.operators.values())

    @cached_property
    def waits(self) -> dict[str, tuple[Operator, ...]]:
        """The steps that read an input, of each that nothing else reads."""
        return {name: tuple(step.operator for step in steps if step.source == name)
                for name, steps in self.steps.items()
                if not any(edge == name for _, edge in self.outputs[name])
                and not any(name in step.sources and len(step.sources) > 1 for step in steps)}  # fmt: skip

    @cached_property
    def stops(self) -> bool:
        """Whether the pipeline ends where one of its steps raises."""
        return any(step.stops for step in self.all_steps)

    @cached_property
    def meets(self) -> bool:
        """Whether any step has to know how far its sources have come."""
        return any(len(step.sources) > 1 for steps in self.steps.values() for step in steps)


def compile_plan(
    graph: Graph, folder: Path, operators: Mapping[str, OperatorFactory], load_model: ModelLoader
) -> Plan:
    """Set every step of a graph to work; raises PlanError.

    `folder` is that of the bundle, `operators` the implementations by kind. Models are loaded and the
    author's modules imported here, so whatever is wrong with them shows before the first row.
    """
    steps = tuple(_set_up(graph, node, folder, operators, load_model) for node in graph.steps.values())
    outputs = tuple((node.name, node.source) for node in graph.outputs.values())
    return Plan(
        {name: tuple(step for step in steps if _reads(step, name)) for name in graph.inputs},
        {name: tuple(out for out in outputs if name in graph.flows[out[1]].inputs) for name in graph.inputs},
        frozenset(name for name, node in graph.inputs.items() if node.intake.gaps == "bridge"),
        frozenset(name for name in graph.inputs if graph.flows[name].domain == "arrival"),
        steps,
        outputs,
    )


def _reads(step: PlannedStep, name: str) -> bool:
    return any(name in inputs for inputs in step.sources.values())


def _set_up(
    graph: Graph,
    node: StepNode,
    folder: Path,
    operators: Mapping[str, OperatorFactory],
    load_model: ModelLoader,
) -> PlannedStep:
    make = operators.get(node.kind)
    if make is None:
        raise PlanError(node.name, f"kind '{node.kind}' is not installed here")
    edges = {port: f"{node.name}.{port}" if port else node.name for port in node.options.ports or ("",)}
    flows = {port: graph.flows[edge] for port, edge in edges.items()}
    upstreams = {label: graph.flows[edge] for label, edge in node.sources.items()}
    context = StepContext(node.name, upstreams, flows, folder, load_model)
    try:
        operator = make(node.options, context)
    except ValueError as error:
        raise PlanError(node.name, str(error)) from error
    sources = {edge: graph.flows[edge].inputs for edge in node.sources.values()}
    return PlannedStep(node.name, operator, sources, edges, node.handling.on_error == "stop")
