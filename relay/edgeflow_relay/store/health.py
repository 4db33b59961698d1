"""What the store refuses at this moment, and why: one place for all who ask something of it."""

from __future__ import annotations

import time

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

LAPSE_S = 180.0  # what is refused is tried again more often than that, or is of no interest any more


def refusal(error: BaseException) -> str:
    """Return why the store refused; empty where the error is none of the store's."""
    if isinstance(error, MemoryError):
        return str(error) or "out of memory"
    if isinstance(error, DBAPIError) and not isinstance(error, DataError | IntegrityError):
        return str(error.orig)
    return ""


class Health:
    """Each kind of thing that is refused, in words such as "events cannot be stored", with the reason."""

    def __init__(self) -> None:
        self._whys: dict[str, tuple[str, float]] = {}
        self.failures = 0

    def refused(self, what: str, why: str) -> bool:
        """Note a refusal; returns whether that is news."""
        news = self.why(what) != why
        self._whys[what] = why, time.monotonic()
        self.failures += 1
        return news

    def works(self, what: str) -> None:
        """Note that it is refused no longer."""
        self._whys.pop(what, None)

    def why(self, what: str) -> str:
        """Return why something is refused; empty while it is not."""
        why, at = self._whys.get(what, ("", 0.0))
        return why if time.monotonic() - at < LAPSE_S else ""

    @property
    def reasons(self) -> list[str]:
        """All that is refused, each with its reason."""
        return [f"{what}: {self.why(what)}" for what in self._whys if self.why(what)]
