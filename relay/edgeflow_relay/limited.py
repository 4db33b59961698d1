"""Log lines that others can cause, at a limited rate."""

from __future__ import annotations

import logging
import time

EVERY_S = 10.0
_MOST = 1000  # keys remembered


class Limited:
    """Logs the first line of a key at once and the next ones not more often than every ten seconds."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._since: dict[str, tuple[float, int]] = {}  # key → when it was logged, how many were not since

    def warning(self, key: str, words: str) -> None:
        """Log a line, or count it to the next one that is logged."""
        now = time.monotonic()
        at, held = self._since.get(key, (-EVERY_S, 0))
        if now - at < EVERY_S:
            self._since[key] = at, held + 1
            return
        if len(self._since) >= _MOST:
            self._since.clear()
        self._since[key] = now, 0
        self._log.warning("%s: %s%s", key, words, f" ({held} more like it)" if held else "")
