"""The log output: a line per row in the agent's log, not more of them than it can bear."""

from __future__ import annotations

import logging

import msgspec

from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.messages import EffectRow
from edgeflow_agent.outputs.base import Output, OutputContext, line_of
from edgeflow_proto.pipeline.kinds.outputs import Log

MAX_LINE = 2000  # characters
log = logging.getLogger("edgeflow.log")


class LogOutput(Output):
    """Writes a line at once. As many as come within a second at `rate` may come together (a token bucket)."""

    def __init__(self, options: Log, context: OutputContext) -> None:
        self._options = options
        self._account = context.account
        self._level = logging.getLevelNamesMapping()[options.level.upper()]
        self._begin = f"{context.pipeline}: outputs.{context.name}:"
        self._extra = {"pipeline": context.pipeline}
        self._most = self._room = max(1.0, float(options.rate))
        self._filled = boottime_ns()

    def carry_out(self, row: EffectRow) -> None:
        """Log a row, or count it where lines come too fast."""
        now = boottime_ns()
        gained = (now - self._filled) * 1e-9 * self._options.rate
        self._room, self._filled = min(self._most, self._room + gained), now
        if self._room < 1:
            self._account.dropped("rate", f"more than {self._options.rate:g} lines a second")
            return
        self._room -= 1
        line = msgspec.json.encode(line_of(row)).decode()
        line = line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}…"
        log.log(self._level, "%s %s", self._begin, line, extra=self._extra)
        self._account.done()

    def turn(self, now: int) -> None:
        """Say how many rows were not logged, when it is due."""
        self._account.turn(now)
