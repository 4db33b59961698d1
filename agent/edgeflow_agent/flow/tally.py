"""What a worker counts of its steps, and whom it tells when one fails."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from edgeflow_agent.core.batch import Batch
from edgeflow_agent.core.board import Counter, Slot, labelled
from edgeflow_agent.core.channel import Channel
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.errors import raised, reason, shortened, trace_of
from edgeflow_agent.core.messages import StepFailed
from edgeflow_proto.pipeline.graph import Graph

log = logging.getLogger("edgeflow.step")
TELL_NS = 10**9
NOTICE_NS = 60 * 10**9
MAX_ERROR, MAX_TRACE = 500, 4000  # characters
MAX_LETTERS = 256  # between two commits
MAX_VALUES = 64  # of a row in a dead letter


class Tally:
    """Counts calls of steps on the board, and keeps failures until they are told.

    Port: `edgeflow_agent.runtime.run.Observer`.
    """

    def __init__(self, slot: Slot, channel: Channel, graph: Graph, models: set[str]) -> None:
        self._channel = channel
        steps = list(graph.steps)
        budgets = {name: node.handling.latency_budget for name, node in graph.steps.items()}
        self._budgets = {step: (budget, slot.counter(labelled("step_over_budget_total", step=step)))
                         for step, budget in budgets.items() if budget is not None}  # fmt: skip
        self._lettered = {
            name for name, node in graph.steps.items() if node.handling.on_error == "dead-letter"
        }
        self._letters: list[dict[str, object]] = []
        self._rows = {step: slot.counter(labelled("step_rows_total", step=step)) for step in steps}
        self._ns = {step: slot.counter(labelled("step_ns_total", step=step)) for step in steps}
        self._inferences = {step: slot.counter(labelled("inferences_total", step=step)) for step in models}
        self._errors: dict[str, Counter] = {
            step: slot.counter(labelled("step_errors_total", step=step)) for step in steps
        }
        self._told_at = 0
        self._logged: dict[str, int] = {}  # step → when its newest error was logged
        self._failures: dict[str, tuple[int, str]] = {}  # step → rows dropped so far, newest error
        self._noticed: dict[str, tuple[int, int]] = {}  # step → rows dropped when last noticed, and when

    def ran(self, step: str, rows: int, ns: int) -> None:
        """Count a call of a step."""
        self._rows[step].add(rows)
        self._ns[step].add(ns)
        if step in self._inferences:
            self._inferences[step].add(rows)
        if step in self._budgets and ns > self._budgets[step][0]:
            self._budgets[step][1].add()

    def failed(self, step: str, error: Exception, rows: Batch) -> None:
        """Count rows that a failing step dropped; tell `agentd` of it at most once a second.

        The first error of a step is logged with its traceback, and then one a minute.
        """
        count = self._failures.get(step, (0, ""))[0] + len(rows)
        self._failures[step] = (count, reason(error)[:MAX_ERROR])
        self._errors[step].add(len(rows))
        if step in self._lettered:
            self._letters += _letters(step, error, rows.take(slice(max(0, MAX_LETTERS - len(self._letters)))))
        now = boottime_ns()
        if now - self._told_at >= TELL_NS:
            self._told_at = now
            trace = shortened(trace_of(error), MAX_TRACE)
            self._channel.send(StepFailed(step, self._failures[step][1], trace, count))
        if now - self._logged.get(step, now - NOTICE_NS) >= NOTICE_NS:
            self._logged[step] = now
            log.error(self._said(step), exc_info=raised(error))

    def _said(self, step: str) -> str:
        count, error = self._failures[step]
        return f"steps.{step}: {count:,} {'row' if count == 1 else 'rows'} dropped so far: {error}"

    def letters(self) -> list[dict[str, object]]:
        """Return the dead letters since the last call: rows that a step failed on whose author wants them.

        At most `MAX_LETTERS`; what more there were is in the counts of the step's failures alone.
        """
        letters, self._letters = self._letters, []
        return letters

    def notices(self, now: int) -> Iterator[dict[str, object]]:
        """Yield what to tell as events: a step's first failure at once, later ones once a minute."""
        for step, (count, error) in self._failures.items():
            told, at = self._noticed.get(step, (0, now - NOTICE_NS))
            if count > told and now - at >= NOTICE_NS:
                self._noticed[step] = (count, now)
                yield {"step": step, "error": error, "rows_dropped": count}


def _letters(step: str, error: Exception, rows: Batch) -> Iterator[dict[str, object]]:
    why = reason(error)[:MAX_ERROR]
    for values, t, span in zip(rows.values, rows.t.tolist(), rows.span.tolist(), strict=True):
        first = values.ravel()[:MAX_VALUES].tolist()
        yield {"step": step, "reason": why, "values": first, "rows": span, "t": t}
