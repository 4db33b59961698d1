"""The supervisor, over a clock of our own, with processes that never are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, cast

import pytest

from edgeflow_agent.control import supervisor
from edgeflow_agent.control.supervisor import Child, Death, Supervisor
from edgeflow_agent.core import board, messages, spawn
from edgeflow_agent.core.channel import Channel
from edgeflow_agent.core.reactor import Reactor
from edgeflow_agent.table import Row

SECOND = 10**9
KILL = Supervisor._kill


class Watch:
    """Time, and who was killed."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000 * SECOND
        self.killed: list[str] = []
        self.died: list[Death] = []
        patch.setattr(supervisor, "boottime_ns", lambda: self.now)
        patch.setattr(Supervisor, "_kill", lambda _, child: self.killed.append(child.name))
        patch.setattr(spawn, "spawn", self.spawn)
        patch.setattr(spawn, "adopt", self.adopt)
        self.adopts = False
        self.memory = board.Board(board.create())
        self.zygote = self.make("zygote", 3)
        self.supervisor = Supervisor(Reactor(), 10 * SECOND, self.zygote, None)
        self.child = self.make("io", 1)

    def make(self, name: str, slot: int, *, forked: bool = False) -> Child:
        row = Row("none", slot, forked=forked)
        begin = heard = cast("Any", lambda *_: None)
        return Child(name, row, self.memory.slot(slot), messages.FromIo, begin, heard, self.died.append)

    def spawn(self, module: str) -> None:
        raise BlockingIOError("no memory for a process")

    def adopt(self, *, orphans: bool) -> None:
        self.adopts = orphans

    def close(self) -> None:
        for child in (self.zygote, self.child):
            if isinstance(child.channel, Channel):
                child.channel.close()

    def runs(self) -> None:
        self.supervisor.children.append(self.child)
        self.child.channel, self.child.started = cast("Any", object()), self.now
        self.beat()

    def asked(self) -> Channel:
        """Ask a zygote for the child; returns where it would read the requests."""
        ours, theirs = spawn.pair()
        self.zygote.channel = Channel(ours, None)
        self.child = self.make("io", 1, forked=True)
        self.supervisor.add(self.child)
        self.supervisor.turn()
        return Channel(theirs, messages.ToZygote)

    def hears(self) -> None:
        self.supervisor._hear(self.child)

    def beat(self) -> None:
        self.child.slot._words[0] = self.now

    def passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += SECOND
            self.supervisor.turn()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    with monkeypatch.context() as patch:
        made = Watch(patch)
        yield made
        made.close()


def test_a_child_that_stands_still_is_killed(watch: Watch) -> None:
    watch.runs()
    watch.passes(9)
    assert not watch.killed
    watch.passes(2)
    assert watch.killed == ["io"]


def test_nobody_is_killed_because_the_machine_slept(watch: Watch) -> None:
    watch.runs()
    watch.passes(1)
    watch.now += 3600 * SECOND
    watch.supervisor.turn()
    assert not watch.killed
    watch.passes(11)
    assert watch.killed == ["io"]


def test_a_child_that_cannot_be_started_is_tried_again(watch: Watch) -> None:
    watch.supervisor.add(watch.child)
    watch.supervisor.turn()
    assert watch.child.due == watch.now + supervisor.AGAIN_NS
    assert not watch.child.alive


def test_what_is_forked_waits_for_the_zygote(watch: Watch) -> None:
    watch.child = watch.make("io", 1, forked=True)
    watch.supervisor.add(watch.child)
    watch.passes(5)
    assert not watch.child.alive


def test_what_the_zygote_cannot_fork_is_asked_for_again_later_and_later(watch: Watch) -> None:
    requests = watch.asked()
    waits = []
    for _ in range(4):
        received = requests.receive()
        assert received is not None
        assert received[0] == messages.Fork("none")
        assert watch.adopts
        os.close(received[1][0])
        watch.hears()
        assert not watch.child.alive
        assert not watch.adopts
        waits.append(watch.child.due - watch.now)
        watch.now = watch.child.due
        watch.supervisor.turn()
    assert waits == [0, SECOND // 4, SECOND // 2, SECOND]
    assert str(watch.died[-1]) == "io cannot be started: the zygote could not fork it"
    assert watch.died[-1].deaths == 4
    requests.close()


def test_a_zygote_that_takes_no_more_is_asked_again(watch: Watch) -> None:
    watch.asked().close()
    watch.hears()
    watch.now = watch.child.due
    watch.supervisor.turn()
    assert watch.child.due == watch.now + supervisor.AGAIN_NS


def test_with_a_child_that_is_not_born_the_zygote_is_killed(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Supervisor, "_kill", KILL)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    requests = watch.asked()
    watch.zygote.pid, watch.zygote.pidfd = process.pid, os.pidfd_open(process.pid)
    watch.supervisor._kill(watch.child)
    assert process.wait(10) == -signal.SIGKILL
    os.close(watch.zygote.pidfd)
    requests.close()
