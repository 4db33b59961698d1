"""What outputs carry: columns chosen and named by `data`, for the journal and for what acts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeflow_agent.core.batch import numbered
from edgeflow_agent.outputs.event import EventOutput
from edgeflow_agent.processes.effects import cells
from edgeflow_proto.event import Clock, events
from edgeflow_proto.pipeline.kinds.outputs import Carrying
from tests.support.documents import graph_in_memory

DOCUMENT = """
edgeflow: 1
name: p
inputs:
  a: {{mqtt: a, fields: [x, y]}}
outputs:
  out: {{from: a, {kind}}}
"""
CHOICES: list[tuple[str, dict[str, float]]] = [
    ("", {"x": 1.0, "y": 2.0}),
    (", data: [y]", {"y": 2.0}),
    (", data: [y, x]", {"y": 2.0, "x": 1.0}),
    (", data: {level: y, again: y}", {"level": 2.0, "again": 2.0}),
    (", data: []", {}),
]
ROW = numbered(
    np.array([[1.0, 2.0]], np.float32), np.zeros(1, np.int64), np.zeros(1, np.uint32), 0, ("x", "y")
)


@pytest.mark.parametrize(("data", "expected"), CHOICES)
def test_an_event_carries_what_is_chosen(data: str, expected: dict[str, float]) -> None:
    graph = graph_in_memory(DOCUMENT.format(kind=f"event: {{type: t{data}}}"))
    output = EventOutput(graph, graph.outputs["out"], "", {})
    (block,) = output.blocks([ROW], lambda _: "", Clock("b", 0, "never"), 0)
    (event,) = events(block, 1, "j", "d", "p")
    assert event.data == expected


@pytest.mark.parametrize("kind", ["mqtt: {topic: t", "file: {path: f.csv"])
@pytest.mark.parametrize(("data", "expected"), CHOICES)
def test_an_effect_carries_what_is_chosen(kind: str, data: str, expected: dict[str, Any]) -> None:
    graph = graph_in_memory(DOCUMENT.format(kind=f"{kind}{data}}}"))
    options = graph.outputs["out"].options
    assert isinstance(options, Carrying)
    assert cells(ROW, options.chosen, {}) == {name: [value] for name, value in expected.items()}


def test_words_stand_for_the_numbers_of_the_column_chosen() -> None:
    assert cells(ROW, {"word": "x", "y": "y"}, {"x": ("no", "yes")}) == {"word": ["yes"], "y": [2.0]}
