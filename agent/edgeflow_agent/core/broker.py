"""What inputs and outputs need of an MQTT broker; `io` hands the adapter in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

Target = Callable[[bytes, int, int], None]  # payload, QoS, CLOCK_BOOTTIME ns of arrival


class Subscriber(Protocol):
    """Takes the messages of a topic filter (MQTT 3.1.1, section 4.7).

    Traps: a message may come twice at QoS 1, and messages of topics that were not asked for may come as
    well (see `Broker.subscribe`), so `target` looks at each topic for itself.
    """

    @property
    def topic_filter(self) -> str:
        """What to subscribe to."""

    @property
    def qos(self) -> int:
        """0 or 1."""

    def target(self, topic: str) -> Target | None:
        """Return who takes messages of a topic, ``None`` for nobody; asked once per topic and remembered."""

    def too_large(self, topic: str, size: int) -> None:
        """A message was too large to be kept; `size` is that of its payload in bytes."""

    def redelivered(self) -> None:
        """The next message to its target may be one that came before (its DUP flag is set)."""

    def refused(self, reason: str) -> None:
        """The broker does not allow this subscription."""

    def reconnected(self, kept: bool) -> None:
        """The connection was lost and is there again; `kept` when the broker had kept the session."""

    def failed(self, error: Exception) -> None:
        """Its target raised."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message to publish."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class Broker(Protocol):
    """One connection, shared by all that name the same broker. Nothing here blocks or raises OSError."""

    @property
    def session(self) -> int:
        """Which connection since the start is up, from 1; 0 while there is none."""

    def subscribe(self, subscriber: Subscriber, largest: int) -> None:
        """Send a subscriber its messages, now and after each reconnection, payloads up to `largest` bytes.

        Filters that overlap are subscribed to as one that covers them, because brokers send a message once
        per filter that matches.
        """

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Send it nothing more."""

    def publish(self, message: Message, done: Callable[[], None]) -> bool:
        """Hand a message over; False when it cannot be taken now.

        `done` is called when the broker has it (QoS 1) or the socket does (QoS 0), and never when the
        connection is lost before that: see `session`. Raises ValueError for what is not a topic.
        """
