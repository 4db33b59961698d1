"""Children of `agentd`: started, listened to, killed when they hang, started again."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from edgeflow_agent.core.board import Board, Slot
from edgeflow_agent.core.channel import Channel, Closed
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.reactor import Reactor
from edgeflow_agent.core.spawn import HeadStart
from edgeflow_agent.deploy.lifecycle import backoff_ns
from edgeflow_agent.table import Row

log = logging.getLogger("edgeflow.agentd")
AGAIN_NS = 5 * 10**9  # after which a process that could not be started is tried again
SOON_NS = 10 * 10**9  # a process that dies this soon after its start is made to wait


@dataclass(frozen=True, slots=True)
class Death:
    """How a process ended. `hung` when the supervisor killed it for standing still."""

    name: str
    code: int  # as subprocess has it: negative for a signal
    hung: bool
    lived_ns: int
    deaths: int  # in a row, each soon after its start

    def __str__(self) -> str:
        """Say it in words."""
        if self.hung:
            return f"{self.name} stood still and was killed"
        if self.code < 0:
            return f"{self.name} was killed by {signal.Signals(-self.code).name}"
        return f"{self.name} exited with code {self.code}"


@dataclass(slots=True, eq=False)
class Child:
    """One process, over all its lives. `begin` gives it its first messages at each start."""

    name: str
    row: Row
    slot: Slot
    types: object
    begin: Callable[[], None]
    heard: Callable[[object], None]
    died: Callable[[Death], None]
    process: subprocess.Popen[bytes] | None = None
    channel: Channel | None = None
    pidfd: int = -1
    started: int = 0
    restarts: int = 0
    deaths: int = 0
    due: int = 0  # when to start it, CLOCK_BOOTTIME ns; 0 when it runs or must not
    hung: bool = False
    wanted: bool = True
    kill_at: int = 0
    after: Child | None = None  # not started before this one has ended

    @property
    def pid(self) -> int:
        """Its process id, 0 when it is not running."""
        return self.process.pid if self.process else 0

    def may_start(self) -> bool:
        """Say whether the one it must wait for has ended."""
        return self.after is None or self.after.process is None

    def send(self, message: msgspec.Struct, fds: tuple[int, ...] = ()) -> bool:
        """Send it a message; False when it is not there or does not take it."""
        return self.channel is not None and self.channel.send(message, fds)

    def fits(self, message: msgspec.Struct) -> bool:
        """Say whether a message is one it could take."""
        return self.channel is None or self.channel.fits(message)


class Supervisor:
    """All children."""

    def __init__(self, loop: Reactor, board: Board, hang_ns: int, head_start: HeadStart) -> None:
        self._loop = loop
        self._head_start = head_start
        self._board = board
        self._hang_ns = hang_ns
        self._turned = self._woke = boottime_ns()  # when this process last came round, and when after a pause
        self.children: list[Child] = []

    def add(self, child: Child) -> None:
        """Take on a child and start it at the next turn."""
        child.due = boottime_ns()
        self.children.append(child)

    def remove(self, child: Child) -> None:
        """Stop a child for good; it is dropped once it has ended."""
        child.wanted, child.due = False, 0
        if child.process is None:
            self.children.remove(child)
        else:
            self.stop(child)

    def stop(self, child: Child) -> None:
        """Ask a child to end; it is killed when it has not by then."""
        from edgeflow_agent.core.messages import Stop

        child.send(Stop())
        child.kill_at = boottime_ns() + child.row.stop_ns

    def turn(self) -> None:
        """Start what is due, kill what hangs.

        Where this process stood still as well (a machine that slept, a frozen group), nobody could beat.
        """
        now = boottime_ns()
        self._woke = now if now - self._turned > self._hang_ns // 2 else self._woke
        self._turned = now
        for child in list(self.children):
            if child.process is None and child.due and child.due <= now and child.may_start():
                self._try(child)
            elif child.process is not None:
                self._look_after(child, now)

    def _look_after(self, child: Child, now: int) -> None:
        if child.kill_at and now >= child.kill_at:
            self._kill(child)
        elif not child.hung and self._stands_still(child, now):
            child.hung = True
            log.error("%s stands still: killed", child.name)
            self._kill(child)

    def _stands_still(self, child: Child, now: int) -> bool:
        beaten = child.slot.beaten
        if beaten < child.started:
            return now - max(child.started, self._woke) > max(child.row.start_ns, self._hang_ns)
        return now - max(beaten, self._woke) > self._hang_ns

    def _kill(self, child: Child) -> None:
        child.kill_at = 0
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)

    def _try(self, child: Child) -> None:
        try:
            self._start(child)
        except OSError as error:  # no memory for another process, say: the others run on
            log.error("%s cannot be started: %s", child.name, error)
            child.due = boottime_ns() + AGAIN_NS

    def _start(self, child: Child) -> None:
        child.due, child.hung, child.kill_at, child.started = 0, False, 0, boottime_ns()
        child.process, sock = self._head_start.take(child.row.module)
        child.channel = Channel(sock, child.types)
        child.pidfd = os.pidfd_open(child.process.pid)
        self._loop.watch(child.pidfd, lambda: self._ended(child))
        self._loop.watch(sock.fileno(), lambda: self._hear(child))
        child.begin()

    def _hear(self, child: Child) -> None:
        if child.channel is None:
            return
        try:
            while (received := child.channel.receive()) is not None:
                child.heard(received[0])  # no child sends descriptors to agentd
        except Closed:
            self._loop.forget(child.channel.fileno())  # its end follows through the pidfd
        except msgspec.MsgspecError as error:
            log.error("%s sent what is not a message: %s", child.name, error)

    def _ended(self, child: Child) -> None:
        if child.process is None or child.channel is None:
            return
        self._hear(child)
        code = child.process.wait()
        self._loop.forget(child.pidfd)
        self._loop.forget(child.channel.fileno())
        os.close(child.pidfd)
        child.channel.close()
        child.process, child.channel, child.pidfd = None, None, -1
        lived = boottime_ns() - child.started
        child.deaths = child.deaths + 1 if lived < SOON_NS or child.hung else 1
        if not child.wanted:
            if child in self.children:
                self.children.remove(child)
            return
        child.restarts += 1
        child.due = boottime_ns() + backoff_ns(child.deaths, child.row.backoff_ns)
        child.died(Death(child.name, code, child.hung, lived, child.deaths))

    def running(self) -> list[Child]:
        """Return the children that have a process now."""
        return [child for child in self.children if child.process is not None]
