"""Processes a test starts: waited for by what they do, stopped by their own id."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")
PATIENCE_S = 60.0


def eventually(probe: Callable[[], T], what: str, patience_s: float = PATIENCE_S) -> T:
    """Return the first true value of `probe`; fail, naming `what` and the last value, when it never comes."""
    deadline = time.monotonic() + patience_s
    value: Any = None
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            value = probe()
            if value:
                return value
        time.sleep(0.05)
    raise AssertionError(f"never happened within {patience_s:g} s: {what}; last seen: {value!r}")


def free_port() -> int:
    """Return a loopback port that was free a moment ago, for programs that cannot choose one themselves."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, its output in `log`; at the end it gets SIGTERM and, when it stays, SIGKILL."""
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **options)
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes], patience_s: float = 20.0) -> None:
    """Stop a process and, when it had to be killed, what it had started."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait()


def children_of(pid: int, title: str) -> list[int]:
    """Return the process ids of an agent's children by the first words of their titles."""
    found = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.Error):  # it ended, and may not have been waited for yet
            found += [child.pid] if f"{' '.join(child.cmdline())} ".startswith(f"{title} ") else []
    return found


def alive(pid: int) -> bool:
    """Say whether a process is there and not a zombie."""
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def kill(pid: int) -> None:
    """SIGKILL a process by its id."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
