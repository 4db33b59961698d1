"""The implementations of step kinds that are installed."""

from __future__ import annotations

from collections.abc import Iterable

from edgeflow_agent.core.ports import OperatorFactory
from edgeflow_proto.installed import points

GROUP = "edgeflow.steps"


def operators(kinds: Iterable[str]) -> dict[str, OperatorFactory]:
    """Return the implementations of those kinds that are installed; the others are not even imported."""
    known = points(GROUP)
    return {kind: known[kind].load() for kind in set(kinds) & known.keys()}
