"""A bell: wakes every task that waits for it, each time it is rung."""

from __future__ import annotations

import asyncio
import contextlib


class Bell:
    """Look at what the bell stands for and then wait, without an `await` between, and no ring is missed."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake all that wait now."""
        rung, self._rung = self._rung, asyncio.Event()
        rung.set()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for the next ring; False when none came in `timeout` seconds."""
        rung = self._rung
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await rung.wait()
        return rung.is_set()
