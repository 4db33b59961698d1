"""What outputs carry: columns chosen and named by `data`, for the journal and for what acts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from edgeflow_agent.core.batch import numbered
from edgeflow_agent.flow.effects import cells
from edgeflow_agent.outputs.event import EventOutput
from edgeflow_proto.event import Clock, events, wall_time
from edgeflow_proto.pipeline.kinds.outputs import Carrying
from edgeflow_proto.timeline import Sync, Timeline
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


def test_times_that_samples_carry_are_kept_whatever_the_clock_is_known_to_be_later() -> None:
    taken = 1_780_000_000 * 10**9
    text = DOCUMENT.format(kind="event: t").replace("fields: [x, y]", "fields: [x, y], time: at")
    graph = graph_in_memory(text)
    output = EventOutput(graph, graph.outputs["out"], "", {})
    row = replace(ROW, t=np.array([taken]))
    (block,) = output.blocks([row], lambda _: "", Clock("b", 17, "unsynchronised"), 0)
    later = Timeline().learnt("b", Sync(0, 10**18, 0, "relay"))
    (event,) = events(later.dated(block), 1, "j", "d", "p")
    assert (event.time, event.clock.quality) == (wall_time(taken), "payload")
