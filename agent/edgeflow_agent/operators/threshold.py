"""`threshold`: a level with hysteresis and minimum duration, per key."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from edgeflow_agent.core.batch import Batch, Int64s, Rows, Values
from edgeflow_agent.core.ports import Operator, StepContext
from edgeflow_agent.operators.keys import by_key
from edgeflow_proto.pipeline.kinds.steps import detect
from edgeflow_proto.pipeline.units import Extent

_Marks = npt.NDArray[np.bool_]
_Numbers = int | list[int]  # one for each row, or one for all
_STATE = ("state",)


class Threshold(Operator):
    """Rows of columns → ports `raised`, `cleared` (the row at which it happened) and `state` (0 or 1).

    Raised by the row at which the value has been past the level for `for`, counted in rows or between the
    times of the first row and this one; cleared by the first row back at `clear` or on its other side. A gap
    breaks what has lasted so far; it clears nothing. NaN is as if the row were not there.
    """

    stateless: ClassVar[bool] = False

    def __init__(self, options: detect.Threshold, context: StepContext) -> None:
        self._column = options.column
        (self._low, self._high), (self._back, self._up) = options.levels
        self._hold = options.hold
        self._levels: dict[int, _Level] = {}  # of the keys that are raised or may soon be

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Follow rows; return those at which something changed, and the state after each."""
        value = self._value(batch)
        state = np.zeros((len(batch.t), 1), np.uint8)
        result = {"state": batch.having(state, _STATE)}
        past = self._past(value)
        if not self._levels and not np.count_nonzero(past):
            return result
        within = _between(value, self._low, self._high)
        signs = _Signs(past, within, _between(value, self._back, self._up))
        change = np.zeros(len(batch), np.int8)
        for key, rows in by_key(batch.key):
            state[rows, 0], change[rows] = self._follow(key, signs.take(rows), batch.t[rows])
        for port, changed in (("raised", change > 0), ("cleared", change < 0)):
            if changed.any():
                result[port] = batch.take(changed)
        return result

    def _value(self, batch: Batch) -> Values:
        if self._column is not None:
            return batch.column(self._column)
        if batch.values.shape[1:] != (1,):
            raise ValueError(f"say which column: rows have shape {list(batch.values.shape[1:])}")
        return batch.values[:, 0]

    def _past(self, value: Values) -> _Marks:
        # A float32 column is compared in float32: there 0.8 is not above 0.8.
        if self._low == -math.inf:
            return value > self._high
        return value < self._low if self._high == math.inf else (value < self._low) | (value > self._high)

    def _follow(self, key: int, signs: _Signs, t: Int64s) -> tuple[_Numbers, _Numbers]:
        """Follow rows of one key; return for each the state after it and its change, 1, 0 or -1."""
        level = self._levels.pop(key, None) or _Level()
        moved = (signs.back if level.raised else signs.past).any()
        result = level.follow(signs, t, self._hold) if moved else level.stay(signs)
        if level.raised or level.rows:
            self._levels[key] = level
        return result

    def gap(self) -> None:
        """What must last has to begin anew."""
        self._levels = {key: level for key, level in self._levels.items() if level.raised}

    def state(self) -> dict[int, tuple[bool, int, int]]:
        """Return what is known of each key that is raised or may soon be."""
        return {key: astuple(level) for key, level in self._levels.items()}

    def restore(self, state: dict[int, tuple[bool, int, int]]) -> None:
        """Take it back."""
        self._levels = {key: _Level(*level) for key, level in state.items()}


def _between(value: Values, low: float, high: float) -> _Marks:
    inside: _Marks = (value >= low) & (value <= high)
    return inside


@dataclass(frozen=True, slots=True)
class _Signs:
    """On which side each row stands; a NaN on none."""

    past: _Marks  # beyond the level
    within: _Marks  # not beyond it
    back: _Marks  # not beyond the level at which it clears

    def take(self, rows: Rows | slice) -> _Signs:
        return _Signs(self.past[rows], self.within[rows], self.back[rows])


@dataclass(slots=True)
class _Level:
    """What is remembered of one key."""

    raised: bool = False
    rows: int = 0  # past the level so far, without a break
    since: int = 0  # time of the first of them

    def stay(self, signs: _Signs) -> tuple[_Numbers, _Numbers]:
        """Follow rows at which nothing can change."""
        if signs.within.any():
            self.rows = 0
        return int(self.raised), 0

    def follow(self, signs: _Signs, t: Int64s, hold: Extent) -> tuple[_Numbers, _Numbers]:
        """Follow rows one by one."""
        states: list[int] = []
        changes: list[int] = []
        for past, within, back, time in zip(
            signs.past.tolist(), signs.within.tolist(), signs.back.tolist(), t.tolist(), strict=True
        ):
            changes.append(self._clear(back) if self.raised else self._rise(past, within, time, hold))
            states.append(int(self.raised))
        return states, changes

    def _clear(self, back: bool) -> int:
        self.raised = not back
        return -int(back)

    def _rise(self, past: bool, within: bool, time: int, hold: Extent) -> int:
        if not past:
            self.rows = 0 if within else self.rows
            return 0
        self.since = self.since if self.rows else time
        self.rows += 1
        lasted = self.rows >= hold.rows if hold.rows else time - self.since >= (hold.ns or 0)
        if lasted:
            self.raised, self.rows = True, 0
        return int(lasted)
