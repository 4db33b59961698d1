"""The event output: rows become blocks of the journal; nothing here is done per event."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from edgeflow_agent.core.batch import Batch, Values, concatenated
from edgeflow_proto.event import MAX_BLOCK_EVENTS, Block, Clock, Column
from edgeflow_proto.pipeline.graph import Graph, OutputNode
from edgeflow_proto.pipeline.kinds.outputs import Event

MAX_BLOCK_BYTES = 1 << 20  # of values: what is sent to a relay in one message must stay far below its limit


class EventOutput:
    """Makes blocks of one event output. `models` are the digests of the pipeline's models by step."""

    def __init__(self, graph: Graph, node: OutputNode, digest: str, models: dict[str, str]) -> None:
        options = node.options
        assert isinstance(options, Event)
        self._options = options
        self._name = node.name
        self.urgent = options.flush == "now"
        self._type = options.type or f"{graph.name}.{node.name}"
        flow = graph.flows[node.source]
        self._inputs, self._codes = flow.inputs, flow.codes
        self._keyed = flow.key is not None
        self._payload_time = flow.domain == "payload"
        self._digest = digest
        self._models = models

    def blocks(
        self, batches: Sequence[Batch], key_name: Callable[[int], str], clock: Clock, decided: int
    ) -> Iterator[Block]:
        """Yield the blocks that hold all rows of `batches`, which are of this output and in order."""
        batch = concatenated(batches)
        step = min(MAX_BLOCK_EVENTS, max(1, MAX_BLOCK_BYTES * len(batch) // max(1, batch.values.nbytes)))
        for start in range(0, len(batch), step):
            yield self._block(batch.take(slice(start, start + step)), key_name, clock, decided)

    def _block(self, batch: Batch, key_name: Callable[[int], str], clock: Clock, decided: int) -> Block:
        distinct, index = np.unique(batch.key, return_inverse=True)
        keyed = self._keyed and len(batch) > 0
        t = batch.t
        if self._payload_time:  # it is wall time already, and whoever took the sample vouches for it
            t = batch.t - clock.offset_ns
            clock = Clock(clock.boot_id, clock.offset_ns, "payload")
        return Block(
            output=self._name, type=self._type, severity=self._options.severity,
            count=len(batch), clock=clock,
            t=_bytes(t), spans=_bytes(batch.span), inputs=self._inputs,
            keys=tuple(key_name(int(key)) for key in distinct) if keyed else (),
            key=_bytes(index.astype(np.uint32)) if keyed else b"",
            data=tuple(self._columns(batch)), pipeline_digest=self._digest, models=self._models,
            decided_ns=decided,
        )  # fmt: skip

    def _columns(self, batch: Batch) -> Iterator[Column]:
        if batch.columns is None:
            yield _column("values", batch.values)
            return
        for name, column in carried(self._options.chosen, batch.columns).items():
            yield _column(name, batch.column(column), self._codes.get(column, ()))


def carried(chosen: dict[str, str] | None, columns: Sequence[str]) -> dict[str, str]:
    """Return what an output carries of rows of these columns, name → column: all where none is chosen."""
    return {name: name for name in columns} if chosen is None else chosen


def _column(name: str, values: Values, codes: Sequence[str] = ()) -> Column:
    return Column(name, values.dtype.name, values.shape[1:], _bytes(values), words(values, codes))


def words(values: Values, codes: Sequence[str]) -> dict[int, str]:
    """Return what the whole numbers among `values` stand for: number n for ``codes[n]``."""
    numbers = {int(number) for number in np.unique(values) if 0 <= number < len(codes)} if codes else ()
    return {number: codes[number] for number in numbers}


def _bytes(values: Values) -> bytes:
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
