"""The connection to an MQTT broker: paho connects, keeps alive and publishes; messages are read in blocks.

MQTT 3.1.1, because both brokers we meet speak it on their plain listeners (iotcore's has no 5), and what 5
would add here, an expiry for the session, mosquitto has as a setting. The session is kept (clean session
off, a client id that stays), so that what was published at QoS 1 while this process was away comes later.

There is one owner of reconnecting: this class. Connecting blocks (names, TCP, TLS), so a thread that lives
for one attempt does it and hands the client over; everything else happens in the loop.
"""

from __future__ import annotations

import logging
import queue
import random
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from edgeflow_agent import config
from edgeflow_agent.core import shm
from edgeflow_agent.core.board import Slot, labelled
from edgeflow_agent.core.broker import Message, Subscriber, Target
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.limited import LimitedLog
from edgeflow_agent.core.messages import BrokerStatus
from edgeflow_agent.core.reactor import Timer
from edgeflow_agent.inputs.base import Loop
from edgeflow_agent.inputs.topics import disjoint, overlap
from edgeflow_agent.inputs.wire import Publish, Wire

log = logging.getLogger("edgeflow.io")
KEEPALIVE_S = 30
HANDSHAKE_S = 10.0
TICK_S = 1.0
LONGEST_WAIT_S = 30.0
STEADY_NS = 10 * 10**9  # a connection that held this long was a good one
MAX_ROUTES = 16384
MAX_IN_FLIGHT = 20  # as mosquitto allows by default
MAX_BACKLOG = 1 << 20  # bytes written and not yet sent
_REFUSED_QOS = 0x80

Route = tuple[Subscriber, Target]


class _Client(mqtt.Client):
    """paho over a `Wire`; this is the one method of its inside that is replaced."""

    def __init__(self, client_id: str, clean: bool, largest: int) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2, client_id, clean_session=clean,
            protocol=MQTTProtocolVersion.MQTTv311, reconnect_on_failure=False, manual_ack=True,
        )  # fmt: skip
        self._largest = largest

    def _create_socket(self) -> Any:
        sock = super()._create_socket()
        assert isinstance(sock, socket.socket)
        return Wire(sock, self._largest)


class _Attempt(threading.Thread):
    """One try to connect; what comes of it, a client or the error, is put into `results`."""

    def __init__(
        self, make: Callable[[], _Client], settings: config.Broker, results: Results, wake: int
    ) -> None:
        super().__init__(name="connect", daemon=True)
        self._make, self._settings, self._results, self._wake = make, settings, results, wake

    def run(self) -> None:
        """Connect, and send CONNECT."""
        result: _Client | Exception
        try:
            result = self._make()
            _secure(result, self._settings)
            result.connect(self._settings.host, self._settings.port, KEEPALIVE_S)
        except (
            Exception
        ) as error:  # of names, sockets, certificates, files: all mean that there is no connection
            result = error
        self._results.put(result)
        shm.add(self._wake, 1)


Results = queue.SimpleQueue[_Client | Exception]


class PahoBroker:
    """One broker of the settings (port `edgeflow_agent.core.broker.Broker`)."""

    def __init__(
        self, name: str, settings: config.Broker, client_id: str, loop: Loop, slot: Slot,
        tell: Callable[[BrokerStatus], object],
    ) -> None:  # fmt: skip
        """`tell` hears how the connection fares, whenever that changes."""
        self.name = name
        self.session = 0
        self._settings, self._client_id, self._loop = settings, client_id, loop
        self._client: _Client | None = None
        self._wire: Wire | None = None
        self._results: Results = queue.SimpleQueue()
        self._wake = shm.eventfd()
        self._sessions = self._failures = self._since = self._largest = 0
        self._writing = self._clean = self._stopped = False
        self._timer: Timer | None = None
        self._subscribers: dict[Subscriber, None] = {}
        self._routes: dict[bytes, tuple[Route, ...]] = {}
        self._subscribed: dict[str, int] = {}
        self._left: set[str] = set()
        self._asked: dict[int, list[str]] = {}
        self._published: dict[int, Callable[[], None]] = {}
        self._stale = self._fresh = True
        self._connected = slot.counter(labelled("mqtt_connected", broker=name))
        self._reconnects = slot.counter(labelled("mqtt_reconnects_total", broker=name))
        self._unrouted = slot.counter(labelled("mqtt_unrouted_total", broker=name))
        self._tell = tell
        self._status = BrokerStatus(name, self._address, False, "connecting", boottime_ns())
        self._connected.set(0)
        self._log = LimitedLog(log, f"broker {name}: no connection, attempts")

    @property
    def _address(self) -> str:
        return f"{self._settings.host}:{self._settings.port}"

    def _state(self, connected: bool, reason: str) -> None:
        """Note how the connection fares; messages come and go while it is `connected`."""
        self._connected.set(int(connected))
        before = self._status
        if (before.connected, before.reason) != (connected, reason):
            since = before.since_ns if before.connected == connected else boottime_ns()
            self._status = BrokerStatus(self.name, self._address, connected, reason, since)
            self._tell(self._status)

    # connecting

    def start(self) -> None:
        """Begin to connect."""
        self._tell(self._status)
        self._loop.watch(self._wake, self._attempted)
        self._attempt()

    def _attempt(self) -> None:
        clean, largest = self._clean, self._largest
        _Attempt(
            lambda: _Client(self._client_id, clean, largest), self._settings, self._results, self._wake
        ).start()

    def _attempted(self) -> None:
        shm.take(self._wake)
        while not self._results.empty():
            result = self._results.get()
            if isinstance(result, Exception):
                self._retry(_words(result))
            elif self._stopped:
                result.disconnect()
            else:
                self._adopt(result)

    def _adopt(self, client: _Client) -> None:
        wire = client.socket()
        assert isinstance(wire, Wire)
        self._client, self._wire, self._writing = client, wire, True
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        wire.parser.largest = self._largest
        self._timer = self._loop.after(HANDSHAKE_S, lambda: self._lost("no answer to CONNECT"))
        self._watch(wire)

    def _on_connect(
        self, _c: object, _u: object, flags: mqtt.ConnectFlags, code: ReasonCode, _p: object
    ) -> None:
        if code.is_failure:
            self._lost(f"refused: {code}")
            return
        if self._clean:
            self._clean = False
            self._leave("the old session is gone")
            return
        self._cancel()
        self._sessions += 1
        self.session, self._since = self._sessions, boottime_ns()
        log.info("broker %s: connected, session %s", self.name, "kept" if flags.session_present else "new")
        self._stale = self._fresh = True
        if self.session > 1:
            self._reconnects.add()
            for subscriber in self._subscribers:
                subscriber.reconnected(flags.session_present)
        will = self._settings.will
        if will is not None:
            self.publish(Message(will.topic, will.online.encode(), 1, True), _nothing)
        self._tick()

    def _leave(self, reason: str) -> None:
        """Disconnect as the protocol has it, and connect again."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_write()
        self._lost(reason)

    def _lost(self, reason: str) -> None:
        """Close what is left of the connection, and try again."""
        wire, self._wire, self._client = self._wire, None, None
        if wire is None:
            return
        self._cancel()
        self._loop.forget(wire.fileno())
        wire.close()
        if self.session and boottime_ns() - self._since > STEADY_NS:
            self._failures = 0
        self.session = 0
        self._published.clear()
        self._asked.clear()
        self._retry(reason)

    def _retry(self, reason: str) -> None:
        if self._stopped:
            return
        self._failures += 1
        self._state(False, reason)
        self._log.note(reason, self._address, boottime_ns())
        wait = min(LONGEST_WAIT_S, 0.25 * 2 ** min(self._failures, 10))
        self._timer = self._loop.after(wait * random.uniform(0.5, 1.0), self._attempt)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    # reading

    def _readable(self) -> None:
        """Take one block; the loop comes back for more, having served the others."""
        wire, client = self._wire, self._client
        if wire is None or client is None:
            return
        try:
            packets = wire.read()
        except OSError as error:
            self._lost(str(error) or type(error).__name__)
            return
        arrived = boottime_ns()
        for packet in packets:
            if isinstance(packet, Publish):
                self._deliver(packet, arrived)
                if packet.qos:
                    wire.acknowledge(packet.packet_id)
            elif not self._control(client, wire, packet):
                return
        if wire.pending:
            self._loop.after(0, self._readable)

    def _control(self, client: _Client, wire: Wire, packet: bytes) -> bool:
        wire.hand(packet)
        code = client.loop_read()
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or wire.closed:
            self._lost(mqtt.error_string(code))
        return self._wire is wire

    def _deliver(self, packet: Publish, arrived: int) -> None:
        routes = self._routes.get(packet.topic)
        if routes is None:
            routes = self._route(packet.topic)
        if not routes:
            self._unrouted.add()
        for subscriber, target in routes:
            try:
                if packet.again:
                    subscriber.redelivered()
                if packet.payload is None:
                    subscriber.too_large(packet.topic.decode(), packet.size)
                else:
                    target(packet.payload, packet.qos, arrived)
            except Exception as error:  # whatever one input meets, the others get their messages
                subscriber.failed(error)

    def _route(self, topic: bytes) -> tuple[Route, ...]:
        """Find who takes a topic; what no filter of ours brings was left in the session by a former life."""
        try:
            name = topic.decode()
        except UnicodeDecodeError:
            return ()
        if len(self._routes) >= MAX_ROUTES:
            self._routes.clear()
        found = ((subscriber, subscriber.target(name)) for subscriber in self._subscribers)
        routes = tuple((subscriber, target) for subscriber, target in found if target is not None)
        self._routes[topic] = routes
        if not any(overlap(known, name) for known in self._left.union(self._wanted())):
            self._clean = True
            self._leave(f"the session has a subscription that nobody has any more: {name}")
        return routes

    # subscribing

    def subscribe(self, subscriber: Subscriber, largest: int) -> None:
        """Send a subscriber its messages (see the port)."""
        self._subscribers[subscriber] = None
        self._largest = max(self._largest, largest)
        if self._wire is not None:
            self._wire.parser.largest = self._largest
        self._routes.clear()
        self._stale = True

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Send it nothing more (see the port)."""
        self._subscribers.pop(subscriber, None)
        self._routes.clear()
        self._stale = True

    def _wanted(self) -> dict[str, int]:
        return disjoint((one.topic_filter, one.qos) for one in self._subscribers)

    def _settle(self, client: _Client) -> None:
        """Ask the broker for what is wanted now: more first, then less, so that nothing is missed."""
        known = {} if self._fresh else self._subscribed
        wanted = self._wanted()
        more = [(name, qos) for name, qos in wanted.items() if known.get(name) != qos]
        less = [name for name in self._subscribed if name not in wanted]
        self._left.update(less)
        self._subscribed, self._stale, self._fresh = wanted, False, False
        if more:
            _, packet_id = client.subscribe(more)
            self._asked[packet_id or 0] = [name for name, _ in more]
        else:
            self._state(True, "")
        if less:
            client.unsubscribe(less)

    def _on_subscribe(
        self, _c: object, _u: object, packet_id: int, codes: list[ReasonCode], _p: object
    ) -> None:
        self._state(True, "")  # from now on messages come
        for name, code in zip(self._asked.pop(packet_id, []), codes, strict=False):
            if code.value >= _REFUSED_QOS:
                self._refused(name)

    def _refused(self, name: str) -> None:
        for subscriber in list(self._subscribers):
            if overlap(subscriber.topic_filter, name):
                subscriber.refused(f"broker {self.name} does not allow subscribing to {name}")

    # publishing

    def publish(self, message: Message, done: Callable[[], None]) -> bool:
        """Hand a message over (see the port)."""
        client, wire = self._client, self._wire
        busy = wire is None or wire.backlog > MAX_BACKLOG or len(self._published) >= MAX_IN_FLIGHT
        if client is None or not self.session or busy:
            return False
        info = client.publish(message.topic, message.payload, message.qos, message.retain)
        if message.qos:
            self._published[info.mid] = done
        else:
            done()
        return True

    def _on_publish(self, _c: object, _u: object, packet_id: int, _r: object, _p: object) -> None:
        self._published.pop(packet_id, _nothing)()

    # turning

    def turn(self, now: int) -> None:
        """Send what was written; called at the end of each turn of the loop, when rows are in their rings."""
        if self._client is not None and self._stale and self.session:
            self._settle(self._client)
        self._flush()
        self._log.turn(now)

    def _flush(self) -> None:
        client, wire = self._client, self._wire
        if client is None or wire is None:
            return
        if client.want_write():  # paho does not write from within its callbacks
            client.loop_write()
        try:
            writing = not wire.flush()
        except OSError as error:
            self._lost(str(error))
            return
        if writing != self._writing:
            self._writing = writing
            self._watch(wire)

    def _watch(self, wire: Wire) -> None:
        """When the socket can be written again, the turn that follows does it."""
        self._loop.watch(wire.fileno(), self._readable, _nothing if self._writing else None)

    def _tick(self) -> None:
        """Let paho look after the connection being alive."""
        client, wire = self._client, self._wire
        if client is None or wire is None:
            return
        code = client.loop_misc()
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or wire.closed:
            self._lost("no answer for too long")
            return
        self._timer = self._loop.after(TICK_S, self._tick)

    def stop(self) -> None:
        """Say goodbye; the session stays, so that QoS 1 messages wait for the next life."""
        self._stopped = True
        self._cancel()
        client, wire, will = self._client, self._wire, self._settings.will
        if client is not None and wire is not None:
            if self.session and will is not None:
                client.publish(will.topic, will.payload, 1, True)
            self._loop.forget(wire.fileno())
            client.disconnect()
        self._connected.set(0)


def _secure(client: _Client, settings: config.Broker) -> None:
    """Give a client its credentials, certificates and will; raises OSError or ssl.SSLError."""
    password = settings.password
    if settings.password_file is not None:
        password = Path(settings.password_file).read_text().strip()
    if settings.username is not None:
        client.username_pw_set(settings.username, password)
    if settings.tls is not None:
        context = ssl.create_default_context(cafile=settings.tls.ca)
        if settings.tls.cert is not None:
            context.load_cert_chain(settings.tls.cert, settings.tls.key)
        client.tls_set_context(context)
    if settings.will is not None:
        client.will_set(settings.will.topic, settings.will.payload, qos=1, retain=True)


def _words(error: Exception) -> str:
    """Say why there is no connection; the system's own words suffice where it has some."""
    return getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"


def _nothing() -> None:
    pass
