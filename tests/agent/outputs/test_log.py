from __future__ import annotations

import json
import logging

import pytest

from edgeflow_agent.core import board
from edgeflow_agent.core.messages import EffectRow
from edgeflow_agent.outputs import log as module
from edgeflow_agent.outputs.base import Account, OutputContext
from edgeflow_agent.outputs.log import MAX_LINE, LogOutput
from edgeflow_proto.pipeline.kinds.outputs import Log
from edgeflow_proto.pipeline.units import Frequency


class Clock:
    now = 10**12

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "boottime_ns", made)
    return made


def test_rows_are_logged_as_json_not_faster_than_the_rate(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    slot = board.Board(board.create()).slot(1)
    context = OutputContext("p", "o", None, Account("p", "o", slot), None, None)  # type: ignore[arg-type]
    output = LogOutput(Log(level="warning", rate=Frequency(5.0)), context)
    with caplog.at_level(logging.INFO, "edgeflow.log"):
        for second in range(3):
            clock.now += 10**9
            for row in range(8):
                output.carry_out(EffectRow(row, clock.now, "press\n7", {"x": float(10 * second + row)}))
    lines = [record for record in caplog.records if record.name == "edgeflow.log"]
    assert {record.levelname for record in lines} == {"WARNING"}
    texts = [record.getMessage().removeprefix("p: outputs.o: ") for record in lines]
    assert [json.loads(text)["x"] for text in texts] == [
        0,
        1,
        2,
        3,
        4,
        10,
        11,
        12,
        13,
        14,
        20,
        21,
        22,
        23,
        24,
    ]
    assert json.loads(texts[0]).keys() == {"key", "time", "x"}
    counts = slot.read()
    assert counts['effects_done_total{pipeline="p",output="o"}'] == 15
    assert counts['effects_dropped_total{pipeline="p",output="o",reason="rate"}'] == 9


def test_a_slow_rate_lets_the_first_line_through(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    slot = board.Board(board.create()).slot(1)
    context = OutputContext("p", "o", None, Account("p", "o", slot), None, None)  # type: ignore[arg-type]
    output = LogOutput(Log(rate=Frequency(0.1)), context)
    with caplog.at_level(logging.INFO, "edgeflow.log"):
        for _ in range(25):
            output.carry_out(EffectRow(1, 0, "", {"values": [0.5] * 1000}))
            clock.now += 10**9
    lines = [record for record in caplog.records if record.name == "edgeflow.log"]
    assert len(lines) == 3
    assert all(len(record.getMessage()) < MAX_LINE + 30 for record in lines)
