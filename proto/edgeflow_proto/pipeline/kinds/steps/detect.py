"""Step kinds that tell when something is so."""

from __future__ import annotations

import math
from typing import ClassVar

import msgspec

from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.base import (
    Context,
    StepKind,
    need_axes,
    need_columns,
)
from edgeflow_proto.pipeline.problem import Mistake, near_miss
from edgeflow_proto.pipeline.units import Extent


class Threshold(StepKind, frozen=True, kw_only=True):
    """A level with hysteresis and minimum duration, per key.

    Raised once the column has been beyond `above` (or below `below`) for `for`; cleared once it has been
    back past `clear` (default: the level itself) for one row. NaN changes nothing. Ports: `raised` and
    `cleared` give the row at which it happened, `state` gives column ``state`` (0 or 1) for each row.
    """

    ports: ClassVar[tuple[str, ...]] = ("raised", "cleared", "state")
    above: float | None = None
    below: float | None = None
    clear: float | None = None
    hold: Extent = msgspec.field(name="for", default=Extent(rows=1))
    column: str | None = None

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """Rows as they came at `raised` and `cleared`; one uint8 column at `state`."""
        self._check_levels()
        need_axes(upstream, 1, "needs rows of columns")
        if self.column is None and upstream.columns is not None and len(upstream.columns) != 1:
            raise Mistake("say which column", option="column", hint=near_miss("", upstream.columns))
        need_columns(upstream, (self.column,) if self.column else (), "column")
        passed = msgspec.structs.replace(upstream, rate=None)
        state = upstream.having(shape=(1,), dtype="uint8", columns=("state",), rate=upstream.rate)
        return {"raised": passed, "cleared": passed, "state": state}

    def _check_levels(self) -> None:
        if (self.above is None) == (self.below is None):
            raise Mistake("give either above or below")
        for option, level in (("above", self.above), ("below", self.below), ("clear", self.clear)):
            if level is not None and math.isnan(level):
                raise Mistake("NaN is no level", option=option)
        if self.clear is not None and self.above is not None and self.clear > self.above:
            raise Mistake(f"must not be above {self.above:g}", option="clear")
        if self.clear is not None and self.below is not None and self.clear < self.below:
            raise Mistake(f"must not be below {self.below:g}", option="clear")
