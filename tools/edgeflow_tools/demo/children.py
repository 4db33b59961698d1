"""The processes of a demo: started on a leash, each with a log of its own, stopped in the order asked for."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from edgeflow_tools.terminal import Failure

T = TypeVar("T")
STOP_S = 10.0
START_S = 30.0
POLL_S = 0.02
LOG_LINES = 5


class Child:
    """One process, in a group of its own, so that Ctrl-C in the terminal reaches only who started it."""

    def __init__(self, name: str, command: list[str], folder: Path, *, heard: bool) -> None:
        """Start it; must be called by the main thread, because that holds the leash.

        Its standard output is read here when it is `heard`, else it goes to the log.
        """
        self.name = name
        self._log = folder / f"{name}.log"
        leash = [sys.executable, "-m", "edgeflow_tools.demo.leash", str(os.getpid())]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                leash + command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if heard else log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def lines(self) -> IO[bytes]:
        """The standard output of one that is heard."""
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def ended(self) -> bool:
        """Whether it has."""
        return self._process.poll() is not None

    def check(self) -> None:
        """Raise Failure when it has come to a bad end, with the end of its log."""
        if self._process.poll():
            tail = self._log.read_text(errors="replace").strip().splitlines()[-LOG_LINES:]
            raise Failure("\n".join([f"{self.name} ended with code {self._process.returncode}", *tail]))

    def say(self) -> Any:
        """Return the next line of its standard output, read as JSON; raises Failure when it ends instead."""
        line = self.lines.readline()
        if not line:
            self.wait()
            raise Failure(f"{self.name} ended and said nothing")
        return json.loads(line)

    def wait(self) -> None:
        """Wait for its end; raises Failure when that is a bad one."""
        self._process.wait()
        self.check()

    def interrupt(self) -> None:
        """Ask it to end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """End it: by SIGTERM, and when that is not heard, it and all it has started by SIGKILL."""
        self.interrupt()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Children:
    """All processes of a demo; leaving the context stops them, the youngest first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[Child] = []

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        while self._children:
            self._children.pop().stop()

    def start(self, name: str, *command: str, heard: bool = False) -> Child:
        """Start one."""
        child = Child(name, list(command), self._folder, heard=heard)
        self._children.append(child)
        return child

    def python(self, name: str, module: str, *arguments: str, heard: bool = False) -> Child:
        """Start one that runs a module."""
        return self.start(name, sys.executable, "-m", module, *arguments, heard=heard)

    def check(self) -> None:
        """Raise Failure when one has come to a bad end."""
        for child in self._children:
            child.check()

    def wait_for(self, child: Child, probe: Callable[[], T | None], what: str) -> T:
        """Return what `probe` gives, once it does; raises Failure when the child dies or takes too long."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            value = probe()
            if value is not None:
                return value
            child.check()
            time.sleep(POLL_S)
        raise Failure(f"{child.name}: {what} has not happened within {START_S:g} s")
