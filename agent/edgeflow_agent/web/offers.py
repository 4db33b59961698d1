"""Asking `agentd` to run a bundle or to let go of it, and waiting for what it says."""

from __future__ import annotations

from pathlib import Path

from edgeflow_agent.core.messages import Offer, Offered, Withdraw
from edgeflow_agent.web.asked import Asked

ORIGIN = "http"


class Offers(Asked[Offer | Withdraw, Offered]):
    """What is asked of `agentd` for bundles."""

    async def offer(self, name: str, staging: Path, timeout: float) -> Offered:
        """Offer a staged bundle; raises ConnectionError or TimeoutError when nobody answers."""
        return await self.ask(lambda ticket: Offer(name, ORIGIN, str(staging), ticket=ticket), timeout)

    async def withdraw(self, name: str, timeout: float) -> Offered:
        """Withdraw what was offered here under a name; raises as `offer` does."""
        return await self.ask(lambda ticket: Withdraw(name, ORIGIN, ticket=ticket), timeout)

    def answered(self, message: Offered) -> None:
        """Take an answer; one that nobody waits for any more is dropped."""
        self.take(message.ticket, message)
