"""Rows pushed through a plan. Time comes from the rows alone, so a replay is the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec
import numpy as np

from edgeflow_agent.core.batch import Batch
from edgeflow_agent.runtime.plan import Plan, PlannedStep

_ARRAY = 1  # msgpack extension type: dtype, shape and bytes of an array


class Observer(Protocol):
    """Hears how the steps fare. It is called between steps, so it must be quick and must not raise."""

    def ran(self, step: str, rows: int, ns: int) -> None:
        """A step was given rows and took this long."""

    def failed(self, step: str, error: Exception, rows: int) -> None:
        """A step raised, and so many rows were dropped; `error` is the newest, with its traceback."""


class Runtime:
    """A plan at work. `clock` gives nanoseconds for the observer's figures; nothing else depends on it."""

    def __init__(
        self, plan: Plan, observer: Observer | None = None, clock: Callable[[], int] = lambda: 0
    ) -> None:
        self.plan = plan
        self._observer = observer
        self._clock = clock

    def push(self, name: str, batch: Batch) -> list[tuple[str, Batch]]:
        """Run rows of an input through every step; return the rows of each output that got any.

        Outputs come in the order of the graph. Their arrays may be views of `batch` or of what steps
        remember: they hold until the next call.
        """
        edges = {name: batch}
        for step in self.plan.steps[name]:
            rows = edges.get(step.source)
            if rows is not None and len(rows):
                for port, result in self._run(step, rows).items():
                    edges[step.edges[port]] = result
        reached = ((output, edges.get(edge)) for output, edge in self.plan.outputs[name])
        return [(output, rows) for output, rows in reached if rows is not None and len(rows)]

    def _run(self, step: PlannedStep, batch: Batch) -> dict[str, Batch]:
        start = self._clock()
        try:
            result = step.operator(batch)
        except Exception as error:
            result = self._rescue(step, batch, error)
        if self._observer is not None:
            self._observer.ran(step.name, len(batch), self._clock() - start)
        return result

    def _rescue(self, step: PlannedStep, batch: Batch, error: Exception) -> dict[str, Batch]:
        """Save what can be saved of rows a step failed on: a stateless one is tried row by row."""
        if step.operator.stateless and len(batch) > 1:
            return self._row_by_row(step, batch)
        step.operator.gap()
        self._tell(step, error, len(batch))
        return {}

    def _row_by_row(self, step: PlannedStep, batch: Batch) -> dict[str, Batch]:
        kept: list[dict[str, Batch]] = []
        newest: Exception | None = None
        for row in range(len(batch)):
            try:
                kept.append(step.operator(batch.take(slice(row, row + 1))))
            except Exception as error:
                newest = error
        if newest is not None:
            self._tell(step, newest, len(batch) - len(kept))
        return _joined(kept)

    def _tell(self, step: PlannedStep, error: Exception, rows: int) -> None:
        if self._observer is not None:
            self._observer.failed(step.name, error, rows)

    def gap(self, name: str) -> None:
        """Rows of an input are missing before the next push."""
        for step in self.plan.steps[name]:
            step.operator.gap()

    def state(self) -> bytes:
        """Return all that the steps remember, as msgpack."""
        states = {name: operator.state() for name, operator in self.plan.operators.items()}
        return msgspec.msgpack.encode(states, enc_hook=_pack)

    def restore(self, state: bytes) -> None:
        """Take back what `state` of the same pipeline returned; raises ValueError when it is not that."""
        try:
            states = msgspec.msgpack.decode(state, type=dict[str, Any], ext_hook=_unpack)
        except msgspec.MsgspecError as error:
            raise ValueError(f"not a state: {error}") from None
        if states.keys() != self.plan.operators.keys():
            raise ValueError("the state of another pipeline")
        for name, operator in self.plan.operators.items():
            if states[name] is not None:
                operator.restore(states[name])


def _joined(parts: Iterable[dict[str, Batch]]) -> dict[str, Batch]:
    """Join results of consecutive rows, port by port."""
    ports: dict[str, list[Batch]] = {}
    for part in parts:
        for port, batch in part.items():
            ports.setdefault(port, []).append(batch)
    return {port: _concatenated(batches) for port, batches in ports.items()}


def _concatenated(batches: list[Batch]) -> Batch:
    return Batch(
        np.concatenate([batch.values for batch in batches]),
        np.concatenate([batch.t for batch in batches]),
        np.concatenate([batch.key for batch in batches]),
        np.concatenate([batch.span for batch in batches]),
        batches[0].columns,
    )


def _pack(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        content = (value.dtype.str, value.shape, value.tobytes())
        return msgspec.msgpack.Ext(_ARRAY, msgspec.msgpack.encode(content))
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a step's state holds a {type(value).__name__}")


def _unpack(code: int, data: memoryview) -> Any:
    if code != _ARRAY:
        raise ValueError(f"not a state: extension {code}")
    dtype, shape, content = msgspec.msgpack.decode(data, type=tuple[str, tuple[int, ...], bytes])
    return np.frombuffer(content, dtype).reshape(shape)
