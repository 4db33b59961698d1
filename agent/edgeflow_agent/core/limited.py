"""Logging of what may happen thousands of times a second: a line per reason and interval, with the count."""

from __future__ import annotations

import logging

EVERY_NS = 10 * 10**9


class LimitedLog:
    """Says at once what happens for the first time, and sums up what follows within `EVERY_NS`."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        """Begin each line with `what`, such as ``bearing-watch: inputs.accel: rejected``."""
        self._log = log
        self._what = what
        self._counts: dict[str, int] = {}
        self._details: dict[str, str] = {}
        self._due: dict[str, int] = {}

    def note(self, reason: str, detail: str, now: int, count: int = 1) -> None:
        """Count what happened; `detail` is that of the newest. `now` is CLOCK_BOOTTIME ns."""
        self._counts[reason] = self._counts.get(reason, 0) + count
        self._details[reason] = detail
        if reason not in self._due:
            self._write(reason, now)

    def turn(self, now: int) -> None:
        """Write the lines that are due."""
        for reason, due in list(self._due.items()):
            if now < due:
                continue
            if self._counts.get(reason):
                self._write(reason, now)
            else:
                del self._due[reason]

    def _write(self, reason: str, now: int) -> None:
        count = self._counts.pop(reason)
        self._log.warning("%s %d: %s: %s", self._what, count, reason, self._details.pop(reason)[:300])
        self._due[reason] = now + EVERY_NS
