"""Step kinds that make other values of rows, one row of one row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import msgspec

from edgeflow_proto.pipeline import expression
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.base import (
    Context,
    Dtype,
    StepKind,
    check_columns,
    check_shape,
    need_axes,
    need_columns,
)
from edgeflow_proto.pipeline.problem import Mistake, shown
from edgeflow_proto.pipeline.units import Duration

FLOATS = ("float32", "float64")


class Map(StepKind, frozen=True, kw_only=True):
    """New columns, each by an expression over the old ones, which stay with ``keep: true``.

    Expressions are those of `filter`; a truth is 1 or 0. Floats are computed with in their own precision;
    rows of whole numbers become float32.
    """

    short: ClassVar[str | None] = "columns"
    expression: ClassVar[str | None] = "columns"
    columns: dict[str, str]
    keep: bool = False

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """Rows of the new columns, behind the old ones where those stay."""
        check_columns(list(self.columns), "columns")
        need_axes(upstream, 1, "needs rows of columns")
        for name, text in self.columns.items():
            need_columns(upstream, tuple(_names(name, text)), "columns")
        old = (upstream.columns or ()) if self.keep else ()
        for name in self.columns:
            if name in old:
                raise Mistake(f"there is a column '{name}' already", option="columns")
        known = upstream.columns is not None or not self.keep
        columns = (*old, *self.columns) if known else None
        shape = None if columns is None else (len(columns),)
        dtype = floating(upstream.dtype)
        return {"": upstream.having(shape=shape, dtype=dtype, columns=columns, rate=upstream.rate)}


def _names(column: str, text: str) -> list[str]:
    try:
        return expression.columns(expression.parse(text))
    except Mistake as mistake:
        raise Mistake(f"'{column}': {mistake.what}", option="columns", hint=mistake.hint) from None


def floating(dtype: str | None) -> str | None:
    """Return the dtype of what is computed from rows: floats as they are, anything else float32."""
    return dtype if dtype in FLOATS or dtype is None else "float32"


class Scale(StepKind, frozen=True, kw_only=True):
    """``value · factor + offset``, or one range onto another: ``{range: [0, 4095], to: [0, 100]}``.

    Of all values, or of the named `columns`. Whole numbers become float32.
    """

    factor: float | None = None
    offset: float | None = None
    range: list[float] | None = None
    to: list[float] | None = None
    columns: list[str] | None = None

    @property
    def line(self) -> tuple[float, float]:
        """Factor and offset."""
        if self.range is None or self.to is None:
            return 1.0 if self.factor is None else self.factor, self.offset or 0.0
        factor = (self.to[1] - self.to[0]) / (self.range[1] - self.range[0])
        return factor, self.to[0] - self.range[0] * factor

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The same rows as floats."""
        self._check_line()
        _need_some(upstream, self.columns)
        return {"": _same(upstream, floating(upstream.dtype))}

    def _check_line(self) -> None:
        if (self.range is None) != (self.to is None) or (
            self.range and (self.factor, self.offset) != (None, None)
        ):
            raise Mistake("give either factor and offset, or range and to")
        if self.range is None and self.factor is None and self.offset is None:
            raise Mistake("give either factor and offset, or range and to")
        for option, ends in (("range", self.range), ("to", self.to)):
            if ends is not None and (len(ends) != 2 or not all(map(math.isfinite, ends))):
                raise Mistake("is its two ends", option=option)
        if self.range and self.range[0] == self.range[1]:
            raise Mistake("has two ends that differ", option="range")
        if not all(map(math.isfinite, self.line)):
            raise Mistake("a scale needs numbers that are finite, and not too large")


class Fill(StepKind, frozen=True, kw_only=True):
    """A value in the place of NaN, or with ``fill: last`` the key's last one that was none.

    Before the first value of a key, and behind a gap, `last` leaves NaN. A value that float32 cannot
    hold is infinite there.
    """

    short: ClassVar[str | None] = "value"
    value: float | Literal["last"]
    columns: list[str] | None = None

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The same rows."""
        if self.value != self.value:
            raise Mistake("NaN is what it takes the place of", option="value")
        _need_floats(upstream)
        _need_some(upstream, self.columns)
        return {"": upstream}


class Drop(StepKind, frozen=True, kw_only=True):
    """All rows but those with NaN in any of the values, or of the named `columns`; ``when: all``: in all."""

    short: ClassVar[str | None] = "when"
    when: Literal["any", "all"] = "any"
    columns: list[str] | None = None

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The same rows, fewer of them."""
        _need_floats(upstream)
        _need_some(upstream, self.columns)
        return {"": msgspec.structs.replace(upstream, rate=None)}


class Diff(StepKind, frozen=True, kw_only=True):
    """What each row is more than the key's row before it; with ``per: 1 s`` as a rate, by the rows' times.

    The first row of a key, and the first behind a gap, gives none. Whole numbers become float64. Two rows at
    one time have no rate: infinite, or NaN.
    """

    short: ClassVar[str | None] = "per"
    per: Duration | None = None
    columns: list[str] | None = None

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The same rows but the first."""
        if self.per is not None and self.per < 1:
            raise Mistake("must be longer than nothing", option="per")
        _need_some(upstream, self.columns)
        dtype = upstream.dtype if upstream.dtype in (*FLOATS, None) else "float64"
        return {"": _same(upstream, dtype)}


class Cast(StepKind, frozen=True, kw_only=True):
    """The same rows in another dtype.

    To whole numbers: rounded half to even, clipped, NaN is 0. To bool: whether it is a number other than 0.
    To float32: what it cannot hold is infinite.
    """

    short: ClassVar[str | None] = "dtype"
    dtype: Dtype

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The same rows."""
        whole = self.dtype not in FLOATS
        return {"": _same(upstream, self.dtype, upstream.codes if whole else None)}


class Reshape(StepKind, frozen=True, kw_only=True):
    """The same values in rows of another shape; `columns` name the last axis."""

    short: ClassVar[str | None] = "shape"
    shape: list[int]
    columns: list[str] | None = None

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """Rows of that shape."""
        shape = tuple(self.shape)
        check_shape(shape)
        if upstream.size is not None and upstream.size != math.prod(shape):
            what = f"{list(shape)} has {math.prod(shape)} values, rows {list(upstream.shape or ())} have"
            raise Mistake(f"{what} {upstream.size}", option="shape")
        if self.columns is not None:
            check_columns(self.columns, "columns")
            if len(self.columns) != shape[-1]:
                raise Mistake(f"{len(self.columns)} columns do not fit {list(shape)}", option="columns")
        columns = None if self.columns is None else tuple(self.columns)
        return {"": upstream.having(shape=shape, dtype=upstream.dtype, columns=columns, rate=upstream.rate)}


def _same(upstream: Flow, dtype: str | None, codes: Mapping[str, tuple[str, ...]] | None = None) -> Flow:
    return msgspec.structs.replace(upstream, dtype=dtype, codes=codes or {})


def _need_some(upstream: Flow, columns: list[str] | None) -> None:
    if columns is not None:
        check_columns(columns, "columns")
        need_columns(upstream, tuple(columns), "columns")


def _need_floats(upstream: Flow) -> None:
    if upstream.dtype not in (*FLOATS, None):
        raise Mistake(f"{shown(upstream.dtype)} has no NaN", option="from")
