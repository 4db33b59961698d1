"""The port of outputs that act: what one is given, and what it must do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeflow_agent.config import Endpoint
from edgeflow_agent.core import clock
from edgeflow_agent.core.board import Slot, labelled
from edgeflow_agent.core.broker import Broker
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.limited import LimitedLog
from edgeflow_agent.core.messages import EffectRow
from edgeflow_proto.event import wall_time
from edgeflow_proto.installed import points
from edgeflow_proto.pipeline.kinds.outputs import Http, Mqtt

GROUP = "edgeflow.outputs"
log = logging.getLogger("edgeflow.io")


class Account:
    """What became of the rows of one output: each is counted once as done or once, by reason, as dropped."""

    def __init__(self, pipeline: str, output: str, slot: Slot) -> None:
        self._slot = slot
        self._labels = {"pipeline": pipeline, "output": output}
        self._done = slot.counter(labelled("effects_done_total", **self._labels))
        self._log = LimitedLog(log, f"{pipeline}: outputs.{output}: dropped", pipeline)

    def done(self, count: int = 1) -> None:
        """Count rows that were carried out."""
        self._done.add(count)

    def dropped(self, reason: str, detail: str, count: int = 1) -> None:
        """Count rows that were not."""
        self._slot.counter(labelled("effects_dropped_total", **self._labels, reason=reason)).add(count)
        self._log.note(reason, detail, boottime_ns(), count)

    def removed(self, name: str) -> None:
        """Count an old file that made room for new rows."""
        self._slot.counter(labelled("effects_files_removed_total", **self._labels)).add()
        words = "%s: outputs.%s: removed the oldest file %s"
        log.info(words, *self._labels.values(), name, extra={"pipeline": self._labels["pipeline"]})

    def turn(self, now: int) -> None:
        """Write the log lines that are due."""
        self._log.turn(now)


@dataclass(frozen=True, slots=True)
class OutputContext:
    """What an output is made from besides its options."""

    pipeline: str
    name: str
    folder: Path  # where this pipeline's file outputs lie; it may not be there yet
    account: Account
    broker: Callable[[str], Broker]  # by name in the device's settings; raises LookupError
    endpoint: Callable[[str], Endpoint]  # as well


class Output:
    """An end of the graph that acts. One thread serves all: nothing here may block."""

    idle = True  # whether nothing waits to be carried out

    def carry_out(self, row: EffectRow) -> None:
        """Take a row, in order; it is carried out now or at a later `turn`, or dropped and counted."""
        raise NotImplementedError

    def turn(self, now: int) -> None:
        """Called at the end of each turn of the loop; `now` is CLOCK_BOOTTIME ns."""

    def close(self) -> None:
        """Let go of everything; what still waits is dropped and counted."""


OutputFactory = Callable[[Any, OutputContext], Output]  # options, context; raises ValueError, LookupError


def outputs(kinds: Iterable[str]) -> dict[str, OutputFactory]:
    """Return the implementations of those kinds that are installed; the others are not even imported."""
    known = points(GROUP)
    return {kind: known[kind].load() for kind in set(kinds) & known.keys()}


def content_of(options: Mqtt | Http, row: EffectRow) -> dict[str, Any]:
    """Return what a message says of a row; as JSON, NaN becomes null.

    It is what the pipeline says with the columns it names, else all columns with `time` and, where there is
    one, `key`.
    """
    if options.payload is None and options.data is None:
        return line_of(row)
    return {**(options.payload or {}), **(row.data if options.data is not None else {})}


def line_of(row: EffectRow) -> dict[str, Any]:
    """Return a row's key, where it has one, time and columns."""
    key = {"key": row.key} if row.key else {}
    return {**key, "time": wall_time(row.t + clock.now().offset_ns), **row.data}
