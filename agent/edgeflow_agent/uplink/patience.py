"""How long a bundle that came spoiled is left alone: it may be so at the relay, and for long."""

from __future__ import annotations

import time
from typing import NamedTuple

SPOILED_S = (60.0, 6 * 3600.0)  # doubling from the first wait up to the longest


class _Wait(NamedTuple):
    revision: int
    seconds: float
    until: float


class Patience:
    """The waits of each bundle, by digest. One that is wished anew is tried at once."""

    def __init__(self) -> None:
        self._waits: dict[str, _Wait] = {}

    def spoiled(self, digest: str, revision: int) -> float:
        """Note that a bundle came spoiled; return the seconds until it may be tried again."""
        before = self._waits.get(digest)
        first, longest = SPOILED_S
        seconds = min(longest, before.seconds * 2) if before else first
        self._waits[digest] = _Wait(revision, seconds, time.monotonic() + seconds)
        return seconds

    def waits(self, digest: str, revision: int) -> bool:
        """Say whether a bundle, wished at a revision, is to be left alone for now."""
        wait = self._waits.get(digest)
        return wait is not None and wait.revision == revision and time.monotonic() < wait.until

    def keep(self, digests: set[str]) -> None:
        """Forget all bundles but these."""
        self._waits = {digest: wait for digest, wait in self._waits.items() if digest in digests}
