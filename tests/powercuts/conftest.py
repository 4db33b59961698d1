"""Whether a plug can be pulled here, how often, and where."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.power import mounts


@pytest.fixture(scope="session")
def cuts() -> int:
    """How many cuts each test makes at most; `make power-cuts` asks for more."""
    return int(os.environ.get("EDGEFLOW_POWER_CUTS", "40"))


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where disks can be made, mounted and cut."""
    if reason := mounts.missing():
        pytest.skip(reason)
    with mounts.memory(tmp_path / "memory") as folder:
        yield folder
