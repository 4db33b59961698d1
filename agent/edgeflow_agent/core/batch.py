"""What flows along an edge of the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]
Int64s = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint32]
Rows = npt.NDArray[Any]  # an index: row numbers or a boolean mask


class Batch(msgspec.Struct, frozen=True, eq=False):
    """Rows of one edge, oldest first; a msgspec struct, because several are made for each call of a graph.

    `values` is ``(n, …)``; `t` int64 ``(n,)``, CLOCK_BOOTTIME ns; `key` uint32 ``(n,)``; `span` int64
    ``(n, 2·inputs)``, sequence numbers of the first and last row behind each row, of every input of the edge
    in turn; -1 where none of an input's rows is behind it. `columns` name the last axis of `values`, or are
    ``None``. The arrays may be views of shared memory: they hold until the
    call that was given them returns, and must not be written to.
    """

    values: Values
    t: Int64s
    key: Keys
    span: Int64s
    columns: tuple[str, ...] | None

    def __len__(self) -> int:
        return len(self.t)

    def having(self, values: Values, columns: tuple[str, ...] | None) -> Batch:
        """Return the same rows with other values, one per row."""
        return Batch(values, self.t, self.key, self.span, columns)

    def take(self, rows: Rows | slice) -> Batch:
        """Return some of the rows."""
        return Batch(self.values[rows], self.t[rows], self.key[rows], self.span[rows], self.columns)

    def column(self, name: str) -> Values:
        """Return one column, ``(n,)``; raises ValueError when there is none of that name."""
        if self.columns is None:
            raise ValueError("rows have no named columns")
        return self.values[..., self.columns.index(name)]


def concatenated(batches: Sequence[Batch]) -> Batch:
    """Return the rows of batches of one edge, one after another; of a single batch, itself."""
    if len(batches) == 1:
        return batches[0]
    parts = [(batch.values, batch.t, batch.key, batch.span) for batch in batches]
    values, t, key, span = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Batch(values, t, key, span, batches[0].columns)


def numbered(values: Values, t: Int64s, key: Keys, first: int, columns: tuple[str, ...] | None) -> Batch:
    """Return input rows as a batch: each row's span is itself, counted from sequence number `first`."""
    count = len(t)
    rows = np.arange(first, first + count, dtype=np.int64)
    span: Int64s = np.ndarray((count, 2), np.int64, rows, strides=(8, 0))  # each number twice, without a copy
    return Batch(values, t, key, span, columns)
