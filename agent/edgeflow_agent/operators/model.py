"""`model`: rows through a model beside the pipeline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from edgeflow_agent.core.batch import Batch, Keys, Values, concatenated
from edgeflow_agent.core.ports import Feeds, ModelError, ModelSetup, Operator, PartlyFailedError, StepContext
from edgeflow_agent.operators.meeting import Matching, Partners, all_found
from edgeflow_agent.operators.tensors import Columns, Fed, Given, constant, zeros
from edgeflow_proto.bundle import Tensor
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.steps import model
from edgeflow_proto.pipeline.problem import Mistake

MAX_ROWS = 64  # at once through a model; more gain nothing
MAX_ROW_BYTES = 4096  # bigger rows go one by one: they gain nothing either, and take memory

_State = list[Values]  # what is carried over, in the order of the options


class ModelStep(Operator):
    """``(n, *row)`` → ``(n, *output)``, each row by itself; the first dimension is the batch.

    The model is run once on zeros while it is set up, so that the first row is not slow and a model that
    does not run is found before. Raises ModelError where model and options do not go together.
    """

    def __init__(self, options: model.Model, context: StepContext) -> None:
        self._file = options.file
        self._model = context.load_model(context.folder / options.file, _setup(options))
        try:
            self._ends = ends = options.ends(self._model.signature, [*context.upstreams])
        except Mistake as mistake:
            raise ModelError(str(mistake)) from mistake
        self._outputs = tuple(tensor.name for tensor in ends.given)
        self._constants: Feeds = {
            tensor.name: constant((options.constants or {})[tensor.name], tensor) for tensor in ends.constants
        }
        self._most = _lot(ends.fed, ends.constants)
        self._fed = [(tensor.name, Fed(options, tensor)) for tensor in ends.fed]
        self._given = Given(options, ends.given, context.flows[""], context.name)
        self.notices = tuple(_notices(options, self._model.provider))
        self._warm_up([*context.upstreams.values()])

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return what the model makes of the rows; raises ValueError or RuntimeError."""
        return {"": batch.having(*self.infer(batch.key, [batch.values]))}

    def infer(self, key: Keys, sources: Sequence[Values]) -> tuple[Values, Columns]:
        """Return results and their columns for rows of every source, ``(n, *row)`` each.

        Raises ValueError or RuntimeError.
        """
        feeds = {name: fed(values) for (name, fed), values in zip(self._fed, sources, strict=True)}
        return self._given(self._through(key, feeds), len(key))

    def _through(self, key: Keys, feeds: Feeds) -> list[Values]:
        """Return the outputs for all rows, in lots of a size that pays."""
        if len(key) <= self._most:
            return self._run(feeds)
        starts = range(0, len(key), self._most)
        return _concatenated([self._run(_part(feeds, i, i + self._most)) for i in starts])

    def _run(self, feeds: Feeds) -> list[Values]:
        return self._model.run({**self._constants, **feeds} if self._constants else feeds, self._outputs)

    def _warm_up(self, upstreams: Sequence[Flow]) -> None:
        """Run on a row of zeros, where it is known what rows look like."""
        row = []
        for flow, tensor in zip(upstreams, self._ends.fed, strict=True):
            shape = tensor.shape[1:] if flow.shape is None else flow.shape
            if min(shape, default=0) < 0:
                return
            row.append(np.zeros((1, *shape), flow.dtype or tensor.dtype))
        try:
            self.infer(np.zeros(1, np.uint32), row)
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{self._file} does not run on zeros: {error}") from error
        self.gap()


class CarryingStep(ModelStep):
    """A model whose state is carried from row to row of each key; they go through it one after another."""

    stateless: ClassVar[bool] = False

    def __init__(self, options: model.Model, context: StepContext) -> None:
        self._states: dict[int, _State] = {}  # by key
        super().__init__(options, context)

    def _through(self, key: Keys, feeds: Feeds) -> list[Values]:
        return _concatenated([self._next(own, _part(feeds, i, i + 1)) for i, own in enumerate(key.tolist())])

    def _next(self, key: int, row: Feeds) -> list[Values]:
        """Run the next row of a key and keep the state it leaves."""
        carried = self._ends.state
        state = self._states.get(key) or [zeros(sink) for _, sink in carried]
        feeds = {**self._constants, **row}
        feeds |= {sink.name: values for (_, sink), values in zip(carried, state, strict=True)}
        results = self._model.run(feeds, (*self._outputs, *[source.name for source, _ in carried]))
        self._states[key] = results[len(self._outputs) :]
        return results[: len(self._outputs)]

    def gap(self) -> None:
        """The rows that come do not follow those that were: begin with zero."""
        self._states.clear()

    def state(self) -> dict[int, _State]:
        """Return the state of each key."""
        return {key: list(state) for key, state in self._states.items()}

    def restore(self, state: dict[int, _State]) -> None:
        """Take it back."""
        self._states = dict(state)


class Beside(Matching):
    """A model of several sources: rows of the first that have a partner of every other, with these."""

    def __init__(self, options: model.Model, context: StepContext) -> None:
        super().__init__(context, None if options.tolerance is None else int(options.tolerance))
        self._step = _of_rows(options, context)
        self.notices = self._step.notices

    def _together(self, rows: Batch, partners: list[Partners]) -> Batch:
        found = all_found(partners)
        rows = rows.take(found)
        if not len(rows):
            return rows
        sources = [rows.values]
        sources += [other.values[which[found]] for other, which in partners if other is not None]
        try:
            return rows.having(*self._step.infer(rows.key, sources))
        except (ValueError, RuntimeError):
            if not self._step.stateless:
                raise
        return self._one_by_one(rows, sources)

    def _one_by_one(self, rows: Batch, sources: list[Values]) -> Batch:
        """Return what is made of rows, each by itself; raises PartlyFailedError for those it fails on."""
        kept: list[Batch] = []
        fatal: list[int] = []
        newest: Exception | None = None
        for index in range(len(rows)):
            row = slice(index, index + 1)
            try:
                made = self._step.infer(rows.key[row], [values[row] for values in sources])
                kept.append(rows.take(row).having(*made))
            except (ValueError, RuntimeError) as error:
                newest = error
                fatal.append(index)
        if not fatal:
            return concatenated(kept)
        raise PartlyFailedError(
            {"": concatenated(kept)} if kept else {}, rows.take(np.array(fatal))
        ) from newest

    def gap(self) -> None:
        """State that is carried begins with zero."""
        self._step.gap()

    def state(self) -> list[Any]:
        """Return the rows that wait, and the state of each key."""
        return [super().state(), self._step.state()]

    def restore(self, state: list[Any]) -> None:
        """Take them back."""
        waiting, carried = state
        super().restore(waiting)
        if carried is not None:
            self._step.restore(carried)


def model_step(options: model.Model, context: StepContext) -> Operator:
    """Return the step of a model; raises ModelError."""
    return _of_rows(options, context) if len(context.upstreams) == 1 else Beside(options, context)


def _of_rows(options: model.Model, context: StepContext) -> ModelStep:
    return CarryingStep(options, context) if options.state else ModelStep(options, context)


def _setup(options: model.Model) -> ModelSetup:
    wanted = options.executor
    if wanted is None:
        return ModelSetup(options.threads)
    return ModelSetup(options.threads, wanted.name, wanted.required)


def _notices(options: model.Model, provider: str) -> list[str]:
    wanted = options.executor
    if wanted is None or wanted.name == provider:
        return []
    return [f"{options.file} is executed by {provider}: {wanted.name} is not here"]


def _lot(fed: tuple[Tensor, ...], constants: tuple[Tensor, ...]) -> int:
    """Return how many rows go through the model at once."""
    free = all(tensor.shape[0] == -1 for tensor in fed)
    free = free and not any(tensor.shape[:1] == (-1,) for tensor in constants)
    row_bytes = sum(np.dtype(tensor.dtype).itemsize * abs(math.prod(tensor.shape)) for tensor in fed)
    return MAX_ROWS if free and row_bytes <= MAX_ROW_BYTES else 1


def _part(feeds: Feeds, start: int, end: int) -> Feeds:
    return {name: values[start:end] for name, values in feeds.items()}


def _concatenated(parts: list[list[Values]]) -> list[Values]:
    return [np.concatenate(part) for part in zip(*parts, strict=True)] if len(parts) > 1 else parts[0]
