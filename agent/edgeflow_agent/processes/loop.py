"""The event loop of `agentd`: descriptors, signals, and a turn at least every so often."""

from __future__ import annotations

import selectors
import signal
import socket
from collections.abc import Callable


class Loop:
    """Calls back for readable descriptors; `run` returns when asked to stop."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._signals: dict[int, Callable[[], None]] = {}
        self._wake, waker = socket.socketpair()
        self._wake.setblocking(False)
        waker.setblocking(False)
        self._waker = waker
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        self.watch(self._wake.fileno(), self._signalled)

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back whenever `fd` is readable."""
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def forget(self, fd: int) -> None:
        """Stop watching; a descriptor that is not watched is fine."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def on_signal(self, number: signal.Signals, callback: Callable[[], None]) -> None:
        """Call back, from the loop, when a signal arrived."""
        self._signals[number] = callback
        signal.signal(number, lambda *_: None)

    def _signalled(self) -> None:
        for number in self._wake.recv(4096):
            self._signals.get(number, lambda: None)()

    def stop(self) -> None:
        """Let `run` return after this turn."""
        self._stopping = True

    def run(self, turn: Callable[[], None], every_s: float) -> None:
        """Serve until `stop`; `turn` is called after each batch of callbacks, at least every `every_s`."""
        self._stopping = False
        while not self._stopping:
            for key, _ in self._selector.select(every_s):
                key.data()
            turn()
