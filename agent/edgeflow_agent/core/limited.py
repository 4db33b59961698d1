"""Telling of what may happen thousands of times a second: once per reason and interval, with the count."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

EVERY_NS = 10 * 10**9
Detail = TypeVar("Detail")


class Limited(Generic[Detail]):
    """Tells at once what happens for the first time, and sums up what follows within an interval."""

    def __init__(self, tell: Callable[[str, Detail, int], object], every_ns: int = EVERY_NS) -> None:
        """`tell` is given a reason, the newest detail, and how often that was since it was told before."""
        self._tell = tell
        self._every_ns = every_ns
        self._counts: dict[str, int] = {}
        self._details: dict[str, Detail] = {}
        self._due: dict[str, int] = {}

    def note(self, reason: str, detail: Detail, now: int, count: int = 1) -> None:
        """Count what happened; `detail` is that of the newest. `now` is CLOCK_BOOTTIME ns."""
        self._counts[reason] = self._counts.get(reason, 0) + count
        self._details[reason] = detail
        if reason not in self._due:
            self._say(reason, now)

    def turn(self, now: int) -> None:
        """Tell what is due."""
        for reason, due in list(self._due.items()):
            if now < due:
                continue
            if self._counts.get(reason):
                self._say(reason, now)
            else:
                del self._due[reason]

    def flush(self, now: int) -> None:
        """Tell all that was not told yet: nothing follows."""
        for reason in list(self._counts):
            self._say(reason, now)

    def _say(self, reason: str, now: int) -> None:
        self._tell(reason, self._details.pop(reason), self._counts.pop(reason))
        self._due[reason] = now + self._every_ns


class LimitedLog(Limited[str]):
    """Tells a log."""

    def __init__(self, log: logging.Logger, what: str, pipeline: str = "") -> None:
        """Begin each line with `what`, such as ``bearing-watch: inputs.accel: rejected``."""
        self._log, self._what, self._extra = log, what, {"pipeline": pipeline}
        super().__init__(self._line)

    def _line(self, reason: str, detail: str, count: int) -> None:
        self._log.warning("%s %d: %s: %s", self._what, count, reason, detail[:300], extra=self._extra)
