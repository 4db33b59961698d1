"""Taps of a worker: how much they copy, what they count, when they end."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from edgeflow_agent.core import messages, spawn
from edgeflow_agent.core.batch import Batch, numbered
from edgeflow_agent.core.channel import Channel, Closed
from edgeflow_agent.flow import taps as module
from edgeflow_agent.flow.taps import LEASE_NS, MAX_TAPS, MAX_VALUES, Taps
from tests.support.documents import graph_in_memory

DOCUMENT = """
edgeflow: 1
name: p
inputs:
  a: {mqtt: "a/{m}", key: m, fields: [x, y]}
  image: {mqtt: b, decode: raw, shape: [64, 64], dtype: uint8}
steps:
  high: {from: a, filter: x > 0}
  pair: {from: image, window: 2}
outputs:
  out: {from: high, event: {type: t}}
  frames: {from: pair, event: {type: t}}
"""


class Clock:
    """What `boottime_ns` gives."""

    now = 10**12

    def __call__(self) -> int:
        return self.now


class Listener:
    """The other end of a tap."""

    def __init__(self, taps: Taps, edge: str, rate: float) -> None:
        ours, theirs = spawn.pair()
        self.channel = Channel(ours, messages.FromTap)
        taps.add(messages.Tap(edge, rate), theirs.detach())

    def heard(self) -> list[object]:
        out: list[object] = []
        try:
            while (received := self.channel.receive()) is not None:
                out.append(received[0])
        except Closed:
            out.append("end")
        return out

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(message.row) for message in self.heard() if isinstance(message, messages.TapRow)]


Listen = Callable[..., Listener]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module.clock, "boottime_ns", made)
    return made


@pytest.fixture
def taps(clock: Clock) -> Iterator[Taps]:
    made = Taps(graph_in_memory(DOCUMENT), lambda edge: ("", "press", "saw").__getitem__)
    yield made
    clock.now += 10 * LEASE_NS
    made.turn(clock.now)


@pytest.fixture
def listen(taps: Taps) -> Iterator[Listen]:
    made: list[Listener] = []

    def listen(edge: str, rate: float = 10) -> Listener:
        made.append(Listener(taps, edge, rate))
        return made[-1]

    yield listen
    for listener in made:
        listener.channel.close()


def rows(first: int, count: int) -> Batch:
    values = np.stack((np.arange(first, first + count), np.full(count, math.nan)), axis=1).astype(np.float32)
    t = np.arange(first, first + count) * 10**9
    return numbered(values, t, np.full(count, 2, np.uint32), first, ("x", "y"))


def shown(taps: Taps, edges: dict[str, Batch]) -> None:
    taps.look(edges)
    taps.send()


def test_a_row_is_shown_with_time_key_span_and_columns(taps: Taps, listen: Listen) -> None:
    listener = listen("high")
    shown(taps, {"a": rows(0, 3), "high": rows(7, 1)})
    begun, row = listener.heard()
    assert isinstance(begun, messages.TapBegun)
    assert json.loads(begun.head) == {
        "edge": "high", "shape": [2], "dtype": "float32", "columns": ["x", "y"], "inputs": ["a"], "key": "m",
        "clipped": False,
    }  # fmt: skip
    assert isinstance(row, messages.TapRow)
    found = json.loads(row.row)
    assert found.pop("time").endswith("Z")
    assert found == {"key": "saw", "span": {"a": [7, 7]}, "data": {"x": 7.0, "y": None}}


@pytest.mark.parametrize("block", [1, 3, 50, 1000])
def test_the_newest_rows_are_shown_up_to_the_rate_and_the_others_counted(
    taps: Taps, clock: Clock, listen: Listen, block: int
) -> None:
    listener = listen("a", rate=10)
    found: list[dict[str, Any]] = []
    for first in range(0, 3000, block):
        shown(taps, {"a": rows(first, block)})
        clock.now += block * 10**6  # a thousand rows a second, for three seconds
        found += listener.rows()
    assert 10 <= len(found) <= 40
    clock.now += 10**9
    shown(taps, {"a": rows(3000, 1)})
    found += listener.rows()
    assert found[-1]["data"]["x"] == 3000
    assert sum(row.get("skipped", 0) for row in found) + len(found) == len(range(0, 3000, block)) * block + 1
    assert [row["data"]["x"] for row in found] == sorted(row["data"]["x"] for row in found)


def test_rows_that_turn_out_torn_are_not_shown(taps: Taps, listen: Listen) -> None:
    listener = listen("a")
    taps.look({"a": rows(0, 2)})
    taps.drop()
    shown(taps, {"a": rows(2, 1)})
    assert [(row["data"]["x"], row["skipped"]) for row in listener.rows()] == [(2, 2)]


def test_what_is_shown_was_copied(taps: Taps, listen: Listen) -> None:
    listener = listen("a")
    batch = rows(5, 1)
    taps.look({"a": batch})
    batch.values[:] = 99
    taps.send()
    assert [row["data"]["x"] for row in listener.rows()] == [5]


def test_of_large_rows_the_first_values_are_shown(taps: Taps, listen: Listen) -> None:
    listener = listen("pair", rate=100)
    values = np.arange(3 * 2 * 64 * 64).reshape(3, 2, 64, 64).astype(np.uint8)
    batch = Batch(values, np.zeros(3, np.int64), np.zeros(3, np.uint32), np.zeros((3, 2), np.int64), None)
    shown(taps, {"pair": batch})
    begun, *found = listener.heard()
    assert isinstance(begun, messages.TapBegun)
    assert json.loads(begun.head)["clipped"] is True
    assert len(found) == 3
    assert isinstance(found[0], messages.TapRow)
    assert json.loads(found[0].row)["values"] == values[0].ravel()[:MAX_VALUES].tolist()


def test_a_listener_that_does_not_read_misses_rows_and_holds_nothing_up(
    taps: Taps, clock: Clock, listen: Listen
) -> None:
    listener = listen("a", rate=100)
    for first in range(0, 20000, 100):
        shown(taps, {"a": rows(first, 100)})
        clock.now += 10**9
    found = listener.rows()
    assert 0 < len(found) < 20000
    shown(taps, {"a": rows(20000, 1)})
    (last,) = listener.rows()
    assert last["skipped"] == 20000 - len(found)


def test_a_tap_ends_with_its_listener_or_its_lease(taps: Taps, clock: Clock, listen: Listen) -> None:
    gone, quiet, renewed = (listen("a") for _ in range(3))
    gone.channel.close()
    assert taps.turn(clock.now)
    clock.now += LEASE_NS - 1
    renewed.channel.send(messages.TapRenewed())
    assert taps.turn(clock.now)
    clock.now += 1
    assert taps.turn(clock.now)
    assert quiet.heard()[-1] == "end"
    assert renewed.heard()[-1] != "end"
    clock.now += LEASE_NS
    assert not taps.turn(clock.now)
    assert renewed.heard() == ["end"]


def test_what_cannot_be_shown_is_said(taps: Taps, listen: Listen) -> None:
    refused = listen("hihg")
    assert refused.heard() == [messages.TapRefused("no edge 'hihg' (did you mean 'high'?)"), "end"]
    listeners = [listen("a") for _ in range(MAX_TAPS)]
    assert listen("a").heard()[0] == messages.TapRefused(f"{MAX_TAPS} listen already")
    assert len(listeners) == MAX_TAPS


def test_a_tap_that_fails_ends_alone(taps: Taps, listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    broken, sound = listen("image"), listen("a")
    no_span = np.zeros((0, 2), np.int64)
    frame = Batch(np.zeros((1, 64)), np.zeros(1, np.int64), np.zeros(1, np.uint32), no_span, None)
    shown(taps, {"image": frame, "a": rows(1, 1)})
    assert broken.heard()[-1] == "end"
    assert [row["data"]["x"] for row in sound.rows()] == [1]
    assert "the tap of image ends" in caplog.text
