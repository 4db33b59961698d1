"""Work that blocks, done beside a loop: one job after the other, in a thread, while the loop goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Thread

from edgeflow_agent.core import shm
from edgeflow_agent.core.reactor import Reactor

Job = Callable[[], object]
Done = Callable[[Exception | None], object]


class Background:
    """Runs jobs in the order they were given, and tells the loop how each ended.

    No job is waited for when the process ends: it must be one that `kill -9` may end half-way.
    """

    def __init__(self, loop: Reactor) -> None:
        self._waiting: deque[tuple[Job, Done]] = deque()
        self._busy = False
        self._error: Exception | None = None
        self._wake = shm.eventfd()
        loop.watch(self._wake, self._ended)

    def run(self, job: Job, done: Done) -> None:
        """Run `job` in the thread, then `done` in the loop, with what `job` raised."""
        self._waiting.append((job, done))
        if not self._busy:
            self._begin()

    def _begin(self) -> None:
        self._busy = True
        try:
            Thread(target=self._work, args=(self._waiting[0][0],), daemon=True).start()
        except RuntimeError as error:  # no memory for a thread, or too many of them
            self._error = error
            shm.add(self._wake, 1)

    def _work(self, job: Job) -> None:
        try:
            job()
        except Exception as error:  # whatever it is, the loop must hear that the job is over
            self._error = error
        shm.add(self._wake, 1)

    def _ended(self) -> None:
        shm.take(self._wake)
        _, done = self._waiting.popleft()
        error, self._error, self._busy = self._error, None, False
        if self._waiting:
            self._begin()
        done(error)
