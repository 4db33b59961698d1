"""Recorded rows in real time, and the Ctrl-C that ends them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from edgeflow_tools import tables
from edgeflow_tools.terminal import note

LONG_S = 5.0  # a pause that is told; where rows are missing in it, it is passed over
_LOOK_S = 0.1  # between two looks at whether to stop


class Pace:
    """Lets as much time pass between commits as passed between them; of that between two boots, none.

    Nor is a long pause waited for in which rows are missing: what happened in it is not recorded.
    """

    def __init__(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Nothing is waited for once it is `stopped`."""
        self._stopped = stopped
        self._boot = ""
        self._ahead = 0.0  # seconds from when something was written to now

    def wait(self, boot: str, written_ns: int, *, missing: bool = False) -> None:
        """Wait until it is time for what was written then; rows may be `missing` before it."""
        written = written_ns / 1e9
        if boot != self._boot:
            self._boot, self._ahead = boot, time.monotonic() - written
        left = written + self._ahead - time.monotonic()
        if missing and left > LONG_S:
            note(f"nothing is recorded for {tables.duration(left)}: passed over")
            self._ahead -= left
        elif left > LONG_S:
            note(f"the next rows come in {tables.duration(left)}")
        while (left := written + self._ahead - time.monotonic()) > 0 and not self._stopped():
            time.sleep(min(left, _LOOK_S))


class Interrupt:
    """While entered, a first Ctrl-C is only noted in `asked`, so that what runs can end in order."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_error: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        note("it ends with the rows at hand; Ctrl-C again ends it at once")
