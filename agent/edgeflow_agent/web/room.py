"""Asking `agentd` for room on the disk before a bundle is written to it."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from edgeflow_agent.core.messages import Claim, Claimed
from edgeflow_agent.web.asked import Asked

WAIT_S = 60.0  # longer than `agentd` takes to make room, or to say that there is none


class Room(Asked[Claim, Claimed]):
    """What is asked of `agentd` for the bytes of bundles."""

    def __init__(self, tell: Callable[[Claim], bool]) -> None:
        super().__init__(tell)
        self._tell_again = tell

    @contextlib.asynccontextmanager
    async def claim(self, size: int, folder: Path) -> AsyncIterator[None]:
        """Have room for `size` bytes below `folder`, where nobody else writes meanwhile.

        Raises OSError where there is none (EFBIG: nor will be), or nobody answers.
        """
        answer = await self.ask(lambda ticket: Claim(ticket, size, str(folder)), WAIT_S)
        if answer.reason:
            raise OSError(errno.EFBIG if answer.never else errno.ENOSPC, answer.reason)
        try:
            yield
        finally:
            self._release(answer)

    def answered(self, message: Claimed) -> None:
        """Take an answer; room that nobody waits for any more is given back."""
        if not self.take(message.ticket, message):
            self._release(message)

    def _release(self, answer: Claimed) -> None:
        self._tell_again(Claim(answer.ticket, 0))
