"""One thread that serves descriptors, timers and signals: the loop of `agentd` and of `io`."""

from __future__ import annotations

import heapq
import itertools
import selectors
import signal
import socket
import time
from collections.abc import Callable

Callback = Callable[[], object]


class Timer:
    """A call to come; `cancel` takes it back."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Do not call any more."""
        self.callback = None


class Reactor:
    """Calls back for readable and writable descriptors and when time has come; `run` returns after `stop`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._signals: dict[int, Callback] = {}

    def watch(self, fd: int, read: Callback | None, write: Callback | None = None) -> None:
        """Call back whenever `fd` is readable or writable, in place of what was asked for it before."""
        events = (selectors.EVENT_READ if read else 0) | (selectors.EVENT_WRITE if write else 0)
        if fd in self._selector.get_map():
            self._selector.modify(fd, events, (read, write))
        else:
            self._selector.register(fd, events, (read, write))

    def forget(self, fd: int) -> None:
        """Stop watching; a descriptor that is not watched is fine."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def after(self, seconds: float, callback: Callback) -> Timer:
        """Call back once, `seconds` from now."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def on_signal(self, number: signal.Signals, callback: Callback) -> None:
        """Call back, from the loop, when a signal arrived. For the main thread."""
        if not self._signals:
            self._wake, self._waker = socket.socketpair()
            self._wake.setblocking(False)
            self._waker.setblocking(False)
            signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
            self.watch(self._wake.fileno(), self._signalled)
        self._signals[number] = callback
        signal.signal(number, lambda *_: None)

    def _signalled(self) -> None:
        for number in self._wake.recv(4096):
            if number in self._signals:
                self._signals[number]()

    def stop(self) -> None:
        """Let `run` return after this turn."""
        self._stopping = True

    def run(self, turn: Callback, every_s: float) -> None:
        """Serve until `stop`; `turn` is called first, and after each batch of callbacks or `every_s`."""
        self._stopping = False
        turn()
        while not self._stopping:
            for key, events in self._selector.select(self._patience(every_s)):
                self._serve(key, events)
            self._ring()
            turn()

    def _patience(self, every_s: float) -> float:
        due = self._timers[0][0] - time.monotonic() if self._timers else every_s
        return max(0.0, min(due, every_s))

    def _serve(self, key: selectors.SelectorKey, events: int) -> None:
        """Call back, unless one before it in this turn has ended the watch: the number may be another's."""
        read, write = key.data
        if read is not None and events & selectors.EVENT_READ and self._holds(key):
            read()
        if write is not None and events & selectors.EVENT_WRITE and self._holds(key):
            write()

    def _holds(self, key: selectors.SelectorKey) -> bool:
        known = self._selector.get_map().get(key.fd)
        return known is not None and known.data is key.data

    def _ring(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                timer.callback()
