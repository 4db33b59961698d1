"""Columns whose numbers stand for words say the words in events and to actuators."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeflow_agent.core import spawn
from edgeflow_agent.core.batch import Batch
from edgeflow_agent.core.board import Board, create
from edgeflow_agent.core.channel import Channel
from edgeflow_agent.core.messages import Effect
from edgeflow_agent.flow.effects import EffectSender
from edgeflow_agent.outputs.event import EventOutput
from edgeflow_proto.event import Clock, decode_block, events
from edgeflow_proto.pipeline.graph import Graph
from tests.support.onnx_files import linear
from tests.support.steps import graph_in, pipeline, rows, run

TEXT = """
inputs:
  in: {mqtt: rows, fields: [x, y]}
steps:
  word: {from: in, model: {file: m.onnx, top: 1, labels: words.txt}}
  sure: {from: word, filter: score > 1}
  chosen: {from: sure, select: [score, label]}
  loud: {from: chosen, threshold: {above: 3, column: score}}
outputs:
  said: {from: sure, event: {type: word.said}}
  cry: {from: loud.raised, event: {type: word.loud, data: [label]}}
  light: {from: chosen, mqtt: {topic: light, data: [label]}}
"""
CLOCK = Clock("boot", 0, "synchronised")


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    linear(tmp_path / "m.onnx", np.eye(2, dtype=np.float32))
    (tmp_path / "words.txt").write_text("yes\nno\n")
    return graph_in(tmp_path, TEXT)


@pytest.fixture
def came(tmp_path: Path, graph: Graph) -> dict[str, Batch]:
    values = np.float32([[0, 1], [2, 0], [0, 4]])
    return dict(run(lambda: pipeline(tmp_path, TEXT), [rows(values)]))


def test_events_say_the_word(graph: Graph, came: dict[str, Batch]) -> None:
    said = {}
    for name in ("said", "cry"):
        (block,) = EventOutput(graph, graph.outputs[name], "", {}).blocks([came[name]], str, CLOCK, 0)
        found = events(decode_block(block.encode()), 1, "journal", "device", graph.name)
        said[name] = [event.data for event in found]
    assert said["said"] == [{"label": "yes", "score": 2}, {"label": "no", "score": 4}]
    assert said["cry"] == [{"label": "no"}]


@pytest.fixture
def sockets() -> Iterator[tuple[int, Channel]]:
    here, there = spawn.pair()
    with there:
        yield here.detach(), Channel(there, Effect)


def test_actuators_are_told_the_word(
    graph: Graph, came: dict[str, Batch], sockets: tuple[int, Channel]
) -> None:
    board = create()
    here, there = sockets
    sender = EffectSender(graph, here, Board(board).slot(3))
    sender.send("light", came["light"], str)
    received = there.receive()
    assert received is not None
    assert [row.data for row in received[0].rows] == [{"label": "yes"}, {"label": "no"}]
    sender._channel.close()  # a worker keeps it until it ends
    os.close(board)
