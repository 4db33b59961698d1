"""`deadband`, `change`, `throttle` and `dedupe`: rows that are worth passing on, per key."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgeflow_agent.core.batch import Batch, Int64s, Values
from edgeflow_agent.core.ports import Operator, StepContext
from edgeflow_agent.operators.columns import positions
from edgeflow_agent.operators.keys import by_key
from edgeflow_proto.pipeline.kinds.steps import routing

Marks = npt.NDArray[np.bool_]


class Gate(Operator):
    """``(n, *row)`` → the rows that pass. A gap changes nothing: what passed, passed."""

    stateless: ClassVar[bool] = False

    def __init__(self, columns: list[str] | None) -> None:
        self._columns = columns
        self._known: dict[int, Any] = {}  # what is remembered of each key

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return the rows that pass."""
        values = (
            batch.values
            if self._columns is None
            else batch.values[..., positions(batch.columns, self._columns)]
        )
        flat = values.reshape(len(batch), -1)
        passes = np.zeros(len(batch), bool)
        for key, rows in by_key(batch.key):
            passes[rows] = self._follow(key, flat[rows], batch.t[rows])
        return {"": batch if passes.all() else batch.take(passes)}

    def _follow(self, key: int, values: Values, t: Int64s) -> Marks:
        """Follow rows of one key ``(n, values)``; return which of them pass."""
        raise NotImplementedError

    def state(self) -> dict[int, Any]:
        """Return what is remembered of each key."""
        return dict(self._known)

    def restore(self, state: dict[int, Any]) -> None:
        """Take it back."""
        self._known = dict(state)


class Deadband(Gate):
    """Rows out of the band around the last one passed."""

    def __init__(self, options: routing.Deadband, context: StepContext) -> None:
        super().__init__(options.columns)
        self._absolute, self._share = options.absolute, (options.percent or 0.0) / 100
        self._silence = options.max_silence

    def _follow(self, key: int, values: Values, t: Int64s) -> Marks:
        passes = np.zeros(len(t), bool)
        numbers = values.astype(np.float64)
        known = self._known.get(key)
        row = 0
        while row < len(t):  # once for each row that passes
            if known is not None:
                out = self._out(numbers[row:], t[row:], *known)
                if not out.any():
                    break
                row += int(out.argmax())
            passes[row] = True
            known = numbers[row].copy(), int(t[row])
            row += 1
        self._known[key] = known
        return passes

    def _out(self, values: Values, t: Int64s, last: Values, since: int) -> Marks:
        """Return which rows are out of the band around a row."""
        band = self._share * np.abs(last) if self._absolute is None else self._absolute
        with np.errstate(invalid="ignore"):
            moved = np.abs(values - last) > band
        moved |= np.isnan(values) != np.isnan(last)
        out: Marks = moved.any(axis=1)
        return out if self._silence is None else out | (t - since >= self._silence)


class Change(Gate):
    """Rows that differ from the one before."""

    def __init__(self, options: routing.Change, context: StepContext) -> None:
        super().__init__(options.columns)

    def _follow(self, key: int, values: Values, t: Int64s) -> Marks:
        last = self._known.get(key)
        self._known[key] = values[-1].copy()
        before = np.concatenate([values[:1] if last is None else last[None], values[:-1]])
        differs = (values != before) & ~(_nan(values) & _nan(before))
        passes: Marks = differs.any(axis=1)
        passes[0] |= last is None
        return passes


def _nan(values: Values) -> Marks:
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)


class Throttle(Gate):
    """Rows that come when fewer than so many passed in the time before."""

    def __init__(self, options: routing.Throttle, context: StepContext) -> None:
        super().__init__(None)
        self._rows, self._per = options.rows, int(options.per)

    def _follow(self, key: int, values: Values, t: Int64s) -> Marks:
        passes = np.zeros(len(t), bool)
        passed: list[int] = list(self._known.get(key, ()))  # times of the last that passed
        row = 0
        while row < len(t):  # once for each row that passes
            if len(passed) == self._rows:
                row = max(row, int(np.searchsorted(t, passed[0] + self._per)))
                if row == len(t):
                    break
                del passed[0]
            passes[row] = True
            passed.append(int(t[row]))
            row += 1
        self._known[key] = passed
        return passes


class Dedupe(Gate):
    """Rows that are not equal to one that passed a short while ago."""

    def __init__(self, options: routing.Dedupe, context: StepContext) -> None:
        super().__init__(options.columns)
        self._within, self._most = int(options.within), options.most

    def _follow(self, key: int, values: Values, t: Int64s) -> Marks:
        passes = np.zeros(len(t), bool)
        passed: OrderedDict[bytes, int] = self._known.setdefault(key, OrderedDict())
        same = np.ascontiguousarray(values + 0 if values.dtype.kind == "f" else values)  # -0 is 0
        for row, time in enumerate(t.tolist()):
            name = same[row].tobytes()
            if name in passed and time - passed[name] < self._within:
                continue
            passed[name] = time
            passed.move_to_end(name)
            if len(passed) > self._most:
                passed.popitem(last=False)
            passes[row] = True
        return passes

    def state(self) -> dict[int, list[tuple[bytes, int]]]:
        """Return the rows that passed, with their times, oldest first."""
        return {key: list(passed.items()) for key, passed in self._known.items()}

    def restore(self, state: dict[int, list[tuple[bytes, int]]]) -> None:
        """Take them back."""
        self._known = {
            key: OrderedDict((name, time) for name, time in passed) for key, passed in state.items()
        }
