"""The agent's own events: what `agentd` tells, in a journal of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeflow_agent.core import clock
from edgeflow_agent.core.board import Slot, labelled
from edgeflow_agent.core.notice import notice
from edgeflow_agent.store.journal import Acked, Journal, JournalError
from edgeflow_agent.store.retention import Evicted
from edgeflow_proto.event import Block

log = logging.getLogger("edgeflow.agentd")
MAX_NOTICES = 1000  # in memory, while the disk refuses them


class Notices:
    """Events that wait to be committed, and their journal. `relieve` is asked for room where it is full."""

    def __init__(
        self, path: Path, limit: int, slot: Slot, acked: Acked, relieve: Callable[[], object]
    ) -> None:
        """Open the journal; raises JournalError."""
        self._name, self._slot, self._acked, self._relieve = path.name, slot, acked, relieve
        self._waiting: list[Block] = []
        self._journal = Journal(path, limit, gap=self._gap)
        for damage in self._journal.damaged:
            self.tell("gap", "error", damage.data)

    def _gap(self, evicted: Evicted) -> Block:
        return notice("gap", "error", evicted.data, clock.now(), clock.boottime_ns())

    def tell(self, name: str, severity: str, data: dict[str, Any]) -> None:
        """Queue an event."""
        self._waiting.append(notice(name, severity, data, clock.now(), clock.boottime_ns()))
        del self._waiting[:-MAX_NOTICES]

    def tell_now(self, name: str, severity: str, data: dict[str, Any]) -> None:
        """Commit an event before what it tells of is done; a disk that refuses it twice puts off nothing."""
        self.tell(name, severity, data)
        if not self.flush():
            self.flush()

    def flush(self) -> bool:
        """Commit what waits; return whether anything was."""
        if not self._waiting:
            return False
        try:
            evicted = self._journal.commit(self._waiting, acked=self._acked)
        except JournalError as error:
            log.error("the agent's own journal: %s", error)
            self._relieve()
            return False
        self._waiting = []
        if evicted is not None:
            for word, count in (("", evicted.count), ("_unacked", evicted.lost)):
                self._slot.counter(labelled(f"events_evicted{word}_total", pipeline=self._name)).add(count)
        return True
