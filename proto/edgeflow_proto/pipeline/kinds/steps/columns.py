"""Step kinds that choose among rows and columns, or make new ones of them."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from edgeflow_proto.pipeline import expression
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.base import (
    Context,
    StepKind,
    need_axes,
    need_columns,
)
from edgeflow_proto.pipeline.problem import Mistake


class Select(StepKind, frozen=True, kw_only=True):
    """Some columns, in the order named."""

    short: ClassVar[str | None] = "columns"
    columns: list[str]

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The same rows with the named columns."""
        if not self.columns or len(set(self.columns)) < len(self.columns):
            raise Mistake("name each column once, and at least one", option="columns")
        need_columns(upstream, tuple(self.columns), "columns")
        shape = None if upstream.shape is None else (*upstream.shape[:-1], len(self.columns))
        columns = tuple(self.columns)
        codes = {name: words for name, words in upstream.codes.items() if name in columns}
        return {"": msgspec.structs.replace(upstream, shape=shape, columns=columns, codes=codes)}


class Filter(StepKind, frozen=True, kw_only=True):
    """The rows for which an expression over columns holds.

    It is made of numbers, column names, ``+ - * / % **``, comparisons, ``and or not`` and the functions
    ``abs sqrt log log10 exp min max floor ceil round sin cos atan2 radians isnan isfinite``, ``clip(x, low,
    high)`` and ``where(condition, a, b)``. A comparison with NaN does not hold.
    """

    short: ClassVar[str | None] = "where"
    expression: ClassVar[str | None] = "where"
    where: str

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The same rows, fewer of them."""
        try:
            names = expression.columns(expression.parse(self.where))
        except Mistake as mistake:
            raise Mistake(mistake.what, option="where", hint=mistake.hint) from None
        need_axes(upstream, 1, "needs rows of columns")
        need_columns(upstream, tuple(names), "where")
        return {"": msgspec.structs.replace(upstream, rate=None)}
