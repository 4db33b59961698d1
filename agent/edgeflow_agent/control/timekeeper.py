"""What `agentd` knows of the time: this boot's readings of the clock, and the boots before it.

It follows the kernel's flag, takes the relay's word where the kernel has none, and tells of steps. Nothing
here is a reason to stop anything: pipelines run on the time since boot.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import lmdb
import msgspec

from edgeflow_agent.core import clock
from edgeflow_agent.core.messages import Boots
from edgeflow_agent.store.state import State
from edgeflow_proto.event import Clock
from edgeflow_proto.timeline import Boot, Sync, following

log = logging.getLogger("edgeflow.agentd")
LOOK_NS = 10**9
STEP_NS = 500_000_000  # what is more than any slewing does between two looks
TOLD_BOOTS = 100  # in one message

Tell = Callable[[str, str, dict[str, Any]], None]  # name, severity, data


class Timekeeper:
    """Keeps the record of this boot. `changed` says that others have to be told."""

    def __init__(self, state: State, tell: Tell) -> None:
        self._state = state
        self._tell = tell
        known = state.boots()
        self._before = [boot for boot in known if boot.id != clock.boot_id()]
        this = next((boot for boot in known if boot.id == clock.boot_id()), None)
        self._boot = this or following(self._before, clock.boot_id())
        self._offset = clock.wall_ns() - clock.boottime_ns()
        self._looked = 0
        self._untold: deque[Boots] = deque()
        self.changed = True
        self.live()

    @property
    def boots(self) -> tuple[Boot, ...]:
        """This boot and the ones before it that are remembered, oldest first."""
        return (*self._before, self._boot)

    def tell(self, send: Callable[[Boots], bool]) -> None:
        """Say what is known, in as many messages as it takes; the next call goes on where `send` said no."""
        if self.changed:
            boots = self.boots
            places = range(0, len(boots), TOLD_BOOTS)
            self._untold = deque(Boots(boots[at : at + TOLD_BOOTS], at, len(boots)) for at in places)
            self.changed = False
        while self._untold and send(self._untold[0]):
            self._untold.popleft()

    def turn(self) -> None:
        """Look at the clock once a second."""
        now = clock.boottime_ns()
        if now - self._looked >= LOOK_NS:
            self._looked = now
            self._look(clock.now(), now)

    def _look(self, reading: Clock, now: int) -> None:
        step = reading.offset_ns - self._offset
        if abs(step) > STEP_NS:
            log.warning("the wall clock was set %+.3f s", step / 1e9)
            self._tell("clock.stepped", "warning", {"seconds": step / 1e9, "quality": reading.quality})
        self._offset = reading.offset_ns
        if reading.uncertainty_ns is not None:
            self.learn(Sync(now, reading.offset_ns, reading.uncertainty_ns, "synchronised"))

    def learn(self, sync: Sync) -> None:
        """Keep a reading that says something new; the first one of a boot is told."""
        boot = self._boot.learnt(sync)
        if boot is self._boot:
            return
        if boot.denials > self._boot.denials:
            log.warning("the relay says a time that has passed already: not believed yet")
        if boot.syncs and not self._boot.syncs:
            data = {"quality": sync.quality, "uncertainty_ns": sync.uncertainty_ns}
            self._tell("clock.known", "info", data)
        self._boot, self.changed = boot, True
        self.live()

    def live(self) -> None:
        """Remember how far this boot has come; a full disk must not stop what runs."""
        self._boot = msgspec.structs.replace(self._boot, seen_ns=clock.boottime_ns())
        with contextlib.suppress(lmdb.Error):
            self._state.keep_boot(self._boot)
