"""What is seen of a demo from outside: what the sensor sent and when, and where each event was seen and when.

Times are CLOCK_BOOTTIME ns, which all processes share. Each part is filled by one thread; the others copy it
before they look through it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any

import msgspec

from edgeflow_proto.event import ROW_BITS
from edgeflow_tools.client import messages
from edgeflow_tools.demo.broker import HOST, Broker
from edgeflow_tools.demo.children import Child
from edgeflow_tools.terminal import Failure

if TYPE_CHECKING:
    from paho.mqtt.client import Client

DEVICE, RELAY, MIRROR = "device", "relay", "mirror"
PLACES = (DEVICE, RELAY, MIRROR)
CONNECT_S = 10.0
RETRY_S = 0.2


class Event(msgspec.Struct, frozen=True):
    """What is of interest of an event in CloudEvents form."""

    id: str
    source: str
    type: str
    time: str
    data: dict[str, Any]
    severity: str = "info"
    subject: str = ""
    inputspan: str = ""
    decidedns: str = ""

    @property
    def pipeline(self) -> str:
        """The pipeline that made it."""
        return self.source.rpartition("/")[2]

    @property
    def last_row(self) -> int | None:
        """The number of the last input row behind it, from the ring's first; ``None`` without rows."""
        last = self.inputspan.rpartition("-")[2]
        return int(last) & ((1 << ROW_BITS) - 1) if last else None


def now_ns() -> int:
    """Nanoseconds since boot."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(slots=True)
class Observed:
    """All that was seen so far."""

    started: int = field(default_factory=now_ns)
    published: list[int] = field(default_factory=list)  # per message of the sensor
    sent: int = 0  # samples
    events: dict[str, Event] = field(default_factory=dict)  # as seen on the device, by id
    arrivals: dict[str, dict[str, int]] = field(default_factory=lambda: {place: {} for place in PLACES})
    twice: int = 0  # deliveries of the mirror beyond the first of an event

    def take(self, place: str, data: str | bytes | bytearray) -> None:
        """Note an event seen at a place."""
        event = msgspec.json.decode(data, type=Event)
        seen = self.arrivals[place]
        if event.id in seen:
            self.twice += 1
            return
        seen[event.id] = now_ns()
        if place == DEVICE:
            self.events[event.id] = event

    def message(self, line: bytes) -> None:
        """Note what the sensor says: a message it published."""
        told = msgspec.json.decode(line)
        if "published_ns" in told:
            self.published.append(told["published_ns"])
            self.sent = told["first"] + told["count"]

    def seen(self, place: str) -> dict[str, int]:
        """Return when each event was seen at a place, by id."""
        return self.arrivals[place].copy()

    @property
    def settled(self) -> bool:
        """Whether every event was seen everywhere."""
        device, relay, mirror = (self.seen(place).keys() for place in PLACES)
        return device == relay == mirror


def hear(sensor: Child, observed: Observed) -> threading.Thread:
    """Take note of what the sensor says, until it ends."""

    def listen() -> None:
        for line in sensor.lines:
            observed.message(line)

    return _thread(listen)


def follow(place: str, port: int, observed: Observed, stop: threading.Event) -> threading.Thread:
    """Take note of every event of a server's live stream, from the first on; the server may come and go."""

    def listen() -> None:
        cursor = "0"
        while not stop.is_set():
            with contextlib.suppress(OSError, HTTPException):
                for reached, data in _stream(port, cursor):
                    if data:
                        observed.take(place, data)
                    cursor = reached
            stop.wait(RETRY_S)

    return _thread(listen)


def _stream(port: int, cursor: str) -> Iterator[tuple[str, str]]:
    connection = HTTPConnection(HOST, port)
    with contextlib.closing(connection):
        connection.request("GET", f"/api/v1/events?after={cursor}", headers={"Accept": "text/event-stream"})
        yield from messages(connection.getresponse(), cursor)


def mirror(broker: Broker, observed: Observed) -> Client:
    """Take note of every event on the mirror, from now on; raises Failure."""
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    subscribed = threading.Event()

    def arrived(_client: Client, _data: object, message: MQTTMessage) -> None:
        observed.take(MIRROR, message.payload)

    client.on_message = arrived
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect(HOST, broker.port_5)
    client.subscribe("edgeflow/+/+/events/#", qos=1)
    client.loop_start()
    if not subscribed.wait(CONNECT_S):
        raise Failure("the broker has not answered a subscription")
    return client


def _thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread
