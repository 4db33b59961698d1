"""`route`: each row to the first port whose expression holds."""

from __future__ import annotations

import numpy as np

from edgeflow_agent.core.batch import Batch
from edgeflow_agent.core.ports import Operator, StepContext
from edgeflow_agent.operators.columns import compiled, truth
from edgeflow_proto.pipeline import expression
from edgeflow_proto.pipeline.kinds.steps import routing


class Route(Operator):
    """``(n, columns)`` → every row at one port."""

    def __init__(self, options: routing.Route, context: StepContext) -> None:
        self._tests = {port: compiled(expression.parse(text)) for port, text in options.to.items()}

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return the rows of each port."""
        left = np.ones(len(batch), bool)
        result: dict[str, Batch] = {}
        with np.errstate(all="ignore"):  # 1/0 is inf, as everywhere in this field
            for port, test in self._tests.items():
                here = left & np.broadcast_to(truth(test(batch)), len(batch))
                left &= ~here
                if here.any():
                    result[port] = batch.take(here)
        if left.any():
            result[routing.ELSE] = batch.take(left)
        return result
