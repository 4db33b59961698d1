from __future__ import annotations

import subprocess
import sys

from edgeflow_agent.core.footprint import trim

SCRIPT = """
import re
from pathlib import Path
import numpy as np
import onnxruntime
from edgeflow_agent.core.footprint import trim

def files() -> int:
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return int(re.search(r"Pss_File: +([0-9]+)", rollup)[1])

rng = np.random.default_rng(1)
a = rng.normal(size=(50, 50))
before, product = files(), a @ a
trim()
after = files()
assert (a @ a == product).all()
assert onnxruntime.get_available_providers()
print(before, after)
"""


def test_what_only_starting_needed_is_let_go_and_all_works_on() -> None:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60
    )
    before, after = map(int, run.stdout.split())
    assert after < before / 2


def test_it_may_be_called_again_and_again() -> None:
    for _ in range(3):
        trim()
    assert sum(range(1000)) == 499500
