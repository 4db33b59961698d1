"""Starting processes of the agent: a module, with one end of a socket to `agentd`.

Nothing heavy is imported here, so that a process can be given a head start: it loads while `agentd` does.
Sources: unix(7), SOCK_SEQPACKET; PR_SET_PDEATHSIG(2const), PR_SET_CHILD_SUBREAPER(2const); OpenBLAS,
"Runtime variables".
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from typing import NamedTuple

ZYGOTE = "edgeflow_agent.processes.zygote"
CONTROL_ENV = "EDGEFLOW_CONTROL"
MAX_MESSAGE = 160 << 10
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)  # by Python, and what it starts would inherit that
# A pipeline has a process, so a pool of threads in each for numpy is cores taken from the others.
_DEFAULTS = {"OPENBLAS_NUM_THREADS": "1"}


class Spawned(NamedTuple):
    """A process and `agentd`'s end of the socket to it."""

    pid: int
    sock: socket.socket


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected non-blocking message sockets."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for sock in (left, right):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_MESSAGE * 2)
    return left, right


def given(fd: int, parent: int) -> dict[str, str]:
    """Return what a process finds in its environment: its end of the socket, and whose child it is."""
    return {CONTROL_ENV: f"{fd}:{parent}"}


def spawn(module: str) -> Spawned:
    """Start a module as a process that dies with this one; raises OSError. Its parent has to wait for it."""
    ours, theirs = pair()
    with theirs:
        theirs.set_inheritable(True)
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", module],
            _DEFAULTS | os.environ | given(theirs.fileno(), os.getpid()),
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setsigdef=_IGNORED,
        )
    return Spawned(pid, ours)


@contextlib.contextmanager
def head_start(module: str) -> Iterator[Spawned]:
    """Start a module before it is known what for; what nobody has waited for in the end is killed."""
    spawned = spawn(module)
    try:
        yield spawned
    finally:
        spawned.sock.close()
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(spawned.pid, os.WNOHANG) == (0, 0):
                os.kill(spawned.pid, signal.SIGKILL)
                os.waitpid(spawned.pid, 0)


def inherited() -> socket.socket:
    """Return the control socket `agentd` gave this process, and see to it that it dies with `agentd`.

    Raises RuntimeError when this process was not started by `agentd`, SystemExit when that is gone.
    """
    fd, _, parent = os.environ.pop(CONTROL_ENV, "").partition(":")
    if not fd:
        raise RuntimeError("this process is started by edgeflow agent, not by hand")
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent and os.getppid() != int(parent):
        raise SystemExit("agentd is gone")
    for number in (signal.SIGINT, signal.SIGTERM):  # they may reach the whole group; agentd decides
        signal.signal(number, signal.SIG_IGN)
    sock = socket.socket(fileno=int(fd))
    sock.setblocking(False)
    return sock


def adopt(*, orphans: bool) -> None:
    """Say whether children of this process's children become its own when their parents end."""
    _prctl(_PR_SET_CHILD_SUBREAPER, int(orphans))


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def allow_descriptors() -> None:
    """Allow as many descriptors as there may be: a pipeline takes a dozen, and the usual limit is 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
