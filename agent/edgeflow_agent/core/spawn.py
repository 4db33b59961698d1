"""Starting processes of the agent: a module, with one end of a socket to `agentd`.

Nothing heavy is imported here, so that processes can be given a head start: they load while `agentd` does.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import NamedTuple

CONTROL_ENV = "EDGEFLOW_CONTROL"
MAX_MESSAGE = 160 << 10


class Spawned(NamedTuple):
    """A process and `agentd`'s end of the socket to it."""

    process: subprocess.Popen[bytes]
    sock: socket.socket


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected non-blocking message sockets. Source: unix(7), SOCK_SEQPACKET."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for sock in (left, right):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_MESSAGE * 2)
    return left, right


def spawn(module: str) -> Spawned:
    """Start a module as a process that dies with this one; raises OSError."""
    ours, theirs = pair()
    environment = {**os.environ, CONTROL_ENV: f"{theirs.fileno()}:{os.getpid()}"}
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
    return Spawned(process, ours)


class HeadStart:
    """Processes started before it is known what for."""

    def __init__(self) -> None:
        self._spare: dict[str, list[Spawned]] = {}

    def start(self, module: str, count: int = 1) -> None:
        """Let so many processes of a module begin to load."""
        self._spare.setdefault(module, []).extend(spawn(module) for _ in range(count))

    def take(self, module: str) -> Spawned:
        """Return a process of a module: one that has begun already, or a new one."""
        spare = self._spare.get(module)
        return spare.pop() if spare else spawn(module)

    def close(self) -> None:
        """End the processes that nobody took; they have done nothing."""
        for spawned in [each for spare in self._spare.values() for each in spare]:
            spawned.process.kill()
            spawned.process.wait()
            spawned.sock.close()
        self._spare.clear()
