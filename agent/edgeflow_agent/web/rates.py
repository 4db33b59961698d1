"""Counts looked at again and again, as rates."""

from __future__ import annotations

import time


class Rates:
    """Turns counts into rates between one look and the next; whoever shows them finds them made."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, int]] = {}
        self._rates: dict[str, float] = {}

    def look(self, name: str, count: int) -> None:
        """Take a count; without an earlier one, or after a restart of whoever counts, there is no rate."""
        now = time.monotonic()
        at, before = self._before.get(name, (now, 0))
        self._before[name] = (now, count)
        self._rates.pop(name, None)
        if now > at and count >= before:
            self._rates[name] = (count - before) / (now - at)

    def per_second(self, name: str) -> float | None:
        """Return the rate between the last two looks, if there is one."""
        return self._rates.get(name)
