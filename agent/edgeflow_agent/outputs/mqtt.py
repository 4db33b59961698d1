"""The mqtt output: a message per row, kept for a bounded time and number while the broker is away."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from edgeflow_agent.core.broker import Message
from edgeflow_agent.core.messages import EffectRow
from edgeflow_agent.outputs.base import Output, OutputContext, content_of
from edgeflow_proto.pipeline.kinds.outputs import Mqtt

MAX_WAITING = 1000  # messages; the oldest go first
_CAPTURE = re.compile(r"\{\w*\}")
_WILDCARDS = re.compile(r"[+#\0]")


@dataclass(slots=True, eq=False)
class _Waiting:
    message: Message
    t: int  # of its row


class MqttOutput(Output):
    """Publishes in order.

    At QoS 1 a message is done when the broker says so, and is sent again when the connection was lost before
    that: the broker may get it twice.
    """

    def __init__(self, options: Mqtt, context: OutputContext) -> None:
        """Raises LookupError when there is no such broker."""
        self._options = options
        self._account = context.account
        self._broker = context.broker(options.broker)
        self._queue: deque[_Waiting] = deque()
        self._sent: dict[int, _Waiting] = {}  # and not acknowledged, by number
        self._number = 0
        self._session = 0

    @property
    def idle(self) -> bool:  # type: ignore[override]
        """Whether nothing waits to be carried out."""
        return not self._queue and not self._sent

    def carry_out(self, row: EffectRow) -> None:
        """Queue a row's message."""
        topic = _CAPTURE.sub(lambda _: row.key, self._options.topic)
        if _WILDCARDS.search(topic):
            self._account.dropped("topic", f"not a topic to publish to: {topic!r}")
            return
        payload = msgspec.json.encode(content_of(self._options, row))
        message = Message(topic, payload, self._options.qos, self._options.retain)
        self._queue.append(_Waiting(message, row.t))
        if len(self._queue) > MAX_WAITING:
            self._queue.popleft()
            self._account.dropped("full", f"more than {MAX_WAITING} messages wait for the broker")

    def turn(self, now: int) -> None:
        """Publish what the broker takes; drop what is too old."""
        if self._broker.session != self._session:
            self._session = self._broker.session
            self._queue.extendleft(reversed(self._sent.values()))
            self._sent.clear()
        while self._queue:
            if now - self._queue[0].t > self._options.max_age:
                self._queue.popleft()
                self._account.dropped("max_age", f"older than {self._options.max_age * 1e-9:g} s")
            elif not self._publish(self._queue[0]):
                break
        self._account.turn(now)

    def _publish(self, waiting: _Waiting) -> bool:
        self._number += 1
        self._sent[self._number] = waiting
        if not self._broker.publish(waiting.message, self._done(self._number)):
            del self._sent[self._number]
            return False
        self._queue.popleft()
        return True

    def _done(self, number: int) -> Callable[[], None]:
        def done() -> None:
            if self._sent.pop(number, None) is not None:
                self._account.done()

        return done

    def close(self) -> None:
        """Drop what waits."""
        left = len(self._queue) + len(self._sent)
        self._queue.clear()
        self._sent.clear()
        if left:
            self._account.dropped("closed", "the pipeline was stopped", left)
