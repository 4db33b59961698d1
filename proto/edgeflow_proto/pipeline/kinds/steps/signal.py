"""Step kinds that compute on windows and signals."""

from __future__ import annotations

from typing import ClassVar, Literal

from edgeflow_proto.pipeline.flow import MAX_COLUMNS, Flow
from edgeflow_proto.pipeline.kinds.base import (
    Context,
    StepKind,
    need_axes,
)
from edgeflow_proto.pipeline.problem import Mistake

Statistic = Literal["mean", "std", "rms", "min", "max", "peak_to_peak", "kurtosis", "crest"]


class Stats(StepKind, frozen=True, kw_only=True):
    """Statistics of each column over a window: ``(size, columns)`` → ``x.mean, x.std, …`` in float32.

    `std` divides by n. `kurtosis` is Pearson's (3 for a normal distribution). `crest` is peak over rms.
    Kurtosis of a constant is 0, and crest of zeros.
    """

    short: ClassVar[str | None] = "functions"
    functions: list[Statistic]

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """One column per input column and function, column by column."""
        if not self.functions or len(set(self.functions)) < len(self.functions):
            raise Mistake("name each function once, and at least one", option="functions")
        need_axes(upstream, 2, "needs windows of columns")
        if upstream.columns is None:
            return {"": upstream.having(shape=None, dtype="float32", columns=None, rate=upstream.rate)}
        if len(upstream.columns) * len(self.functions) > MAX_COLUMNS:
            raise Mistake(f"makes more than {MAX_COLUMNS} columns", option="functions")
        columns = tuple(f"{column}.{name}" for column in upstream.columns for name in self.functions)
        return {
            "": upstream.having(shape=(len(columns),), dtype="float32", columns=columns, rate=upstream.rate)
        }
