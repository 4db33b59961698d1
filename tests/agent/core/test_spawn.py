from __future__ import annotations

from edgeflow_agent.core.spawn import HeadStart
from tests.support.processes import alive

MODULE = "tests.agent.core.idle"


def test_a_process_with_a_head_start_is_taken_before_a_new_one_is_made() -> None:
    head_start = HeadStart()
    head_start.start(MODULE)
    early, early_sock = head_start.take(MODULE)
    late, late_sock = head_start.take(MODULE)
    assert early.pid != late.pid
    for process, sock in ((early, early_sock), (late, late_sock)):
        process.kill()
        process.wait()
        sock.close()


def test_processes_that_nobody_took_are_ended() -> None:
    head_start = HeadStart()
    head_start.start(MODULE, 2)
    taken, sock = head_start.take(MODULE)
    left = head_start._spare[MODULE][0].process
    head_start.close()
    assert left.returncode is not None
    assert alive(taken.pid)
    taken.kill()
    taken.wait()
    sock.close()
