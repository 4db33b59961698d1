"""From a checked graph to steps at work, in the order in which rows pass them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeflow_agent.core.ports import ModelLoader, Operator, OperatorFactory, StepContext
from edgeflow_proto.pipeline.graph import Graph, StepNode


class PlanError(ValueError):
    """A pipeline cannot be set to work; the message names the step and why."""


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step at work: the edge it reads and the edge behind each of its ports."""

    name: str
    operator: Operator
    source: str
    edges: dict[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What rows of each input pass: steps, each after what it reads, then outputs as ``(name, edge)``."""

    steps: dict[str, tuple[PlannedStep, ...]]
    outputs: dict[str, tuple[tuple[str, str], ...]]

    @property
    def operators(self) -> dict[str, Operator]:
        """Every step's operator, by the step's name."""
        return {step.name: step.operator for steps in self.steps.values() for step in steps}


def compile_plan(
    graph: Graph, folder: Path, operators: Mapping[str, OperatorFactory], load_model: ModelLoader
) -> Plan:
    """Set every step of a graph to work; raises PlanError.

    `folder` is that of the bundle, `operators` the implementations by kind. Models are loaded and the
    author's modules imported here, so whatever is wrong with them shows before the first row.
    """
    steps = [_set_up(graph, node, folder, operators, load_model) for node in graph.steps.values()]
    outputs = [(node.name, node.source) for node in graph.outputs.values()]
    return Plan(
        {name: tuple(step for step in steps if _reaches(graph, name, step.source)) for name in graph.inputs},
        {name: tuple(out for out in outputs if _reaches(graph, name, out[1])) for name in graph.inputs},
    )


def _reaches(graph: Graph, name: str, edge: str) -> bool:
    return name in graph.flows[edge].inputs


def _set_up(
    graph: Graph,
    node: StepNode,
    folder: Path,
    operators: Mapping[str, OperatorFactory],
    load_model: ModelLoader,
) -> PlannedStep:
    make = operators.get(node.kind)
    if make is None:
        raise PlanError(f"steps.{node.name}: kind '{node.kind}' is not installed here")
    edges = {port: f"{node.name}.{port}" if port else node.name for port in node.options.ports or ("",)}
    flows = {port: graph.flows[edge] for port, edge in edges.items()}
    context = StepContext(node.name, graph.flows[node.source], flows, folder, load_model)
    try:
        operator = make(node.options, context)
    except ValueError as error:
        raise PlanError(f"steps.{node.name}: {error}") from error
    return PlannedStep(node.name, operator, node.source, edges)
