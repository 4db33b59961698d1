"""The mqtt input: messages of a topic filter become rows.

What a lost connection means. With QoS 0 nobody knows what was missed: the next row is marked. With
QoS 1 the broker keeps messages for this client's session, so there is no mark when it still has the session
and every message so far came at QoS 1 (one published at QoS 0 is delivered at QoS 0 and is not kept). How
many it keeps is the broker's setting (mosquitto: 1000 per client, ``max_queued_messages``).

What QoS 1 does not mean. A message whose acknowledgement was under way when the connection or this process
was lost comes again, and its rows are there twice: rows are in the ring before their message is acknowledged.
Such messages are counted (`input_redelivered_total`). They are not taken out, because nothing in the protocol
tells a message sent again from another one with the same content.

Retained messages are taken like others, also when they come again after a reconnection: they are the latest
word of their topic.
"""

from __future__ import annotations

from edgeflow_agent.core.broker import Target
from edgeflow_agent.core.ring import Gap
from edgeflow_agent.inputs.base import Input, InputContext
from edgeflow_agent.inputs.decode.base import DecodeError, decoder_of
from edgeflow_agent.inputs.topics import Pattern
from edgeflow_proto.pipeline.kinds.inputs import Mqtt


class MqttInput(Input):
    """A subscriber (port `edgeflow_agent.core.broker.Subscriber`) that fills a ring."""

    def __init__(self, options: Mqtt, context: InputContext) -> None:
        """Subscribe; raises LookupError when there is no such broker."""
        assert context.intake.decode is not None
        self.topic_filter = options.topic_filter
        self.qos = options.qos
        self.failed = context.failed
        self._feed = context.feed
        self._key = context.intake.key or ""
        self._pattern = Pattern(options.topic)
        self._decoder = decoder_of(context.intake.decode, context.intake)
        self._lowest_qos: int = options.qos
        self._broker = context.broker(options.broker)
        self._broker.subscribe(self, self._feed.largest)

    def target(self, topic: str) -> Target | None:
        """Return who takes messages of a topic: the key is found once, not per message."""
        captured = self._pattern.match(topic)
        if captured is None:
            return None
        try:
            key = self._feed.key(captured[self._key]) if self._key in captured else 0
        except DecodeError as error:
            return self._refusing(error)
        return self._taking(key)

    def _taking(self, key: int) -> Target:
        feed, decoder = self._feed, self._decoder

        def take(payload: bytes, qos: int, arrived: int) -> None:
            if qos < self._lowest_qos:
                self._lowest_qos = qos
            try:
                feed.payload(payload, decoder, key, arrived)
            except DecodeError:
                return  # counted, and logged at a limited rate

        return take

    def _refusing(self, error: DecodeError) -> Target:
        def refuse(_payload: bytes, _qos: int, _arrived: int) -> None:
            self._feed.reject(error.reason, error.detail)

        return refuse

    def too_large(self, topic: str, size: int) -> None:
        """Count a message that was too large to be kept."""
        if self._pattern.match(topic) is not None:
            self._feed.reject("size", f"{size} bytes, the most is {self._feed.largest}")

    def redelivered(self) -> None:
        """Count a message that may have come before."""
        self._feed.count("input_redelivered_total")

    def refused(self, reason: str) -> None:
        """Fail, and try again later."""
        self.failed(PermissionError(reason))

    def reconnected(self, kept: bool) -> None:
        """Mark the next row, unless all that came meanwhile was kept."""
        if not kept or self._lowest_qos == 0:
            self._feed.gap(Gap.DISCONNECT)

    def close(self) -> None:
        """Unsubscribe."""
        self._broker.unsubscribe(self)
