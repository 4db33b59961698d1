"""What is recorded of the rows behind an event, in a form small enough to go with its trace."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from typing import Any

import msgspec

from edgeflow_proto.arrays import CODES, numbers
from edgeflow_proto.event import ROW_BITS
from edgeflow_proto.rows import Rows, of_key

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

    Where it is the rows of one key that made the event, `own` are those among them, and only they are drawn.
    Without `whole` there may be more: only the first of them were looked through. There are no curves of
    rows with more than `MAX_CURVES` values, nor of rows of two rings, between which nobody knows how much
    is missing.
    """

    count: int = 0
    own: int | None = None
    step: int = 1
    whole: bool = True
    curves: list[Curve] = []


def recorded(blocks: Iterable[Rows], first: int, last: int, key: str | None = None) -> Recorded:
    """Tell of blocks what they hold of the rows numbered from `first` to `last`; no others may be in them.

    With a `key` it is told apart what is of that key.
    """
    drawn = _Drawn(first, last)
    count = own = size = 0
    whole = True
    for rows in blocks:
        whole = size < MAX_BYTES
        if not whole:
            break
        count += rows.count
        size += len(rows.values)
        own += drawn.add(rows, key)
    found = Recorded(count=count, step=drawn.step, whole=whole, curves=drawn.curves)
    return found if key is None else msgspec.structs.replace(found, own=own)


class _Drawn:
    """The curves of the rows of a span."""

    def __init__(self, first: int, last: int) -> None:
        self.step = max(1, math.ceil((last - first + 1) / MAX_POINTS))
        self._first = first
        self._curves: dict[str, Curve] = {}
        same_ring = first >> ROW_BITS == last >> ROW_BITS
        self._points = math.ceil((last - first + 1) / self.step) if same_ring else 0
        self._own: set[int] = set()  # points that stand for rows of the key
        self._any: set[int] = set()  # and for any

    def add(self, rows: Rows, key: str | None) -> int:
        """Draw what a block holds of a key; return how many rows of it there are."""
        count = 0
        plotted = self._points and math.prod(rows.shape) <= MAX_CURVES
        self._any |= {*self._of(rows)} if plotted else set()
        for own in of_key([rows], key):
            count += own.count
            if plotted:
                self._own |= {*self._of(own)}
                _draw(own, self._first, self.step, self._points, self._curves)
        return count

    def _of(self, rows: Rows) -> range:
        start = rows.first - self._first
        return range(start // self.step, (start + rows.count - 1) // self.step + 1)

    @property
    def curves(self) -> list[Curve]:
        """The curves. What only other keys have rows of is no hole in them, and has no place."""
        others = self._any - self._own
        places = [point for point in range(self._points) if point not in others]
        return [
            Curve(curve.name, [curve.low[i] for i in places], [curve.high[i] for i in places])
            for curve in self._curves.values()
        ]


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
