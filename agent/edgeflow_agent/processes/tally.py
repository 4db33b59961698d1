"""What a worker counts of its steps, and whom it tells when one fails."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from edgeflow_agent.core.batch import Batch
from edgeflow_agent.core.board import Counter, Slot, labelled
from edgeflow_agent.core.channel import Channel
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.messages import StepFailed

TELL_NS = 10**9
NOTICE_NS = 60 * 10**9
MAX_TRACE = 4000


class Tally:
    """Counts calls of steps on the board, and keeps failures until they are told.

    Port: `edgeflow_agent.runtime.run.Observer`.
    """

    def __init__(self, slot: Slot, channel: Channel, steps: list[str], models: set[str]) -> None:
        self._channel = channel
        self._rows = {step: slot.counter(labelled("step_rows_total", step=step)) for step in steps}
        self._ns = {step: slot.counter(labelled("step_ns_total", step=step)) for step in steps}
        self._inferences = {step: slot.counter(labelled("inferences_total", step=step)) for step in models}
        self._errors: dict[str, Counter] = {
            step: slot.counter(labelled("step_errors_total", step=step)) for step in steps
        }
        self._told_at = 0
        self._failures: dict[str, tuple[int, str]] = {}  # step → rows dropped so far, newest error
        self._noticed: dict[str, tuple[int, int]] = {}  # step → rows dropped when last noticed, and when

    def ran(self, step: str, rows: int, ns: int) -> None:
        """Count a call of a step."""
        self._rows[step].add(rows)
        self._ns[step].add(ns)
        if step in self._inferences:
            self._inferences[step].add(rows)

    def failed(self, step: str, error: Exception, rows: Batch) -> None:
        """Count rows that a failing step dropped; tell `agentd` of it at most once a second."""
        count = self._failures.get(step, (0, ""))[0] + len(rows)
        self._failures[step] = (count, f"{type(error).__name__}: {error}"[:500])
        self._errors[step].add(len(rows))
        now = boottime_ns()
        if now - self._told_at >= TELL_NS:
            self._told_at = now
            trace = "".join(traceback.format_exception(error))[-MAX_TRACE:]
            self._channel.send(StepFailed(step, self._failures[step][1], trace, count))

    def notices(self, now: int) -> Iterator[dict[str, object]]:
        """Yield what to tell as events: a step's first failure at once, later ones once a minute."""
        for step, (count, error) in self._failures.items():
            told, at = self._noticed.get(step, (0, now - NOTICE_NS))
            if count > told and now - at >= NOTICE_NS:
                self._noticed[step] = (count, now)
                yield {"step": step, "error": error, "rows_dropped": count}
