from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from edgeflow_agent.core import board
from edgeflow_agent.core.broker import Message, Subscriber
from edgeflow_agent.core.messages import EffectRow
from edgeflow_agent.outputs.base import Account, OutputContext, content_of
from edgeflow_agent.outputs.mqtt import MAX_WAITING, MqttOutput
from edgeflow_proto.pipeline.kinds.outputs import Mqtt
from edgeflow_proto.pipeline.units import Duration


class StandInBroker:
    """Takes `room` messages; says when they are done when told to."""

    def __init__(self) -> None:
        self.session = 1
        self.room = 10_000
        self.taken: list[Message] = []
        self.done: list[Callable[[], None]] = []

    def publish(self, message: Message, done: Callable[[], None]) -> bool:
        if not self.session or len(self.taken) >= self.room:
            return False
        self.taken.append(message)
        self.done.append(done)
        return True

    def subscribe(self, subscriber: Subscriber, largest: int) -> None: ...

    def unsubscribe(self, subscriber: Subscriber) -> None: ...

    @property
    def values(self) -> list[Any]:
        return [json.loads(message.payload)["x"] for message in self.taken]


class Sent:
    """An mqtt output over a stand-in for a broker and a board of its own."""

    def __init__(self, **options: Any) -> None:
        self.broker = StandInBroker()
        self.slot = board.Board(board.create()).slot(1)
        account = Account("p", "o", self.slot)
        options = {"topic": "out", "qos": 1, "data": ["x"], **options}
        context = OutputContext("p", "o", None, account, lambda name: self.broker, None)  # type: ignore[arg-type]
        self.output = MqttOutput(Mqtt(**options), context)

    def rows(self, *values: float, t: int = 0, key: str = "") -> None:
        for value in values:
            self.output.carry_out(EffectRow(1, t, key, {"x": value}))

    def count(self, name: str, reason: str = "") -> int:
        found = self.slot.read().items()
        return sum(value for key, value in found if key.startswith(name) and reason in key)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"payload": {"cmd": "stop"}}, {"cmd": "stop"}),
        ({"payload": {"cmd": "stop"}, "data": ["x", "y"]}, {"cmd": "stop", "x": 1.5, "y": None}),
        ({"data": ["x", "y"]}, {"x": 1.5, "y": None}),
    ],
)
def test_the_payload_is_what_the_pipeline_says(options: dict[str, Any], expected: Any) -> None:
    row = EffectRow(1, 0, "press", {"x": 1.5, "y": math.nan})
    assert json.loads(msgspec.json.encode(content_of(Mqtt(topic="t", **options), row))) == expected


def test_without_a_payload_all_columns_go_with_time_and_key() -> None:
    found = content_of(Mqtt(topic="t"), EffectRow(1, 0, "press", {"x": 1.5, "values": [[1], [2]]}))
    assert found.pop("time").endswith("Z")
    assert found == {"key": "press", "x": 1.5, "values": [[1], [2]]}
    assert "key" not in content_of(Mqtt(topic="t"), EffectRow(1, 0, "", {"x": 1}))


def test_the_key_stands_in_the_topic_unless_it_makes_none() -> None:
    sent = Sent(topic="plant/{m}/stop")
    sent.rows(1, key="press-7")
    sent.rows(2, key="a/+")
    sent.output.turn(0)
    assert [message.topic for message in sent.broker.taken] == ["plant/press-7/stop"]
    assert sent.count("effects_dropped_total", "topic") == 1


def test_messages_wait_in_order_while_the_broker_is_away_or_busy() -> None:
    sent = Sent()
    sent.broker.session = 0
    sent.rows(1, 2, 3)
    sent.output.turn(0)
    assert sent.broker.taken == []
    sent.broker.session, sent.broker.room = 1, 2
    sent.output.turn(0)
    assert sent.broker.values == [1, 2]
    sent.broker.room = 10
    sent.output.turn(0)
    assert sent.broker.values == [1, 2, 3]


def test_what_is_too_old_or_too_much_is_dropped_and_counted() -> None:
    sent = Sent(max_age=Duration(100))
    sent.broker.session = 0
    sent.rows(1, t=0)
    sent.rows(2, t=50)
    sent.output.turn(101)
    assert sent.count("effects_dropped_total", "max_age") == 1
    sent.rows(*range(MAX_WAITING), t=50)
    assert sent.count("effects_dropped_total", "full") == 1
    sent.broker.session = 1
    sent.output.turn(101)
    assert sent.broker.values == [*range(MAX_WAITING)]


def test_a_message_is_done_when_the_broker_says_so_and_is_sent_again_on_a_new_connection() -> None:
    sent = Sent()
    sent.rows(1, 2, 3)
    sent.output.turn(0)
    sent.broker.done[0]()
    assert sent.count("effects_done_total") == 1
    assert not sent.output.idle
    sent.broker.session = 0
    sent.output.turn(0)
    sent.rows(4)
    sent.broker.session = 2
    sent.output.turn(0)
    assert sent.broker.values == [1, 2, 3, 2, 3, 4]
    sent.broker.done[1]()  # too late: of the lost connection
    for done in sent.broker.done[3:]:
        done()
    assert sent.count("effects_done_total") == 4
    assert sent.output.idle


def test_what_waits_at_the_end_is_counted() -> None:
    sent = Sent()
    sent.broker.room = 1
    sent.rows(1, 2)
    sent.output.turn(0)
    sent.output.close()
    assert sent.count("effects_dropped_total", "closed") == 2
