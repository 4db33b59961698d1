from __future__ import annotations

import uuid

from edgeflow_agent.core import clock


def test_boot_time_runs_and_becomes_wall_time() -> None:
    before = clock.wall_ns()
    now = clock.now()
    boot = clock.boottime_ns()
    assert boot <= clock.boottime_ns()
    # A step of the wall clock in between would be the only reason for more than the time this takes.
    assert before - 10**9 < boot + now.offset_ns < clock.wall_ns() + 10**9


def test_the_boot_has_an_id_and_the_clock_a_quality() -> None:
    assert clock.boot_id() == str(uuid.UUID(clock.boot_id())) == clock.now().boot_id
    assert clock.now().quality in ("synchronised", "unsynchronised")
