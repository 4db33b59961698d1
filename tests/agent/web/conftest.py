"""A real `link` process with no relay set; the test plays `agentd`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.web.harness import AgentdStandIn, pipeline


@pytest.fixture
def link(tmp_path: Path) -> Iterator[AgentdStandIn]:
    """`link` with no relay set."""
    agentd = AgentdStandIn(tmp_path / "store", statuses=(pipeline("one"), pipeline("two")))
    agentd.start()
    yield agentd
    agentd.close()
