"""A bell: wakes every task that waits for it, each time it is rung."""

from __future__ import annotations

import asyncio
import contextlib


class Bell:
    """Look at what the bell stands for and then wait: no ring is missed when no `await` is between the two.

    Where the look itself takes an `await`, note the number of `rings` before it.
    """

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self.rings = 0

    def ring(self) -> None:
        """Wake all that wait now."""
        self.rings += 1
        rung, self._rung = self._rung, asyncio.Event()
        rung.set()

    async def wait(self, timeout: float | None = None, *, since: int | None = None) -> bool:
        """Wait for the next ring, or the one after `since` rings; False when none came in `timeout` s."""
        if since is not None and since != self.rings:
            return True
        rung = self._rung
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await rung.wait()
        return rung.is_set()
