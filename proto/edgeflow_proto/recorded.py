"""What is recorded of the rows behind an event, in a form small enough to go with its trace."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from typing import Any

import msgspec

from edgeflow_proto.arrays import CODES, numbers
from edgeflow_proto.event import ROW_BITS
from edgeflow_proto.rows import Rows

MAX_POINTS = 400  # of a curve
MAX_CURVES = 8
MAX_BYTES = 1 << 20  # of rows that are looked through for one input of one event


class Curve(msgspec.Struct, frozen=True):
    """The least and the greatest finite value of each stretch of rows; ``None`` where there is none."""

    name: str
    low: list[float | None]
    high: list[float | None]


class Recorded(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many rows of a span are recorded, and how their columns run; each point stands for `step` rows.

    Without `whole` there may be more: only the first of them were looked through. There are no curves of
    rows with more than `MAX_CURVES` values, nor of rows of two rings, between which nobody knows how much
    is missing.
    """

    count: int = 0
    step: int = 1
    whole: bool = True
    curves: list[Curve] = []


def recorded(blocks: Iterable[Rows], first: int, last: int) -> Recorded:
    """Tell of blocks what they hold of the rows numbered from `first` to `last`; no others may be in them."""
    step = max(1, math.ceil((last - first + 1) / MAX_POINTS))
    plotted = first >> ROW_BITS == last >> ROW_BITS
    curves: dict[str, Curve] = {}
    count = size = 0
    for rows in blocks:
        if size >= MAX_BYTES:
            return Recorded(count=count, step=step, whole=False, curves=[*curves.values()])
        count += rows.count
        size += len(rows.values)
        if plotted and math.prod(rows.shape) <= MAX_CURVES:
            _draw(rows, first, step, math.ceil((last - first + 1) / step), curves)
    return Recorded(count=count, step=step, curves=[*curves.values()])


def names(rows: Rows) -> list[str]:
    """Return a name for each value of a row: its column's, or ``v0`` and on where there are none."""
    size = math.prod(rows.shape)
    return list(rows.columns) if len(rows.columns) == size else [f"v{i}" for i in range(size)]


def _draw(rows: Rows, first: int, step: int, points: int, curves: dict[str, Curve]) -> None:
    """Add what a block holds to the curves."""
    values = numbers(rows.values, CODES[rows.dtype])
    known = names(rows)
    for place, name in enumerate(known):
        curve = curves.setdefault(name, Curve(name, [None] * points, [None] * points))
        column = values[place :: len(known)]
        start = rows.first - first
        for point in range(start // step, (start + rows.count - 1) // step + 1):
            _widen(curve, point, column[max(0, point * step - start) : (point + 1) * step - start])


def _widen(curve: Curve, point: int, values: array[Any]) -> None:
    """Let a point of a curve reach over values too."""
    low, high = curve.low[point], curve.high[point]
    finite = [value for value in (low, high, *values) if value is not None and math.isfinite(value)]
    if finite:
        curve.low[point], curve.high[point] = min(finite), max(finite)
