"""Step kinds that let rows pass, or say where they go."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from edgeflow_proto.pipeline import expression
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.base import Context, StepKind, need_axes, need_columns
from edgeflow_proto.pipeline.problem import Mistake, shown
from edgeflow_proto.pipeline.units import Duration

MAX_PORTS = 32
ELSE = "else"


class Deadband(StepKind, frozen=True, kw_only=True):
    """Report by exception: rows that are out of a band around the key's last row that passed.

    The band is `absolute`, or so many `percent` of the last value passed; a row passes anyway once the last
    one was `max_silence` ago, by the rows' times. Of all columns, or those named. The first row of a key
    passes, and so does a change between NaN and a number.
    """

    short: ClassVar[str | None] = "absolute"
    absolute: float | None = None
    percent: float | None = None
    max_silence: Duration | None = None
    columns: list[str] | None = None

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The same rows, fewer of them."""
        if (self.absolute is None) == (self.percent is None):
            raise Mistake("give either absolute or percent")
        for option, band in (("absolute", self.absolute), ("percent", self.percent)):
            if band is not None and not band >= 0:
                raise Mistake("must not be below 0", option=option)
        return {"": _fewer(upstream, self.columns)}


class Change(StepKind, frozen=True, kw_only=True):
    """Rows that differ from the key's row before, in any column or those named. The first one passes."""

    short: ClassVar[str | None] = "columns"
    columns: list[str] | None = None

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The same rows, fewer of them."""
        return {"": _fewer(upstream, self.columns)}


class Throttle(StepKind, frozen=True, kw_only=True):
    """At most so many rows of a key in any stretch of time `per`, by the rows' times; the first ones pass."""

    rows: int = 1
    per: Duration

    short: ClassVar[str | None] = "per"

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The same rows, fewer of them."""
        if not 1 <= self.rows <= 10_000:
            raise Mistake("must be between 1 and 10000", option="rows")
        if self.per < 1:
            raise Mistake("must be longer than nothing", option="per")
        return {"": msgspec.structs.replace(upstream, rate=None)}


class Dedupe(StepKind, frozen=True, kw_only=True):
    """Rows but those equal to one of their key that passed less than `within` ago, by the rows' times.

    Equal in all columns, or those named. Of each key the last `most` rows that passed are remembered.
    """

    short: ClassVar[str | None] = "within"
    within: Duration
    columns: list[str] | None = None
    most: int = 1000

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The same rows, fewer of them."""
        if self.within < 1:
            raise Mistake("must be longer than nothing", option="within")
        if not 1 <= self.most <= 1_000_000:
            raise Mistake("must be between 1 and 1000000", option="most")
        return {"": _fewer(upstream, self.columns)}


class Route(StepKind, frozen=True, kw_only=True):
    """Each row to the first port whose expression holds for it, to the port ``else`` when none does."""

    short: ClassVar[str | None] = "to"
    expression: ClassVar[str | None] = "to"
    to: dict[str, str]

    @property
    def ports(self) -> tuple[str, ...]:
        """The ports as written, and ``else``."""
        return (*self.to, ELSE)

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The same rows at every port, fewer of them."""
        if not 1 <= len(self.to) <= MAX_PORTS:
            raise Mistake(f"name between 1 and {MAX_PORTS} ports", option="to")
        need_axes(upstream, 1, "needs rows of columns")
        for port, text in self.to.items():
            if not port.isidentifier() or port == ELSE:
                raise Mistake(f"{shown(port)} is not a port's name", option="to")
            try:
                need_columns(upstream, tuple(expression.columns(expression.parse(text))), "to")
            except Mistake as mistake:
                raise Mistake(f"'{port}': {mistake.what}", option="to", hint=mistake.hint) from None
        return dict.fromkeys(self.ports, msgspec.structs.replace(upstream, rate=None))


def _fewer(upstream: Flow, columns: list[str] | None) -> Flow:
    if columns is not None:
        need_axes(upstream, 1, "needs rows of columns")
        need_columns(upstream, tuple(columns), "columns")
    return msgspec.structs.replace(upstream, rate=None)
