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
from edgeflow_proto.pipeline.units import Duration, Extent

MAX_ROWS = 1_000_000


class Threshold(StepKind, frozen=True, kw_only=True):
    """A level with hysteresis and minimum duration, per key.

    Raised once the column has been beyond `above`, or below `below`, or outside the range `outside`, for
    `for`; cleared by the first row back past `clear` (default: the level itself; a range inside `outside`).
    NaN changes nothing. Ports: `raised` and `cleared` give the row at which it happened, `state` gives
    column ``state`` (0 or 1) for each row.
    """

    fixed_ports: ClassVar[tuple[str, ...]] = ("raised", "cleared", "state")
    above: float | None = None
    below: float | None = None
    outside: list[float] | None = None
    clear: float | list[float] | None = None
    hold: Extent = msgspec.field(name="for", default=Extent(rows=1))
    column: str | None = None

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """Rows as they came at `raised` and `cleared`; one uint8 column at `state`."""
        self._check_levels()
        need_one_column(upstream, self.column)
        passed = msgspec.structs.replace(upstream, rate=None)
        state = upstream.having(shape=(1,), dtype="uint8", columns=("state",), rate=upstream.rate)
        return {"raised": passed, "cleared": passed, "state": state}

    @property
    def levels(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The range out of which it is raised, and that in which it is cleared, their ends within."""
        if self.outside is not None:
            low, high = self.outside
            back = self.clear if isinstance(self.clear, list) else [low, high]
            return (low, high), (back[0], back[1])
        level = self.below if self.above is None else self.above
        ends = level or 0.0, self.clear if isinstance(self.clear, float) else level or 0.0
        if self.above is not None:
            return (-math.inf, ends[0]), (-math.inf, ends[1])
        return (ends[0], math.inf), (ends[1], math.inf)

    def _check_levels(self) -> None:
        if [self.above, self.below, self.outside].count(None) != 2:
            raise Mistake("give one of above, below and outside")
        self._check_ranges()
        (low, high), (back, up) = self.levels
        for option, level in (("above", self.above), ("below", self.below), ("clear", back), ("clear", up)):
            if level is not None and math.isnan(level):
                raise Mistake("NaN is no level", option=option)
        if up > high:
            raise Mistake(f"must not be above {high:g}", option="clear")
        if back < low:
            raise Mistake(f"must not be below {low:g}", option="clear")

    def _check_ranges(self) -> None:
        for option, ends in (("outside", self.outside), ("clear", self.clear)):
            if isinstance(ends, list) and not (len(ends) == 2 and ends[0] < ends[1]):
                raise Mistake("is two levels, the lower one first", option=option)
        if self.clear is not None and isinstance(self.clear, list) != (self.outside is not None):
            what = "is a range for outside, and one level for above and below"
            raise Mistake(what, option="clear")


class ZScore(StepKind, frozen=True, kw_only=True):
    """How far a column is from the mean of the rows before it, in their standard deviations, per key.

    A row is scored before it counts itself. The window grows with each row to `size` rows; then it moves on
    by `hop` rows at a time. The first `warm_up` rows score 0. A standard deviation below `floor` counts as
    that. ``tail: true`` gives ``1 - Q(|z|)``, Q being the normal distribution's upper tail: 0.5 for the
    mean, towards 1 for what is rare. One column called as the step, in float64 where rows are, else
    float32. NaN scores NaN and does not count. Source: the windowed Gaussian detector of the Numenta
    Anomaly Benchmark.
    """

    short: ClassVar[str | None] = "size"
    size: int
    hop: int = 1
    column: str | None = None
    tail: bool = False
    warm_up: int = 1
    floor: float = 1e-6

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """One column, one row per row."""
        within = (("hop", self.hop, self.size), ("warm_up", self.warm_up, self.size))
        limits = (("size", self.size, MAX_ROWS), *within)
        for option, value, most in limits:
            if not 1 <= value <= most:
                raise Mistake(f"must be between 1 and {most} rows", option=option)
        if not self.floor > 0:
            raise Mistake("must be above 0", option="floor")
        need_one_column(upstream, self.column)
        dtype = "float64" if upstream.dtype == "float64" else "float32"
        columns = (context.entry,)
        return {"": upstream.having(shape=(1,), dtype=dtype, columns=columns, rate=upstream.rate)}


class Silence(StepKind, frozen=True, kw_only=True):
    """A key that has been quiet for longer than `after`. Ports: `silent` and `back`.

    `silent` gives the key's last row once, at its time plus `after`; `back` gives the row that ends the
    silence. An input without keys that has said nothing since the start is silent too: a row of zeros
    behind which no row stands. Times are those of the device.
    """

    short: ClassVar[str | None] = "after"
    fixed_ports: ClassVar[tuple[str, ...]] = ("silent", "back")
    after: Duration

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """Rows as they came, at both ports."""
        if self.after < 1:
            raise Mistake("must be longer than nothing", option="after")
        if upstream.domain != "arrival":
            raise Mistake("times that come with the payload cannot tell that nothing came", option="from")
        passed = msgspec.structs.replace(upstream, rate=None)
        return {"silent": msgspec.structs.replace(passed, prompt=False), "back": passed}


def need_one_column(upstream: Flow, column: str | None) -> None:
    """Raise Mistake unless it is clear which column of its rows a step looks at."""
    need_axes(upstream, 1, "needs rows of columns")
    if column is None and upstream.columns is not None and len(upstream.columns) != 1:
        raise Mistake("say which column", option="column", hint=near_miss("", upstream.columns))
    need_columns(upstream, (column,) if column else (), "column")
