"""What `agentd` sends to `io` when that does not take it at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgeflow_agent.config import Settings
from edgeflow_agent.control.pipelines import Pipelines, Shared
from edgeflow_agent.core import board, shm
from edgeflow_agent.core.logs import Keeping


class Full:
    """An `io` that takes nothing at first."""

    def __init__(self) -> None:
        self.channel = object()
        self.takes = False
        self.taken: list[str] = []

    def send(self, message: object, fds: tuple[int, ...] = ()) -> bool:
        if self.takes:
            self.taken.append(type(message).__name__)
        return self.takes


@pytest.fixture
def io() -> Full:
    return Full()


@pytest.fixture
def pipelines(io: Full) -> Pipelines:
    anyone: Any = SimpleNamespace()
    shared = Shared(board.create(), shm.eventfd(), Keeping("", 0, 0))
    return Pipelines(anyone, shared, cast("Any", io), Settings("d"), lambda *_: None, anyone)


def test_a_pipeline_that_io_could_not_take_is_attached_as_soon_as_it_can(
    io: Full, pipelines: Pipelines
) -> None:
    there: Any = SimpleNamespace(
        name="p", folder="", params={}, rings=[], snapshots=1, child=None, state="running",
        effects=(None, SimpleNamespace(fileno=lambda: 1)),
    )  # fmt: skip
    pipelines.by_name["p"] = there
    pipelines.attach(there)
    pipelines.turn()
    io.takes = True
    pipelines.turn()
    pipelines.turn()
    assert io.taken == ["Attach"]
