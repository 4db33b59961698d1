"""The worker's way to actuators: effects go to `io`, wait a little when it is away, and hold nothing up."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgeflow_agent.core.batch import Batch, Int64s, Values
from edgeflow_agent.core.board import Slot, labelled
from edgeflow_agent.core.channel import Channel
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.messages import Effect, EffectRow
from edgeflow_agent.outputs.event import carried, words
from edgeflow_proto.pipeline.graph import Graph

ROWS_PER_MESSAGE = 64
MAX_WAITING = 256  # messages


class EffectSender:
    """Sends the rows of effect outputs. An output's mark is its place among the pipeline's outputs."""

    def __init__(self, graph: Graph, fd: int, slot: Slot) -> None:
        self._channel = Channel(socket.socket(fileno=fd), Effect)
        self._marks = {name: index for index, name in enumerate(graph.outputs)}
        self._chosen = {name: getattr(node.options, "chosen", None) for name, node in graph.outputs.items()}
        self._codes = {name: graph.flows[node.source].codes for name, node in graph.outputs.items()}
        self._timed = {name for name, node in graph.outputs.items()
                       if graph.flows[node.source].domain == "payload"}  # fmt: skip
        self._waiting: deque[Effect] = deque()
        self._slot = slot

    def send(self, output: str, batch: Batch, key_name: Callable[[int], str]) -> None:
        """Hand rows over, in order, behind whatever still waits."""
        number = batch.span[:, 1] if batch.span.shape[1] == 2 else batch.t
        if output in self._timed:  # their times say nothing of how old the effect is
            batch = Batch(
                batch.values, np.full_like(batch.t, boottime_ns()), batch.key, batch.span, batch.columns
            )
        spelled = cells(batch, self._chosen[output], self._codes[output])
        rows = list(_rows(batch, number, spelled, key_name))
        for start in range(0, len(rows), ROWS_PER_MESSAGE):
            self._waiting.append(
                Effect(output, self._marks[output], tuple(rows[start : start + ROWS_PER_MESSAGE]))
            )
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as `io` takes it; the oldest go when too many wait."""
        while self._waiting:
            if self._channel.send(self._waiting[0]):
                self._waiting.popleft()
            elif self._channel.fits(self._waiting[0]):
                break
            else:
                self._split(self._waiting.popleft())
        while len(self._waiting) > MAX_WAITING:
            self._drop(self._waiting.popleft(), "full")

    def close(self) -> None:
        """Let go of the socket."""
        self._channel.close()

    def _split(self, effect: Effect) -> None:
        """Put what is too large for a message back as two; a row that is too large by itself is dropped."""
        rows, half = effect.rows, len(effect.rows) // 2
        if not half:
            self._drop(effect, "size")
            return
        parts = (rows[:half], rows[half:])
        self._waiting.extendleft(Effect(effect.output, effect.mark, part) for part in reversed(parts))

    def _drop(self, effect: Effect, reason: str) -> None:
        name = labelled("effects_dropped_total", output=effect.output, reason=reason)
        self._slot.counter(name).add(len(effect.rows))


def cells(
    batch: Batch, chosen: dict[str, str] | None, codes: Mapping[str, Sequence[str]]
) -> dict[str, list[Any]]:
    """Return what each row says, by the name it goes by: the chosen columns (name → column), else all."""
    if batch.columns is None:
        return {"values": batch.values.tolist()}
    names = carried(chosen, batch.columns)
    return {name: _spelled(batch.column(column), codes.get(column, ())) for name, column in names.items()}


def _spelled(values: Values, codes: Sequence[str]) -> list[Any]:
    """Return a column with words in the place of the numbers that stand for them."""
    spelled = words(values, codes)
    return [spelled.get(value, value) for value in values.tolist()] if spelled else values.tolist()


def _rows(
    batch: Batch, number: Int64s, columns: Mapping[str, list[Any]], key_name: Callable[[int], str]
) -> Iterator[EffectRow]:
    # The number tells effects done from new ones: rows of several inputs have only their time in common.
    for i, (row, t, key) in enumerate(
        zip(number.tolist(), batch.t.tolist(), batch.key.tolist(), strict=True)
    ):
        yield EffectRow(row, t, key_name(key), {name: values[i] for name, values in columns.items()})
