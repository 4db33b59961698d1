"""Which boots say hello in a device's name: two at once, or one that comes back, are two devices.

Devices made from one card image have one name and one copied store; their boots tell them apart. What is
known is in memory: a relay that starts learns it anew.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

RIVAL_S = 180.0  # a refused agent tries again more often than that
FORMER = 16


@dataclass(slots=True)
class _Known:
    boot: str  # the newest one that was let in
    heard: float
    former: deque[str] = field(default_factory=lambda: deque(maxlen=FORMER))
    suspected: bool = False  # another boot was refused since this one was heard


class Boots:
    """The boots of all devices. One that has not been heard for `patience` seconds may have ended."""

    def __init__(self, patience: float, now: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience
        self._now = now
        self._known: dict[str, _Known] = {}

    def rival(self, device: str, boot: str, connected: Collection[str]) -> float:
        """Return for how many seconds who says hello counts as a device's rival; 0 when it is let in.

        `connected` are the boots with an open stream. A boot that was never seen may be the same device's
        next one: it is a rival only until the one before has been silent, or has no stream any more.
        """
        known = self._known.get(device)
        if known is None or boot in ("", known.boot):
            return 0.0
        silent = self._now() - known.heard
        if boot in known.former:
            return RIVAL_S if silent < RIVAL_S else 0.0
        left = max(0.0, self._patience - silent) if known.boot in connected else 0.0
        known.suspected |= left > 0
        return left

    def admit(self, device: str, boot: str) -> bool:
        """Note who is let in; returns whether another boot was here since: there are two devices."""
        if not boot:
            return False
        known = self._known.setdefault(device, _Known(boot, 0.0))
        back = boot in known.former
        if back:
            known.former.remove(boot)
        if boot != known.boot:
            known.former.append(known.boot)
            known.boot, known.suspected = boot, False
        known.heard = self._now()
        return back

    def heard(self, device: str, boot: str) -> bool:
        """Note that a device spoke; returns whether that proves one that was refused to be a rival."""
        known = self._known.get(device)
        if known is None or boot != known.boot:
            return False
        known.heard = self._now()
        proved, known.suspected = known.suspected, False
        return proved
