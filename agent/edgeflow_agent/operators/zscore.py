"""`zscore`: how unusual a value is among those before it."""

from __future__ import annotations

from math import erfc
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgeflow_agent.core.batch import Batch
from edgeflow_agent.core.ports import Operator, StepContext
from edgeflow_agent.operators.keys import by_key
from edgeflow_proto.pipeline.kinds.steps import detect

Doubles = npt.NDArray[np.float64]
_ROOT_HALF = 0.5**0.5


class ZScore(Operator):
    """``(n, columns)`` → ``(n, 1)``, the score of one column; a gap begins a new window."""

    stateless: ClassVar[bool] = False

    def __init__(self, options: detect.ZScore, context: StepContext) -> None:
        self._options = options
        self._columns = context.flows[""].columns or (context.name,)
        self._dtype = np.dtype(context.flows[""].dtype or np.float32)
        self._windows: dict[int, _Window] = {}

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return each row's score."""
        column = batch.column(self._options.column) if self._options.column else batch.values[:, 0]
        scores = np.empty(len(batch))
        for key, rows in by_key(batch.key):
            window = self._windows.setdefault(key, _Window(self._options))
            scores[rows] = window.follow(column[rows].astype(np.float64))
        return {"": batch.having(scores[:, None].astype(self._dtype), self._columns)}

    def gap(self) -> None:
        """Begin anew."""
        self._windows.clear()

    def state(self) -> dict[int, Any]:
        """Return the window of each key."""
        return {key: window.state() for key, window in self._windows.items()}

    def restore(self, state: dict[int, Any]) -> None:
        """Take them back."""
        self._windows = {key: _Window(self._options) for key in state}
        for key, kept in state.items():
            self._windows[key].restore(*kept)


class _Window:
    """The rows of one key that others are scored against, and those that wait to move it on."""

    def __init__(self, options: detect.ZScore) -> None:
        self._size, self._hop = options.size, options.hop
        self._warm_up, self._floor, self._tail = options.warm_up, options.floor, options.tail
        self._rows: Doubles = np.empty(0)
        self._waiting: Doubles = np.empty(0)
        self._measure()

    def _measure(self) -> None:
        """Take mean and standard deviation of a full window."""
        self._mean = float(self._rows.mean()) if len(self._rows) else 0.0
        self._std = max(float(self._rows.std()), self._floor) if len(self._rows) else self._floor

    def follow(self, values: Doubles) -> Doubles:
        """Return the scores of rows, each against the rows before it; NaN takes no part."""
        scores = np.full(len(values), np.nan)
        known = np.flatnonzero(~np.isnan(values))
        done = 0
        while done < len(known):
            part = known[done:]
            grown = self._grow(values[part]) if len(self._rows) < self._size else self._move(values[part])
            scores[part[: len(grown)]] = grown
            done += len(grown)
        return scores

    def _grow(self, values: Doubles) -> Doubles:
        """Score rows while each of them makes the window longer."""
        values = values[: self._size - len(self._rows)]
        base = self._rows[0] if len(self._rows) else values[0]  # near them, so that nothing cancels
        before = np.concatenate([self._rows, values]) - base
        count = np.arange(len(self._rows), len(before))
        sums, squares = np.cumsum(before), np.cumsum(before**2)
        with np.errstate(all="ignore"):
            mean = np.concatenate([[0.0], sums])[count] / count
            variance = np.concatenate([[0.0], squares])[count] / count - mean**2
            scores: Doubles = (values - base - mean) / np.maximum(
                np.sqrt(np.maximum(variance, 0)), self._floor
            )
        scores = self._told(scores)
        scores[count < self._warm_up] = 0.0
        self._rows = np.concatenate([self._rows, values])
        if len(self._rows) == self._size:
            self._measure()
        return scores

    def _move(self, values: Doubles) -> Doubles:
        """Score rows against a full window until it is time for it to move on."""
        values = values[: self._hop - len(self._waiting)]
        scores = self._told((values - self._mean) / self._std)
        self._waiting = np.concatenate([self._waiting, values])
        if len(self._waiting) == self._hop:
            self._rows = np.concatenate([self._rows[self._hop :], self._waiting])
            self._waiting = np.empty(0)
            self._measure()
        return scores

    def _told(self, scores: Doubles) -> Doubles:
        """Return scores, or what share of a normal distribution is nearer to the mean or beyond it."""
        return np.array([1 - 0.5 * erfc(abs(z) * _ROOT_HALF) for z in scores]) if self._tail else scores

    def state(self) -> tuple[Doubles, Doubles]:
        return self._rows, self._waiting

    def restore(self, rows: Doubles, waiting: Doubles) -> None:
        self._rows, self._waiting = rows, waiting
        self._measure()
