"""Step kinds that cut rows anew: windows."""

from __future__ import annotations

from typing import ClassVar

from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.base import (
    Context,
    StepKind,
)
from edgeflow_proto.pipeline.problem import Mistake


class Window(StepKind, frozen=True, kw_only=True):
    """Overlapping stretches of rows, per key: every `hop` rows, the last `size` of them.

    One row in is one sample; one row out is ``(size, …)``. Windows do not straddle a gap.
    """

    short: ClassVar[str | None] = "size"
    size: int
    hop: int | None = None

    @property
    def step(self) -> int:
        """Rows between the ends of two windows."""
        return self.hop or self.size

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """Rows of shape ``(size, *row)``."""
        for option, value in (("size", self.size), ("hop", self.step)):
            if not 1 <= value <= 1_000_000:
                raise Mistake("must be between 1 and 1000000 rows", option=option)
        shape = None if upstream.shape is None else (self.size, *upstream.shape)
        rate = None if upstream.rate is None else upstream.rate / self.step
        return {"": upstream.having(shape=shape, dtype=upstream.dtype, columns=upstream.columns, rate=rate)}
