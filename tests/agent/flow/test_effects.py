"""The worker's end of the effects socket, with rows of any width."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgeflow_agent.core import board, spawn
from edgeflow_agent.core.batch import Batch
from edgeflow_agent.core.channel import Channel
from edgeflow_agent.core.messages import Effect
from edgeflow_agent.flow.effects import EffectSender
from edgeflow_proto.pipeline.flow import Flow

ROWS = 64


class Ends:
    def __init__(self) -> None:
        node = SimpleNamespace(options=None, source="s")
        graph = cast("Any", SimpleNamespace(outputs={"o": node}, flows={"s": Flow()}))
        here, there = spawn.pair()
        self.slot = board.Board(board.create()).slot(5)
        self.sender = EffectSender(graph, here.detach(), self.slot)
        self.io = Channel(there, Effect)

    def send(self, width: int, rows: int) -> list[int]:
        """Send rows of so many numbers; return the rows that arrive."""
        values, t = np.random.default_rng(1).random((rows, width)), np.arange(rows)
        span = np.repeat(t, 2).reshape(-1, 2)
        batch = Batch(values, t, np.zeros(rows, np.uint32), span, None)
        self.sender.send("o", batch, lambda _: "")
        arrived: list[int] = []
        while (received := self.io.receive()) is not None:
            effect = received[0]
            assert isinstance(effect, Effect)
            arrived += [row.row for row in effect.rows]
            self.sender.flush()
        return arrived


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.sender.close()
    ends.io.close()


@pytest.mark.parametrize("width", [1, 512, 2048, 16_000])
def test_rows_of_any_width_arrive_in_order(ends: Ends, width: int) -> None:
    assert ends.send(width, ROWS) == list(range(ROWS))
    assert not any("dropped" in name for name in ends.slot.read())


def test_a_row_too_large_for_a_message_is_counted_and_those_behind_it_arrive(ends: Ends) -> None:
    assert ends.send(100_000, 2) == []
    assert ends.slot.read() == {'effects_dropped_total{output="o",reason="size"}': 2}
    assert ends.send(1, 2) == [0, 1]
