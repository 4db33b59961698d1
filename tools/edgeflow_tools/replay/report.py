"""What a replay came to, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgeflow_proto.event import Event
from edgeflow_proto.pipeline.graph import Graph
from edgeflow_tools import tables
from edgeflow_tools.engine import Engine
from edgeflow_tools.replay.compare import Difference
from edgeflow_tools.replay.memory import Memory
from edgeflow_tools.replay.player import Replay
from edgeflow_tools.replay.replayed import MOST, Against
from edgeflow_tools.terminal import counted

LONGEST = 300  # characters of an error
SHOWN = 20  # differences that people are shown


def unlike(own: Graph, candidate: Graph) -> Iterator[str]:
    """Yield lines about inputs of a candidate that the recorded rows are not made for."""
    for name, node in candidate.inputs.items():
        if name not in own.inputs:
            yield f"inputs.{name}: nothing is recorded of it, so no rows come from it"
            continue
        rate, recorded = node.intake.rate, own.inputs[name].intake.rate
        if rate != recorded:
            told = f"rate {_hz(rate)}, but {_hz(recorded)} is recorded; the rows come as they came"
            yield f"inputs.{name}: {told}"


def _hz(rate: float | None) -> str:
    return "not stated" if rate is None else f"{rate:g} Hz"


def errors(engine: Engine) -> dict[str, dict[str, Any]]:
    """Return the first error of each step that failed, and how many rows it dropped."""
    return {
        name: {"error": str(error).partition("\n")[0][:LONGEST], "dropped": engine.tally.steps[name].dropped}
        for name, error in engine.tally.errors.items()
    }


def failed(whose: str, engine: Engine) -> Iterator[str]:
    """Yield a line about each step that failed."""
    for name, told in errors(engine).items():
        dropped = counted(told["dropped"], "row", "rows")
        yield f"{whose} failed in steps.{name}: {told['error']} ({dropped} dropped)"


def ground(name: str, replay: Replay, seconds: float, damaged: int) -> Iterator[str]:
    """Yield lines about what was run, without the blocks of the recording that are damaged."""
    if replay.rows:
        rate = f"{replay.rows / max(seconds, 1e-9):,.0f} rows/s"
        leading = f", {replay.leading:,} of them only to lead up to --from," if replay.leading else ""
        rows = counted(replay.rows, "row", "rows")
        yield f"{name}: {rows} run again{leading} in {seconds:.2f} s ({rate})"
    if replay.skipped:
        rows = counted(replay.skipped, "row", "rows")
        yield f"left out: {rows} that the device took out, because its workers died there"
    if damaged:
        blocks = counted(damaged, "block", "blocks")
        yield f"left out: {blocks} of the recording that cannot be read, named above"
    if replay.holes or replay.restarts:
        yield (
            f"on the way: {counted(replay.holes, 'hole', 'holes')} in the recording,"
            f" {counted(replay.restarts, 'restart', 'restarts')} of the agent"
        )


def forgetful(memory: Memory | None) -> Iterator[str]:
    """Yield which steps of a candidate began without memory."""
    if memory is not None and memory.without:
        yield (
            f"the candidate began without memory in {', '.join(memory.without)}:"
            " until that has filled, what comes of it is not held against the pipeline"
        )


def show(title: str, against: Against) -> None:
    """Print a comparison: a table by output, then the first differences."""
    tables.console().print(title if against.counts or against.open else f"{title} no events")
    kinds = ("same", "changed", "gained", "lost")
    rows = [(output, *(f"{counts[kind]:,}" for kind in kinds)) for output, counts in against.counts.items()]
    tables.show(("output", *kinds), rows)
    if against.open:
        what = counted(against.open, "event differs", "events differ")
        tables.console().print(f"{what} where what the steps remembered, or the journal, is not known")
    if against.unrecorded:
        what = counted(against.unrecorded, "event of it is", "events of it are")
        tables.console().print(f"{what} of rows that are not recorded, and not compared")
    for difference in against.differences[:SHOWN]:
        tables.console().print(line(difference), soft_wrap=True)
    if len(against.differences) > SHOWN:
        more = len(against.differences) - SHOWN + against.untold
        tables.console().print(f"and {more:,} more (--json has the first {MOST:,})")


def live(event: Event) -> str:
    """Return an event in a line."""
    return f"{event.time} {event.output} {event.subject or ''}".rstrip() + f": {_values(event.data)}"


def _values(data: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={each}" for name, each in data.items())


def line(difference: Difference) -> str:
    """Return a difference in a line."""
    event = difference.event
    mark = {"changed": "~", "gained": "+", "lost": "-"}[difference.kind]
    values = ", ".join(difference.what) or _values(event.data)
    return f"{mark} {event.time} {event.output} {event.subject}".rstrip() + f": {values}"
