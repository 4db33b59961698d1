"""Asking `agentd` to run a bundle or to let go of it, and waiting for what it says."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path

from edgeflow_agent.core.messages import Offer, Offered, Withdraw

ORIGIN = "http"


class Offers:
    """Pairs questions with answers by ticket; tickets begin at random, so that none repeats."""

    def __init__(self, tell: Callable[[Offer | Withdraw], bool]) -> None:
        self._tell = tell
        self._ticket = secrets.randbits(48) << 8
        self._waiting: dict[int, asyncio.Future[Offered]] = {}

    async def offer(self, name: str, staging: Path, timeout: float) -> Offered:
        """Offer a staged bundle; raises ConnectionError or TimeoutError when nobody answers."""
        return await self._ask(lambda ticket: Offer(name, ORIGIN, str(staging), ticket=ticket), timeout)

    async def withdraw(self, name: str, timeout: float) -> Offered:
        """Withdraw what was offered here under a name; raises as `offer` does."""
        return await self._ask(lambda ticket: Withdraw(name, ORIGIN, ticket=ticket), timeout)

    async def _ask(self, question: Callable[[int], Offer | Withdraw], timeout: float) -> Offered:
        self._ticket += 1
        ticket = self._ticket
        answer: asyncio.Future[Offered] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = answer
        try:
            if not self._tell(question(ticket)):
                raise ConnectionError("agentd does not take messages")
            async with asyncio.timeout(timeout):
                return await answer
        finally:
            del self._waiting[ticket]

    def answered(self, message: Offered) -> None:
        """Take an answer; one that nobody waits for any more is dropped."""
        answer = self._waiting.get(message.ticket)
        if answer is not None and not answer.done():
            answer.set_result(message)
