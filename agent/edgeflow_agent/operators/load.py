"""The implementations of step kinds that are installed."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points

from edgeflow_agent.core.ports import OperatorFactory

GROUP = "edgeflow.steps"


def operators(kinds: Iterable[str]) -> dict[str, OperatorFactory]:
    """Return the implementations of those kinds that are installed; the others are not even imported."""
    points = {point.name: point for point in entry_points(group=GROUP)}
    return {kind: points[kind].load() for kind in set(kinds) & points.keys()}
