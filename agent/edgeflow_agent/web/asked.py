"""Questions to `agentd` and their answers, paired by ticket."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Asked(Generic[Question, Answer]):
    """Those that wait for their answer. Tickets begin at random, so that none repeats."""

    def __init__(self, tell: Callable[[Question], bool]) -> None:
        self._tell = tell
        self._ticket = secrets.randbits(48) << 8
        self._waiting: dict[int, asyncio.Future[Answer]] = {}

    async def ask(self, question: Callable[[int], Question], timeout: float) -> Answer:
        """Ask what `question` makes of a ticket; raises ConnectionError or TimeoutError without an answer."""
        self._ticket += 1
        ticket = self._ticket
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = answer
        try:
            if not self._tell(question(ticket)):
                raise ConnectionError("agentd does not take messages")
            async with asyncio.timeout(timeout):
                return await answer
        finally:
            del self._waiting[ticket]

    def take(self, ticket: int, answer: Answer) -> bool:
        """Take an answer; return whether anybody still waits for it."""
        waiting = self._waiting.get(ticket)
        if waiting is None or waiting.done():
            return False
        waiting.set_result(answer)
        return True
