"""Rows pushed through a plan. Time comes from the rows alone, so a replay is the same run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol, cast

import msgspec
import numpy as np

from edgeflow_agent.core.batch import Batch, concatenated
from edgeflow_agent.core.errors import reason
from edgeflow_agent.core.ports import PartlyFailedError
from edgeflow_agent.runtime.plan import Plan, PlannedStep

_ARRAY = 1  # msgpack extension type: dtype, shape and bytes of an array
_BEGINNING = -1


class Observer(Protocol):
    """Hears how the steps fare. It is called between steps, so it must be quick and must not raise."""

    def ran(self, step: str, rows: int, ns: int) -> None:
        """A step was given rows and took this long."""

    def failed(self, step: str, error: Exception, rows: Batch) -> None:
        """A step raised on rows, which are dropped; `error` is the newest, with its traceback."""


class _Remembered(msgspec.Struct, frozen=True, array_like=True):
    """How far each input has come, and what each step remembers."""

    until: dict[str, int]
    steps: dict[str, Any]


class StepStoppedError(RuntimeError):
    """A step raised whose pipeline is to stop then; the message names it, the cause is what it raised."""


Tap = Callable[[dict[str, Batch]], object]


class Runtime:
    """A plan at work. `clock` gives nanoseconds for the observer's figures; nothing else depends on it.

    `tap` is shown the rows of every edge after each call; they hold until it returns, and it must not raise.
    """

    def __init__(
        self, plan: Plan, observer: Observer | None = None, clock: Callable[[], int] = lambda: 0
    ) -> None:
        self.plan = plan
        self._observer = observer
        self._clock = clock
        self._until = dict.fromkeys(plan.steps, _BEGINNING)
        self._waits = plan.waits
        self.tap: Tap | None = None

    def push(self, name: str, batch: Batch) -> list[tuple[str, Batch]]:
        """Run rows of an input through every step; return the rows of each output that got any.

        Outputs come in the order of the graph. Their arrays may be views of `batch` or of what steps
        remember: they hold until the next call. Raises StepStoppedError.
        """
        if self.plan.meets and len(batch):
            self._until[name] = max(self._until[name], int(batch.t.max()))
        edges = {name: batch}
        for step in self.plan.steps[name]:
            rows = edges.get(step.source)
            if rows is not None or step.several:
                self._pass(step, rows, edges)
        if self.tap is not None:
            self.tap(edges)
        return _reached(self.plan.outputs[name], edges)

    def due(self, name: str) -> int:
        """Return how many rows of an input must come before pushing them can bring anything about."""
        waits = self._waits.get(name, ())
        return waits[0].due if len(waits) == 1 else min([operator.due for operator in waits], default=1)

    def tick(self, t: int) -> list[tuple[str, Batch]]:
        """Say that all rows of times before `t` have been pushed; return what that alone brings about.

        `t` is CLOCK_BOOTTIME ns; inputs whose times come with their payloads are not concerned.
        """
        for name in self.plan.arrival:
            self._until[name] = max(self._until[name], t)
        edges: dict[str, Batch] = {}
        for step in self.plan.all_steps:
            self._pass(step, edges.get(step.source), edges)
            if step.operator.ticks:
                self._tick(step, edges, t)
        if self.tap is not None:
            self.tap(edges)
        return _reached(self.plan.all_outputs, edges)

    def _pass(self, step: PlannedStep, rows: Batch | None, edges: dict[str, Batch]) -> None:
        """Run a step on what its sources brought, `rows` the first, and put what it gives on its edges."""
        if step.several:
            result = self._meet(step, [edges.get(source) for source in step.sources])
        elif rows is not None and len(rows.t):
            result = self._run(step, rows)
        else:
            return
        names = step.edges
        for port, made in result.items():
            edges[names[port]] = made

    def _run(self, step: PlannedStep, batch: Batch) -> dict[str, Batch]:
        observer, clock = self._observer, self._clock
        start = clock() if observer is not None else 0
        failure: Exception | None = None
        try:
            result = step.operator(batch)
        except Exception as error:
            failure = error
        if failure is not None:  # here, so that what an author's code raises now has nothing to do with it
            result = self._rescue(step, batch, failure)
            failure = None  # its traceback holds this frame
        if observer is not None:
            observer.ran(step.name, len(batch.t), clock() - start)
        return result

    def _meet(self, step: PlannedStep, batches: list[Batch | None]) -> dict[str, Batch]:
        """Run a step of several sources, whether they brought rows or only came further."""
        start = self._clock()
        given = [batch for batch in batches if batch is not None]
        failure: Exception | None = None
        try:
            result = step.operator.meet(batches, [self._come(inputs) for inputs in step.sources.values()])
        except Exception as error:
            failure = error
        if failure is not None:
            result = self._rescue_met(step, given, failure)
            failure = None
        if self._observer is not None and given:
            self._observer.ran(step.name, sum(map(len, given)), self._clock() - start)
        return result

    def _rescue_met(self, step: PlannedStep, given: list[Batch], error: Exception) -> dict[str, Batch]:
        """Save what a step of several sources could do of the rows; what it failed on goes."""
        if isinstance(error, PartlyFailedError):
            self._tell(step, cast(Exception, error.__cause__), error.rows)
            return error.made
        step.operator.gap()
        for batch in given:
            self._tell(step, error, batch)
        return {}

    def _come(self, inputs: tuple[str, ...]) -> int:
        """How far an edge has come: as far as the least of its inputs."""
        return min(self._until[name] for name in inputs)

    def _tick(self, step: PlannedStep, edges: dict[str, Batch], t: int) -> None:
        failure: Exception | None = None
        try:
            result = step.operator.tick(t)
        except Exception as error:
            failure = error
        if failure is not None:
            step.operator.gap()
            self._tell(step, failure, None)
            failure = None
            return
        for port, rows in result.items():
            before = edges.get(step.edges[port])
            edges[step.edges[port]] = rows if before is None else concatenated([before, rows])

    def _rescue(self, step: PlannedStep, batch: Batch, error: Exception) -> dict[str, Batch]:
        """Save what can be saved of rows a step failed on: a stateless one is tried row by row."""
        if step.operator.stateless and len(batch) > 1:
            return self._row_by_row(step, batch)
        step.operator.gap()
        self._tell(step, error, batch)
        return {}

    def _row_by_row(self, step: PlannedStep, batch: Batch) -> dict[str, Batch]:
        kept: list[dict[str, Batch]] = []
        fatal: list[int] = []
        newest: Exception | None = None
        for row in range(len(batch)):
            try:
                kept.append(step.operator(batch.take(slice(row, row + 1))))
            except Exception as error:
                newest = error
                fatal.append(row)
        if newest is not None:
            self._tell(step, newest, batch.take(np.array(fatal)))
        return _joined(kept)

    def _tell(self, step: PlannedStep, error: Exception, rows: Batch | None) -> None:
        if self._observer is not None and rows is not None:
            self._observer.failed(step.name, error, rows)
        if step.stops:
            raise StepStoppedError(f"steps.{step.name}: {reason(error)}") from error

    def gap(self, name: str) -> None:
        """Rows of an input are missing before the next push: steps begin anew, unless it is bridged."""
        if name not in self.plan.bridged:
            for step in self.plan.steps[name]:
                step.operator.gap()

    def state(self) -> bytes:
        """Return all that the steps remember, as msgpack."""
        states = {name: operator.state() for name, operator in self.plan.operators.items()}
        return msgspec.msgpack.encode(_Remembered(self._until, states), enc_hook=_pack)

    def restore(self, state: bytes) -> None:
        """Take back what `state` of the same pipeline returned; raises ValueError when it is not that."""
        remembered = _remembered(state)
        if (
            remembered.steps.keys() != self.plan.operators.keys()
            or remembered.until.keys() != self._until.keys()
        ):
            raise ValueError("the state of another pipeline")
        self._take_back(remembered, self.plan.operators.keys())

    def adopt(self, state: bytes, steps: Collection[str]) -> None:
        """Take back of some steps what `state` of a pipeline with the same ones returned.

        Raises ValueError when it is not that.
        """
        remembered = _remembered(state)
        if not remembered.steps.keys() >= set(steps):
            raise ValueError("the state of a pipeline that has not these steps")
        self._take_back(remembered, steps)

    def _take_back(self, remembered: _Remembered, steps: Collection[str]) -> None:
        self._until |= {name: until for name, until in remembered.until.items() if name in self._until}
        for name in steps:
            if remembered.steps[name] is not None:
                self.plan.operators[name].restore(remembered.steps[name])


def _remembered(state: bytes) -> _Remembered:
    try:
        return msgspec.msgpack.decode(state, type=_Remembered, ext_hook=_unpack)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a state: {error}") from None


def _joined(parts: Iterable[dict[str, Batch]]) -> dict[str, Batch]:
    """Join results of consecutive rows, port by port."""
    ports: dict[str, list[Batch]] = {}
    for part in parts:
        for port, batch in part.items():
            ports.setdefault(port, []).append(batch)
    return {port: concatenated(batches) for port, batches in ports.items()}


def _reached(outputs: Iterable[tuple[str, str]], edges: dict[str, Batch]) -> list[tuple[str, Batch]]:
    return [
        (output, rows) for output, edge in outputs if (rows := edges.get(edge)) is not None and len(rows.t)
    ]


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
