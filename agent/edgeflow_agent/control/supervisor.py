"""Children of `agentd`: started, listened to, killed when they hang, started again."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from edgeflow_agent.core import messages, spawn
from edgeflow_agent.core.board import Slot
from edgeflow_agent.core.channel import Channel, Closed
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.reactor import Reactor
from edgeflow_agent.core.spawn import Spawned
from edgeflow_agent.deploy.lifecycle import backoff_ns
from edgeflow_agent.table import Row

log = logging.getLogger("edgeflow.agentd")
AGAIN_NS = 5 * 10**9  # after which a process that could not be started is tried again
UNBORN = 127  # the code of what could not be started, as a shell has it
SOON_NS = 10 * 10**9  # a process that dies this soon after its start is made to wait


@dataclass(frozen=True, slots=True)
class Death:
    """How a process ended. `hung` when the supervisor killed it for standing still."""

    name: str
    code: int  # as subprocess has it: negative for a signal
    hung: bool
    lived_ns: int
    deaths: int  # in a row, each soon after its start
    why: str = ""  # it was never there

    def __str__(self) -> str:
        """Say it in words."""
        if self.why:
            return self.why
        if self.hung:
            return f"{self.name} stood still and was killed"
        if self.code < 0:
            return f"{self.name} was killed by {signal.Signals(-self.code).name}"
        return f"{self.name} exited with code {self.code}"


@dataclass(slots=True, eq=False)
class Child:
    """One process, over all its lives. `begin` gives it its first messages at each start.

    It is alive from when it is started until it has ended; one that is forked has no process id yet until it
    says so itself.
    """

    name: str
    row: Row
    slot: Slot
    types: object
    begin: Callable[[], None]
    heard: Callable[[object], None]
    died: Callable[[Death], None]
    channel: Channel | None = None
    pid: int = 0
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
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self.channel is not None

    def may_start(self) -> bool:
        """Say whether the one it must wait for has ended."""
        return self.after is None or not self.after.alive

    def send(self, message: msgspec.Struct, fds: tuple[int, ...] = ()) -> bool:
        """Send it a message; False when it is not there or does not take it."""
        return self.channel is not None and self.channel.send(message, fds)

    def fits(self, message: msgspec.Struct) -> bool:
        """Say whether a message is one it could take."""
        return self.channel is None or self.channel.fits(message)


class Supervisor:
    """All children. `zygote` is the one that forks others; it may have begun to load `early`."""

    def __init__(self, loop: Reactor, hang_ns: int, zygote: Child, early: Spawned | None) -> None:
        self._loop = loop
        self._hang_ns = hang_ns
        self._zygote = zygote
        self._early = early
        self._turned = self._woke = boottime_ns()  # when this process last came round, and when after a pause
        self.children: list[Child] = []

    def add(self, child: Child) -> None:
        """Take on a child and start it at the next turn."""
        child.due = boottime_ns()
        self.children.append(child)

    def remove(self, child: Child) -> None:
        """Stop a child for good; it is dropped once it has ended."""
        child.wanted, child.due = False, 0
        if not child.alive:
            self.children.remove(child)
        else:
            self.stop(child)

    def stop(self, child: Child) -> None:
        """Ask a child to end; it is killed when it has not by then."""
        child.send(messages.Stop())
        child.kill_at = boottime_ns() + child.row.stop_ns

    def turn(self) -> None:
        """Start what is due, kill what hangs.

        Where this process stood still as well (a machine that slept, a frozen group), nobody could beat.
        """
        now = boottime_ns()
        self._woke = now if now - self._turned > self._hang_ns // 2 else self._woke
        self._turned = now
        for child in list(self.children):
            if child.alive:
                self._look_after(child, now)
            elif child.due and child.due <= now and self._may_start(child):
                self._try(child)

    def _may_start(self, child: Child) -> bool:
        return child.may_start() and (self._zygote.alive or not child.row.forked)

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
        """Kill a child; one that is not born yet with the zygote that does not come round to it."""
        if not child.pid and self._zygote.pid:
            self._kill(self._zygote)
        elif child.pid:
            child.kill_at = 0
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)

    def _try(self, child: Child) -> None:
        try:
            self._start(child)
        except OSError as error:  # no memory for another process, say: the others run on
            log.error("%s cannot be started: %s", child.name, error)
            child.due = boottime_ns() + AGAIN_NS
            self._adopt()

    def _start(self, child: Child) -> None:
        child.due, child.hung, child.kill_at, child.started = 0, False, 0, boottime_ns()
        sock = self._asked(child) if child.row.forked else self._spawned(child)
        child.channel = Channel(sock, child.types)
        self._loop.watch(sock.fileno(), lambda: self._hear(child))
        child.begin()

    def _spawned(self, child: Child) -> socket.socket:
        """Start a process of its own, or take the one that has begun to load."""
        early = self._early if child is self._zygote else None
        pid, sock = early or spawn.spawn(child.row.module)
        self._early = None if early else self._early
        try:
            self._born(child, pid)
        except OSError:
            sock.close()
            raise
        return sock

    def _asked(self, child: Child) -> socket.socket:
        """Ask the zygote for a process; the first thing to be heard from it is its process id."""
        ours, theirs = spawn.pair()
        spawn.adopt(orphans=True)  # before it can be born
        with theirs:
            if self._zygote.send(messages.Fork(child.row.module), (theirs.fileno(),)):
                return ours
        ours.close()
        raise BlockingIOError("the zygote takes no more")

    def _adopt(self) -> None:
        """Adopt orphans only while a process is to be born, which is one until then."""
        spawn.adopt(orphans=any(child.alive and not child.pid for child in self.children))

    def _born(self, child: Child, pid: int) -> None:
        try:
            child.pidfd = os.pidfd_open(pid)
        except OSError:  # too many descriptors: nobody could look after it
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        child.pid = pid
        self._loop.watch(child.pidfd, lambda: self._ended(child))

    def _hear(self, child: Child) -> None:
        try:
            while child.channel is not None and (received := child.channel.receive()) is not None:
                self._heard(child, received[0])  # no child sends descriptors to agentd
        except Closed:
            assert child.channel is not None
            self._loop.forget(child.channel.fileno())  # its end follows through the pidfd
            if not child.pid:
                self._stillborn(child, "the zygote could not fork it")
        except msgspec.MsgspecError as error:
            log.error("%s sent what is not a message: %s", child.name, error)

    def _heard(self, child: Child, message: object) -> None:
        if not isinstance(message, messages.Born):
            child.heard(message)
            return
        try:
            self._born(child, message.pid)
        except OSError as error:
            self._stillborn(child, str(error))
        self._adopt()
        if child.hung:  # before it was born
            self._kill(child)

    def _stillborn(self, child: Child, why: str) -> None:
        """There is no process: it is asked for again."""
        log.error("%s cannot be started: %s", child.name, why)
        self._over(child, UNBORN, f"{child.name} cannot be started: {why}")
        self._adopt()

    def _ended(self, child: Child) -> None:
        self._hear(child)
        code = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
        self._loop.forget(child.pidfd)
        os.close(child.pidfd)
        self._over(child, code)

    def _over(self, child: Child, code: int, why: str = "") -> None:
        self._let_go(child)
        lived = boottime_ns() - child.started
        child.deaths = child.deaths + 1 if lived < SOON_NS or child.hung else 1
        if not child.wanted:
            if child in self.children:
                self.children.remove(child)
            return
        child.restarts += 1
        child.due = boottime_ns() + backoff_ns(child.deaths, child.row.backoff_ns)
        child.died(Death(child.name, code, child.hung, lived, child.deaths, why))

    def _let_go(self, child: Child) -> None:
        assert child.channel is not None
        self._loop.forget(child.channel.fileno())
        child.channel.close()
        child.channel, child.pid, child.pidfd = None, 0, -1
