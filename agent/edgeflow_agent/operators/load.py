"""The step kinds that are installed here, the built-in ones and others'."""

from __future__ import annotations

from importlib.metadata import entry_points

from edgeflow_agent.core.ports import OperatorFactory

GROUP = "edgeflow.steps"


def operators(kinds: set[str]) -> dict[str, OperatorFactory]:
    """Return the implementations of `kinds`; one that is not installed is absent. Others are not loaded."""
    return {point.name: point.load() for point in entry_points(group=GROUP) if point.name in kinds}
