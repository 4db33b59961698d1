"""Models called the short way."""

from __future__ import annotations

from edgeflow_agent.core.batch import Values
from edgeflow_agent.core.ports import Model


def through(model: Model, rows: Values) -> Values:
    """Feed the one input of a model; return its first output."""
    (fed,) = model.signature.inputs
    (result,) = model.run({fed.name: rows}, [model.signature.outputs[0].name])
    return result
