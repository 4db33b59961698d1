"""Taps: rows of any edge shown to whoever listens, at a cost that has a bound.

Each tap copies so many rows and values a second at most, the newest of a call, and counts the others; it
waits for nobody. It ends with its listener, or when nobody has renewed it for a while.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from edgeflow_agent.core import clock, messages
from edgeflow_agent.core.batch import Batch
from edgeflow_agent.core.channel import Channel, Closed
from edgeflow_agent.flow.effects import cells
from edgeflow_proto.event import wall_time
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.graph import Graph
from edgeflow_proto.pipeline.problem import near_miss

MAX_TAPS = 8
LEASE_NS = 10 * 10**9
MAX_VALUES = 1024  # of a row that are shown
VALUES_PER_S = 50_000
MAX_ROW_BYTES = 100_000  # as JSON

log = logging.getLogger("edgeflow.worker")
KeyName = Callable[[int], str]


class Tap:
    """One listener's edge."""

    def __init__(self, channel: Channel, edge: str, flow: Flow, rate: float, key_name: KeyName) -> None:
        self.edge = edge
        self._channel = channel
        self._flow = flow
        self._key_name = key_name
        self._rate = min(rate, VALUES_PER_S / min(MAX_VALUES, max(1, flow.size or 1)))
        self._room = self._most = max(1.0, self._rate)
        self._filled = clock.boottime_ns()
        self._until = self._filled + LEASE_NS
        self._taken: list[Batch] = []
        self._skipped = 0

    def listened(self, now: int) -> bool:
        """Say whether somebody still listens."""
        try:
            while self._channel.receive() is not None:
                self._until = now + LEASE_NS
        except (Closed, msgspec.MsgspecError):
            return False
        return now < self._until

    def take(self, batch: Batch) -> None:
        """Copy the newest rows that there is room for, and count the others."""
        now = clock.boottime_ns()
        self._room = min(self._most, self._room + (now - self._filled) * 1e-9 * self._rate)
        self._filled = now
        count = min(len(batch), int(self._room))
        self._skipped += len(batch) - count
        if count:
            self._room -= count
            self._taken.append(_shown(batch.take(slice(len(batch) - count, None))))

    def drop(self) -> None:
        """Count what was taken and not sent as skipped: it was torn."""
        self._skipped += sum(map(len, self._taken))
        self._taken.clear()

    def send(self) -> None:
        """Send what was taken; what the listener has no room for is counted too."""
        for batch in self._taken:
            for row in self._rows(batch):
                skipped = {"skipped": self._skipped} if self._skipped else {}
                data = msgspec.json.encode(row | skipped)
                sent = len(data) <= MAX_ROW_BYTES and self._channel.send(messages.TapRow(data))
                self._skipped = 0 if sent else self._skipped + 1
        self._taken.clear()

    def _rows(self, batch: Batch) -> Iterator[dict[str, Any]]:
        offset = clock.now().offset_ns
        columns = cells(batch, None, self._flow.codes)
        for i in range(len(batch)):
            key = self._key_name(int(batch.key[i]))
            yield {
                "time": wall_time(int(batch.t[i]) + offset),
                **({"key": key} if key else {}),
                "span": self._span(batch.span[i].tolist()),
                **({"values": columns["values"][i]} if batch.columns is None
                   else {"data": {name: values[i] for name, values in columns.items()}}),
            }  # fmt: skip

    def _span(self, numbers: list[int]) -> dict[str, list[int]]:
        pairs = zip(self._flow.inputs, numbers[::2], numbers[1::2], strict=False)
        return {name: [first, last] for name, first, last in pairs if last >= 0}

    def close(self) -> None:
        """End it; the listener is told by the socket."""
        self._channel.close()


def _shown(batch: Batch) -> Batch:
    """Return a copy of rows, of large ones their first values in one line."""
    values, columns = batch.values, batch.columns
    if values[:1].size > MAX_VALUES:
        values, columns = np.stack([row.flat[:MAX_VALUES] for row in values]), None
    return Batch(values.copy(), batch.t.copy(), batch.key.copy(), batch.span.copy(), columns)


class Taps:
    """All taps of a worker. `key_name` returns, for an edge, what names its keys."""

    def __init__(self, graph: Graph, key_name: Callable[[str], KeyName]) -> None:
        self._graph = graph
        self._key_name = key_name
        self._taps: list[Tap] = []

    def add(self, asked: messages.Tap, fd: int) -> None:
        """Begin to show an edge over a socket, or say there why not."""
        channel = Channel(socket.socket(fileno=fd), messages.TapRenewed)
        flow = self._graph.flows.get(asked.edge)
        if flow is None or len(self._taps) >= MAX_TAPS:
            known = near_miss(asked.edge, self._graph.flows)
            reason = f"no edge '{asked.edge}' ({known})" if flow is None else f"{MAX_TAPS} listen already"
            channel.send(messages.TapRefused(reason))
            channel.close()
            return
        channel.send(messages.TapBegun(_head(asked.edge, flow)))
        self._taps.append(Tap(channel, asked.edge, flow, asked.rate, self._key_name(asked.edge)))

    def turn(self, now: int) -> bool:
        """End the taps that nobody listens to; return whether any is left."""
        for tap in [tap for tap in self._taps if not tap.listened(now)]:
            tap.close()
            self._taps.remove(tap)
        return bool(self._taps)

    def look(self, edges: Mapping[str, Batch]) -> None:
        """Take rows of the edges listened to (port `edgeflow_agent.runtime.run.Tap`)."""

        def take(tap: Tap) -> None:
            batch = edges.get(tap.edge)
            if batch is not None and len(batch):
                tap.take(batch)

        self._each(take)

    def drop(self) -> None:
        """Forget what was taken in the call just made: its rows were overwritten meanwhile."""
        self._each(Tap.drop)

    def send(self) -> None:
        """Send what was taken."""
        self._each(Tap.send)

    def _each(self, act: Callable[[Tap], None]) -> None:
        for tap in list(self._taps):
            try:
                act(tap)
            except Exception:  # whatever it is, the pipeline goes on
                log.exception("the tap of %s ends", tap.edge)
                tap.close()
                self._taps.remove(tap)


def _head(edge: str, flow: Flow) -> bytes:
    size = flow.size or 0
    return msgspec.json.encode({
        "edge": edge, "shape": flow.shape, "dtype": flow.dtype, "columns": flow.columns,
        "inputs": flow.inputs, "key": flow.key, "clipped": size > MAX_VALUES,
    })  # fmt: skip
