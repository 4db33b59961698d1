from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeflow_agent.core import spawn
from edgeflow_agent.core.spawn import CONTROL_ENV
from tests.support.processes import alive, eventually

MODULE = "tests.agent.core.idle"


def test_a_process_that_nobody_took_is_ended() -> None:
    with spawn.head_start(MODULE) as early:
        assert alive(early.pid)
    assert not alive(early.pid)
    with pytest.raises(ChildProcessError):
        os.waitpid(early.pid, 0)


def test_a_process_that_was_waited_for_is_left_alone() -> None:
    with spawn.head_start(MODULE) as early:
        os.kill(early.pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(early.pid, 0)[1]) == -signal.SIGKILL


def test_what_is_started_reads_nothing_and_has_one_thread_for_numpy() -> None:
    spawned = spawn.spawn(MODULE)
    try:
        environment = Path(f"/proc/{spawned.pid}/environ")
        eventually(lambda: "OPENBLAS_NUM_THREADS=1" in environment.read_text().split("\0"), "it runs")
        assert os.readlink(f"/proc/{spawned.pid}/fd/0") == os.devnull
    finally:
        os.kill(spawned.pid, signal.SIGKILL)
        os.waitpid(spawned.pid, 0)
        spawned.sock.close()


def test_a_child_whose_parent_is_another_by_now_ends() -> None:
    script = "from edgeflow_agent.core.spawn import inherited; inherited()"
    given = {**os.environ, **spawn.given(0, os.getpid() + 1)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=False, env=given, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "agentd is gone\n")


def test_the_control_socket_is_for_who_was_started_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CONTROL_ENV, raising=False)
    with pytest.raises(RuntimeError, match="started by edgeflow agent, not by hand"):
        spawn.inherited()


def test_orphans_are_adopted_while_that_is_asked_for() -> None:
    script = """
import os, time
from edgeflow_agent.core import spawn

for adopted in (True, False):
    spawn.adopt(orphans=adopted)
    come, go = os.pipe()
    if not (between := os.fork()):
        if not os.fork():
            time.sleep(0.3)  # by then its parent has ended
            os.write(go, str(os.getppid()).encode())
        os._exit(0)
    os.waitpid(between, 0)
    assert (int(os.read(come, 32)) == os.getpid()) is adopted
"""
    subprocess.run([sys.executable, "-c", script], check=True)
