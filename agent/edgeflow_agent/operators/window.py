"""`window`: overlapping stretches of rows, per key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from edgeflow_agent.core.batch import Batch, Int64s, Keys, Rows, Values
from edgeflow_agent.core.ports import Operator, StepContext
from edgeflow_agent.operators.keys import by_key
from edgeflow_proto.pipeline.kinds.steps import shape
from edgeflow_proto.pipeline.units import Extent

_ROOM_BYTES = 1 << 16  # how much a buffer holds beyond what it needs, so that rows are seldom moved
_ROOM_ROWS = 256
_ONE: tuple[tuple[int, slice], ...] = ((0, slice(None)),)  # rows of a flow without keys, as one group


class Window(Operator):
    """The last `size` rows of a key, every `hop` rows, first when there are that many (padded: `hop`).

    ``(n, *row)`` → ``(k, size, *row)``, read-only views of the rows kept here (a copy when several keys
    have windows in one call). A window has time and key of its last row, and spans from its first row's first
    input row to its last row's last one. Windows come in the order of their last rows.
    """

    stateless: ClassVar[bool] = False

    def __init__(self, options: shape.Window, context: StepContext) -> None:
        self._size, self._hop = options.rows(context.upstream.rate)
        self._pad = options.pad is not None
        self._keyed = context.upstream.key is not None
        self.due = self._first_due = 1 if self._keyed else self._hop if self._pad else self._size
        self._form: tuple[tuple[int, ...], npt.DTypeLike] | None = None
        self._stretches: dict[int, _Stretch] = {}

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Take rows in; return the windows they complete."""
        self._check_form(batch.values)
        parts = []
        for key, rows in self._groups(batch.key):
            stretch = self._stretches.get(key) or self._begin(key, batch.values, batch.span[rows, ::2])
            if part := stretch.push(batch.values[rows], batch.span[rows, ::2], rows):
                parts.append(part)
            self.due = 1 if self._keyed else stretch.due
        if not parts:
            return {}
        return {"": _windows(batch, parts[0] if len(parts) == 1 else _merged(parts))}

    def _groups(self, key: Keys) -> Iterable[tuple[int, Rows | slice]]:
        return by_key(key) if self._keyed else _ONE

    def _check_form(self, values: Values) -> None:
        if self._form is None:
            self._form = (values.shape[1:], values.dtype)
        elif values.shape[1:] != self._form[0] or values.dtype != self._form[1]:
            form = (values.shape[1:], values.dtype)
            raise ValueError(f"rows changed from {_said(self._form)} to {_said(form)}")

    def _begin(self, key: int, like: Values, first: Int64s) -> _Stretch:
        stretch = self._stretches[key] = _Stretch(self._size, self._hop, like, first.shape[1])
        if self._pad:
            stretch.pad(like, first)
        return stretch

    def gap(self) -> None:
        """No window straddles a gap: each key begins anew."""
        self._stretches.clear()
        self.due = self._first_due

    def state(self) -> dict[int, tuple[int, Values, Int64s]]:
        """Return per key the rows until its next window and those of them that are here."""
        return {key: stretch.state() for key, stretch in self._stretches.items()}

    def restore(self, state: dict[int, tuple[int, Values, Int64s]]) -> None:
        """Take the rows back."""
        self._stretches.clear()
        for key, (due, values, first) in state.items():
            self._check_form(values)
            self._begin(key, values, first).restore(due, values, first)
            self.due = 1 if self._keyed else due


class _Part(NamedTuple):
    """Windows of one key: first input row of each, and where in the call each one's last row stands."""

    values: Values
    first: Int64s
    last: Rows | slice


class _Stretch:
    """Rows of one key, as far back as windows to come reach.

    They stand in a buffer with room behind them; only when it is full are they moved to its front.
    """

    def __init__(self, size: int, hop: int, like: Values, inputs: int) -> None:
        self._size, self._hop, self._inputs = size, hop, inputs
        self.due = size  # rows until the next window is complete
        self._row_bytes = max(1, like[:1].nbytes if len(like) else 1)
        self._length = size + max(size, min(_ROOM_ROWS, _ROOM_BYTES // self._row_bytes))
        self._allocate(self._length, like)

    def _allocate(self, length: int, like: Values) -> None:
        self._rows = np.empty((length, *like.shape[1:]), like.dtype)
        self._first = np.empty((length, self._inputs), np.int64)
        self._end = 0
        # Built once, because that costs more than computing on a window.
        self._windows = np.moveaxis(sliding_window_view(self._rows, self._size, axis=0), -1, 1)

    @property
    def _kept(self) -> slice:
        """The rows that windows to come begin in; none where `hop` leaves rows out."""
        return slice(self._end - max(0, self._size - self.due), self._end)

    def pad(self, like: Values, first: Int64s) -> None:
        """Put zeros before the first row, so that `hop` rows make the first window."""
        rows = self._size - self._hop
        self._append(np.zeros((rows, *like.shape[1:]), like.dtype), np.repeat(first[:1], rows, axis=0))
        self.due = self._hop

    def push(self, values: Values, first: Int64s, rows: Rows | slice) -> _Part | None:
        """Take rows in, which stand at `rows` in the call."""
        count = len(values)
        begin = self._append(values, first) + self.due - self._size
        if count < self.due:
            self.due -= count
            return None
        ends = slice(self.due - 1, count, self._hop)
        windows = 1 + (count - self.due) // self._hop
        self.due += windows * self._hop - count
        begins = slice(begin, begin + (windows - 1) * self._hop + 1, self._hop)
        return _Part(
            self._windows[begins], self._first[begins], ends if isinstance(rows, slice) else rows[ends]
        )

    def _append(self, values: Values, first: Int64s) -> int:
        """Put rows behind those that are here; return where."""
        count = len(values)
        if self._end + count > len(self._rows):
            self._make_room(count)
        start = self._end
        self._end += count
        self._rows[start : self._end] = values
        self._first[start : self._end] = first
        return start

    def _make_room(self, count: int) -> None:
        """Move what is still needed to the front, of a longer buffer for as long as it takes."""
        rows, first = self._rows[self._kept], self._first[self._kept]
        length = max(self._length, len(rows) + count)
        if length > len(self._rows) or len(self._rows) > self._length:
            if length * self._row_bytes <= _ROOM_BYTES:
                length = self._length = 4 * length  # calls of that size are likely to come again
            self._allocate(length, rows)
        self._end = len(rows)
        self._rows[: self._end] = rows
        self._first[: self._end] = first

    def state(self) -> tuple[int, Values, Int64s]:
        return self.due, self._rows[self._kept], self._first[self._kept]

    def restore(self, due: int, values: Values, first: Int64s) -> None:
        self._end = 0
        self._append(values, first)
        self.due = due


class Lot(Window):
    """Every `size` rows, whatever their keys: ``(n, *row)`` → ``(k, size, *row)``; see `Window`."""

    def __init__(self, options: shape.Batch, context: StepContext) -> None:
        super().__init__(shape.Window(size=Extent(rows=options.size)), context)

    def _groups(self, key: Keys) -> Iterable[tuple[int, Rows | slice]]:
        return _ONE


def _merged(parts: list[_Part]) -> _Part:
    """Bring windows of several keys into the order of their last rows."""
    last = np.concatenate([part.last for part in parts])
    order = np.argsort(last)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    values = np.empty((len(last), *parts[0].values.shape[1:]), parts[0].values.dtype)
    start = 0
    for part in parts:  # one copy, straight to its place
        values[place[start : start + len(part.values)]] = part.values
        start += len(part.values)
    first = np.concatenate([part.first for part in parts])
    return _Part(values, first[order], last[order])


def _windows(batch: Batch, part: _Part) -> Batch:
    span = np.array(batch.span[part.last])
    span[:, ::2] = part.first
    return Batch(part.values, batch.t[part.last], batch.key[part.last], span, batch.columns)


def _said(form: tuple[tuple[int, ...], Any]) -> str:
    return f"{list(form[0])} {form[1]}"
