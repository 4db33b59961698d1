"""`silence`: keys that have been quiet for too long."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np

from edgeflow_agent.core.batch import Batch, Int64s, Rows, Values
from edgeflow_agent.core.ports import Operator, StepContext
from edgeflow_agent.operators.keys import by_key
from edgeflow_agent.operators.meeting import NO_ROW
from edgeflow_proto.pipeline.kinds.steps import detect


class _Last(NamedTuple):
    """A key's last row, in arrays of one row."""

    values: Values
    t: Int64s
    span: Int64s


class Silence(Operator):
    """Rows → ports `silent` (a key's last row, at its time plus `after`) and `back` (the row that ends it).

    What tells is time gone by, whether a later row of any key brings word of it or `tick` does: the same
    comes of both, in the order of the times at which silence began.
    """

    stateless: ClassVar[bool] = False

    def __init__(self, options: detect.Silence, context: StepContext) -> None:
        self.ticks = True
        self._after = int(options.after)
        self._upstream = context.upstream
        self._last: dict[int, _Last] = {}
        self._silent: set[int] = set()
        self._since = -1  # the first tick, while nothing at all has come

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Follow rows; return who fell silent up to the newest of them, and who came back."""
        silent: list[tuple[int, _Last]] = []
        back = np.zeros(len(batch), bool)
        for key, rows in by_key(batch.key):
            index = np.arange(len(batch))[rows]
            quiet = self._quiet(key, batch.t[index])
            back[index[quiet]] = True
            silent += [(key, self._before(key, batch, index, row)) for row in np.flatnonzero(quiet).tolist()
                       if row or key not in self._silent]  # fmt: skip
            self._silent.discard(key)
            self._last[key] = _row(batch, index[-1])
        silent += self._fallen(int(batch.t[-1]))
        result = {"back": batch.take(back)} if back.any() else {}
        return result | self._rows(silent)

    def tick(self, t: int) -> dict[str, Batch]:
        """Return who has fallen silent by now."""
        if not self._last and self._upstream.key is None and not self._silent:
            return self._unheard(t)
        return self._rows(self._fallen(t))

    def _unheard(self, t: int) -> dict[str, Batch]:
        """Say of an input that nothing has come since the first tick, once."""
        self._since = t if self._since < 0 else self._since
        flow = self._upstream
        if t - self._since <= self._after or flow.shape is None:
            return {}
        self._silent.add(0)
        values = np.zeros((1, *flow.shape), flow.dtype)
        span = np.full((1, 2 * len(flow.inputs)), NO_ROW, np.int64)
        return self._rows([(0, _Last(values, np.array([self._since]), span))])

    def _quiet(self, key: int, t: Int64s) -> Rows:
        """Return before which rows of a key it was quiet for too long."""
        last = self._last.get(key)
        quiet: Rows = np.diff(t, prepend=t[:1] if last is None else last.t) > self._after
        quiet[0] |= last is None and key in self._silent
        return quiet

    def _before(self, key: int, batch: Batch, index: Int64s, row: int) -> _Last:
        return _row(batch, index[row - 1]) if row else self._last[key]

    def _fallen(self, clock: int) -> list[tuple[int, _Last]]:
        """Return the keys whose time is up, and note that they are silent."""
        fallen = [(key, last) for key, last in self._last.items()
                  if key not in self._silent and last.t[0] + self._after < clock]  # fmt: skip
        self._silent |= {key for key, _ in fallen}
        return fallen

    def _rows(self, silent: list[tuple[int, _Last]]) -> dict[str, Batch]:
        if not silent:
            return {}
        silent = sorted(silent, key=lambda found: (found[1].t[0], found[0]))
        values, t, span = (np.concatenate(parts) for parts in zip(*[last for _, last in silent], strict=True))
        key = np.array([key for key, _ in silent], np.uint32)
        return {"silent": Batch(values, t + self._after, key, span, self._upstream.columns)}

    def state(self) -> Any:
        """Return the last row of each key, and who is silent."""
        return [self._since, sorted(self._silent), {key: tuple(last) for key, last in self._last.items()}]

    def restore(self, state: Any) -> None:
        """Take it back."""
        self._since, silent, last = state
        self._silent = set(silent)
        self._last = {key: _Last(*kept) for key, kept in last.items()}


def _row(batch: Batch, row: int) -> _Last:
    one = slice(row, row + 1)
    return _Last(batch.values[one].copy(), batch.t[one].copy(), batch.span[one].copy())
