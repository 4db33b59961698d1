"""The supervisor, over a clock of our own, with processes that never are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from edgeflow_agent.control import supervisor
from edgeflow_agent.control.supervisor import Child, Supervisor
from edgeflow_agent.core import board
from edgeflow_agent.core.reactor import Reactor
from edgeflow_agent.table import Row

SECOND = 10**9


class Watch:
    """Time, and who was killed."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000 * SECOND
        self.killed: list[str] = []
        patch.setattr(supervisor, "boottime_ns", lambda: self.now)
        patch.setattr(Supervisor, "_kill", lambda _, child: self.killed.append(child.name))
        memory = board.Board(board.create())
        self.supervisor = Supervisor(Reactor(), memory, 10 * SECOND, cast("Any", self))
        self.child = Child("io", Row("none", 1), memory.slot(1), None, *[cast("Any", None)] * 3)

    def take(self, module: str) -> None:
        raise BlockingIOError("no memory for a process")

    def runs(self) -> None:
        self.supervisor.children.append(self.child)
        self.child.process, self.child.started = cast("Any", object()), self.now
        self.beat()

    def beat(self) -> None:
        self.child.slot._words[0] = self.now

    def passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += SECOND
            self.supervisor.turn()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    with monkeypatch.context() as patch:
        yield Watch(patch)


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
    assert watch.child.process is None
