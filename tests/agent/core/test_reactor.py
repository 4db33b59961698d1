from __future__ import annotations

import os

from edgeflow_agent.core import shm
from edgeflow_agent.core.reactor import Reactor


def turns(loop: Reactor, count: int) -> None:
    left = count

    def turn() -> None:
        nonlocal left
        left -= 1
        if not left:
            loop.stop()

    loop.run(turn, 0.01)


def test_a_watch_that_has_ended_is_not_called_for_a_descriptor_of_the_same_number() -> None:
    loop, one, other = Reactor(), shm.eventfd(), shm.eventfd()
    seen: list[tuple[str, int]] = []

    def ends_the_other() -> None:
        shm.take(one)
        loop.forget(other)
        os.close(other)
        again = shm.eventfd()
        assert again == other
        shm.add(again, 5)
        loop.watch(again, lambda: seen.append(("new", shm.take(again))))

    loop.watch(one, ends_the_other)
    loop.watch(other, lambda: seen.append(("old", shm.take(other))))
    shm.add(one, 1)
    shm.add(other, 1)
    turns(loop, 3)
    assert seen == [("new", 5)]
    shm.close(one, other)


def test_a_watch_that_ends_while_reading_is_not_called_for_writing() -> None:
    loop, fd = Reactor(), shm.eventfd()
    written: list[bool] = []
    loop.watch(fd, lambda: loop.forget(fd), lambda: written.append(True))
    shm.add(fd, 1)
    turns(loop, 2)
    assert not written
    shm.close(fd)
