"""No timer of the agent reads the wall clock: it may jump by years at any moment."""

from __future__ import annotations

import ast
from pathlib import Path

import edgeflow_agent

ROOT = Path(edgeflow_agent.__file__).parent
WALL = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "time.localtime"}
CLOCK = "core/clock.py"  # dates what is shown
SENML = "inputs/decode/senml.py"  # dates samples whose time is relative to now (RFC 8428, section 4.5.3)


def test_the_wall_clock_is_read_in_one_place() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in WALL
    }
    assert {each for each in found if not each.startswith((CLOCK, SENML))} == set()
    assert any(each.startswith(CLOCK) for each in found)


def test_its_readings_date_and_never_time() -> None:
    """What comes of `wall_ns` goes into records and answers; nobody waits for it."""
    readers = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if "wall_ns()" in path.read_text() and str(path.relative_to(ROOT)) != CLOCK
    }
    assert readers == {"processes/agentd.py", "control/timekeeper.py"}
