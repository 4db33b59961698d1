"""A rehearsal of the author's Python: each step is called with made-up rows before any real one comes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edgeflow_agent.core.batch import Batch
from edgeflow_agent.core.errors import AuthorError
from edgeflow_agent.runtime.plan import Plan, PlannedStep
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.graph import Graph

ROWS = 3
FILLS = (1, 0)


class Findings(NamedTuple):
    """By step what cannot work, and what may only have been a matter of made-up rows."""

    wrong: dict[str, str]
    raised: dict[str, str]


def rehearse(graph: Graph, plan: Plan) -> Findings:
    """Call every Python step whose rows have a known shape with rows of ones, then of zeros.

    A result that is not what the step declares is wrong. What the author's code raises itself may be due to
    the values, so it counts only where ones and zeros both raise.
    """
    runs = [_run(graph, plan, fill) for fill in FILLS]
    wrong = {name: str(error) for run in runs for name, error in run.items() if not _own(error)}
    raised = {name: str(error) for name, error in runs[0].items() if all(_own(run.get(name)) for run in runs)}
    return Findings(wrong, raised)


def _own(error: Exception | None) -> bool:
    """Say whether the author's code raised it."""
    return isinstance(error, AuthorError)


def _run(graph: Graph, plan: Plan, fill: int) -> dict[str, Exception]:
    """Return what each Python step raises on rows of one value, or on what the one before makes of them."""
    edges: dict[str, Batch] = {}
    errors: dict[str, Exception] = {}
    for step in plan.all_steps:
        if graph.steps[step.name].kind == "python":
            try:
                with np.errstate(all="ignore"):
                    _call(step, graph, edges, fill)
            except ValueError as error:
                errors[step.name] = error
    return errors


def _call(step: PlannedStep, graph: Graph, edges: dict[str, Batch], fill: int) -> None:
    (source,) = step.sources
    flow = graph.flows[source]
    if source not in edges and flow.shape is not None:
        edges[source] = _made_up(flow, flow.shape, fill)
    if source in edges:
        for port, rows in step.operator(edges[source]).items():
            edges[step.edges[port]] = rows


def _made_up(flow: Flow, shape: tuple[int, ...], fill: int) -> Batch:
    values = np.full((ROWS, *shape), fill, flow.dtype or "float32")
    t = np.arange(ROWS, dtype=np.int64)
    span = np.zeros((ROWS, 2 * len(flow.inputs)), np.int64)
    return Batch(values, t, np.zeros(ROWS, np.uint32), span, flow.columns)
