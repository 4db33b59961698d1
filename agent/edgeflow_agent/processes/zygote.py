"""`zygote`: has loaded all that `io` and workers need, and forks them.

They begin in milliseconds in place of the time it takes to import all that, and share its memory with each
other until they write to it. What it forks becomes a child of `agentd`, so its own death harms nobody.
Sources: fork(2); PR_SET_CHILD_SUBREAPER(2const); Python's library reference, ``gc.freeze``.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import socket
import time
from collections.abc import Callable
from typing import NoReturn

from setproctitle import setproctitle

from edgeflow_agent.core import footprint, logs, messages, spawn
from edgeflow_agent.core.board import Board, Slot
from edgeflow_agent.core.channel import Channel, Closed
from edgeflow_agent.processes import io, worker
from edgeflow_proto.pipeline.kinds.base import GROUPS, kinds

log = logging.getLogger("edgeflow.zygote")
BEAT_MS = 500
ADOPTED_S = 0.0002  # between two looks whether `agentd` is the parent by now

Live = Callable[[], NoReturn]
MODULES: dict[str, Live] = {module.__name__: module.live for module in (io, worker)}


def serve(channel: Channel, slot: Slot) -> Live | None:
    """Fork as `agentd` asks; returns in each new process what it shall do, and here in the end ``None``."""
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    settled = time.monotonic() + footprint.SETTLED_S
    while True:
        slot.beat()
        if not poll.poll(BEAT_MS) and time.monotonic() > settled:
            settled = float("inf")
            footprint.trim()
        while (received := channel.receive()) is not None:
            message, fds = received
            if not isinstance(message, messages.Fork):
                return None
            if born(fds[0]):
                channel.close()
                return MODULES[message.module]


def born(control: int) -> bool:
    """Fork a process that becomes a child of this one's parent; true in the new one.

    `control` leads to the parent, which is told the process id; where nothing can be forked it is closed.
    """
    parent = os.getppid()
    try:
        between = os.fork()
        if between:
            os.waitpid(between, 0)
            os.close(control)
            return False
    except OSError as error:  # no memory for another process, say
        log.error("nothing can be forked: %s", error)
        os.close(control)
        return False
    _fork_and_end()
    if os.getppid() == parent:
        with socket.socket(fileno=os.dup(control)) as sock:
            Channel(sock, None).send(messages.Born(os.getpid()))
    os.environ |= spawn.given(control, parent)
    return True


def _fork_and_end() -> None:
    """Fork once more and end. What is forked has no parent until it is adopted; then this returns."""
    between, pid = os.getpid(), -1
    try:
        pid = os.fork()
    finally:
        if pid:
            os._exit(0)
    while os.getppid() == between:
        time.sleep(ADOPTED_S)


def main() -> Live | None:
    """Run the process that `agentd` started; returns in what it forks what that shall do."""
    channel = Channel(spawn.inherited(), messages.ToZygote)
    setproctitle("edgeflow zygote")
    try:
        message, fds = channel.wait()
        if not isinstance(message, messages.StartZygote):
            return None
        for role in GROUPS:
            kinds(role)
        gc.freeze()  # what is loaded stays, so that nobody's collector writes to it
        slot = Board(fds[0]).slot(message.slot)
        os.close(fds[0])  # what is forked has one of its own
        return serve(channel, slot)
    except Closed:
        return None


if __name__ == "__main__":
    logs.begin()
    live = main()
    if live is not None:
        live()
