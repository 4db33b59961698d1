"""The mirror: every event published to MQTT as it is stored, and every device's state. The only user of paho.

At least once: a cursor in the store moves over events that the broker has acknowledged, in order, so
whatever dies costs repeats, which receivers know by the event's id, and never an event. A connection is made
anew for each attempt and what it had in flight is published again from the cursor: paho's own reconnection
sends all it holds at once, past any limit the broker has set.
Sources: MQTT 5.0, sections 3.2.2.3 (receive maximum, maximum packet size) and 4.4; CloudEvents 1.0.2, MQTT
protocol binding.
"""

from __future__ import annotations

import asyncio
import logging
import re
import select
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from edgeflow_proto.event import CONTENT_TYPE, wall_time
from edgeflow_relay.bell import Bell
from edgeflow_relay.counters import Counters
from edgeflow_relay.limited import Limited
from edgeflow_relay.registry import Registry
from edgeflow_relay.settings import Broker
from edgeflow_relay.store import cursors, events
from edgeflow_relay.store.database import Database

if TYPE_CHECKING:
    from paho.mqtt.client import Client
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

log = logging.getLogger("edgeflow.relay.mirror")
CURSOR = "mirror"
WINDOW = 256  # messages in flight, or fewer where the broker says so
CONNECT_S = 10.0
KEEPALIVE_S = 30
DRAIN_S = 1.0
SAVE_S = 0.5
BACKOFF_S = (0.5, 30.0)
_PAGE = 500
_LEVEL = re.compile(r"[/+#\0]")
_UNSPECIFIED = "Unspecified error"
_HEADER = 512  # of a packet besides topic and payload, at most


class Lost(ConnectionError):
    """The connection is gone, or the broker refuses; the message says why."""


class Session:
    """One connection. paho calls back in a thread of its own, which is passed on to the loop."""

    def __init__(self, broker: Broker) -> None:
        """Raises OSError or ValueError when certificates or the password cannot be read."""
        self._broker = broker
        self._loop = asyncio.get_running_loop()
        self._client = _client(broker)
        self._client.on_connect = self._connected
        self._client.on_connect_fail = lambda *_: self._tell(self._end, "no connection")
        self._client.on_disconnect = lambda _c, _u, _f, reason, _p: self._tell(self._end, _words(reason))
        self._client.on_publish = lambda _c, _u, mid, reason, _p: self._tell(self._acknowledged, mid, reason)
        self._waiting: dict[int, Callable[[], None]] = {}
        self._answered, self._lost = asyncio.Event(), asyncio.Event()
        self._why = ""
        self._room = Bell()
        self._window = WINDOW
        self._largest = 1 << 28

    async def open(self) -> None:
        """Connect; raises Lost."""
        host, port = self._broker.host, self._broker.port
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.to_thread(self._client.connect, host, port, KEEPALIVE_S)
                self._client.loop_start()
                await self._answered.wait()
        except TimeoutError:
            raise Lost(f"no answer within {CONNECT_S:g} s") from None
        except (OSError, ValueError) as error:
            raise Lost(getattr(error, "strerror", None) or str(error)) from None
        if self._why:
            raise Lost(self._why)

    async def until_lost(self) -> None:
        """Wait for the end of the connection and raise it as Lost."""
        await self._lost.wait()
        raise Lost(self._why)

    async def close(self) -> None:
        """End the connection."""
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    @property
    def in_flight(self) -> int:
        """How many messages are not acknowledged."""
        return len(self._waiting)

    def fits(self, topic: str, payload: bytes) -> bool:
        """Say whether the broker takes a message of this size."""
        return len(topic) + len(payload) + _HEADER <= self._largest

    async def publish(self, topic: str, payload: bytes, done: Callable[[], None], *, retain: bool) -> None:
        """Publish at QoS 1, waiting while too much is in flight; `done` is called when the broker has it."""
        while len(self._waiting) >= self._window:
            await self._room.wait()
        info = self._client.publish(topic, payload, 1, retain, _properties(retain))
        self._waiting[info.mid] = done

    async def drain(self, seconds: float) -> None:
        """Wait for acknowledgements, this long at most."""
        end = self._loop.time() + seconds
        while self._waiting and not self._lost.is_set() and self._loop.time() < end:
            await self._room.wait(end - self._loop.time())

    # what paho's thread tells

    def _tell(self, what: Callable[..., None], *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what, *arguments)

    def _connected(
        self, _c: Client, _u: object, _f: object, reason: ReasonCode, answer: Properties | None
    ) -> None:
        self._tell(
            self._end if reason.is_failure else self._begin, str(reason) if reason.is_failure else answer
        )

    def _begin(self, answer: Properties | None) -> None:
        self._window = min(WINDOW, getattr(answer, "ReceiveMaximum", WINDOW))
        self._largest = getattr(answer, "MaximumPacketSize", self._largest)
        self._answered.set()

    def _end(self, why: str) -> None:
        self._why = self._why or why or "the connection was closed"
        self._answered.set()
        self._lost.set()
        self._room.ring()

    def _acknowledged(self, mid: int, reason: ReasonCode) -> None:
        done = self._waiting.pop(mid, None)
        if reason.is_failure:
            self._end(f"the broker refuses what is published: {reason}")
        elif done is not None:
            done()
        self._room.ring()


def _words(reason: ReasonCode) -> str:
    """Return why a connection ended; paho has no reason for one that broke off."""
    return "the broker went away" if reason.getName() == _UNSPECIFIED else str(reason)


class _Poll:
    """What paho takes of the module `select`, by poll(2), which knows every descriptor."""

    @staticmethod
    def select(
        reading: list[Any], writing: list[Any], _: list[Any], timeout: float
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """Return which sockets can be read and written; raises TypeError or ValueError for what is none."""
        poll, wanted = select.poll(), dict.fromkeys(reading, select.POLLIN)
        for one in writing:
            wanted[one] = wanted.get(one, 0) | select.POLLOUT
        for one, mask in wanted.items():
            poll.register(one, mask)
        found = dict(poll.poll(timeout * 1000))
        able = {one: found.get(one.fileno(), 0) for one in wanted}
        ended = select.POLLERR | select.POLLHUP
        read = [one for one in reading if able[one] & (select.POLLIN | ended)]
        return read, [one for one in writing if able[one] & (select.POLLOUT | ended)], []


def _client(broker: Broker) -> Client:
    from paho.mqtt import client as paho
    from paho.mqtt.client import Client, MQTTv5
    from paho.mqtt.enums import CallbackAPIVersion

    vars(paho)["select"] = _Poll  # whose own ends a connection whose descriptor is above 1023
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5, reconnect_on_failure=False)
    client.max_inflight_messages_set(0)  # bounded here
    if broker.tls is not None:
        client.tls_set(broker.tls.ca, broker.tls.cert, broker.tls.key)
    if broker.username is not None:
        in_file = Path(broker.password_file).read_text().strip() if broker.password_file else None
        client.username_pw_set(broker.username, in_file or broker.password)
    return client


def _properties(retain: bool) -> Properties:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = "application/json" if retain else CONTENT_TYPE
    return properties


def _backoff() -> Iterator[float]:
    """Yield the seconds to wait before each next attempt."""
    delay, most = BACKOFF_S
    while True:
        yield delay
        delay = min(most, delay * 2)


class Mirror:
    """All sessions, one after the other, and how far they have come."""

    def __init__(
        self,
        broker: Broker,
        fleet: str,
        database: Database,
        registry: Registry,
        counters: Counters,
        stored: Bell,
    ) -> None:
        """`stored` rings when there are new events."""
        self._broker = broker
        self._fleet = fleet
        self._database = database
        self._registry = registry
        self._counters = counters
        self._stored = stored
        self._limited = Limited(log)
        self._cursor = self._newest = 0
        self._saved = -1  # not read yet
        self._line: deque[list[int]] = deque()  # [row, 1 when acknowledged], in order
        self.connected = False
        self.error = "not connected yet"

    @property
    def address(self) -> str:
        """The broker's address."""
        return f"{self._broker.host}:{self._broker.port}"

    @property
    def backlog(self) -> int:
        """Events stored and not acknowledged by the broker: so many at most, since row numbers have holes."""
        return max(0, self._newest - self._cursor)

    async def run(self) -> None:
        """Mirror until cancelled."""
        delays = _backoff()
        loop = asyncio.get_running_loop()
        while True:
            began, before = loop.time(), self._cursor
            try:
                await self._attempt()
            except* (Lost, OSError, ValueError, SQLAlchemyError) as group:
                self.error = str(group.exceptions[0])
            self.connected = False
            self._limited.warning(self.address, self.error)
            if self._cursor != before or loop.time() - began > BACKOFF_S[1]:
                delays = _backoff()
            await asyncio.sleep(next(delays))

    async def _attempt(self) -> None:
        """Live one session; raises what ended it, as a group."""
        if self._saved < 0:
            self._cursor = self._saved = self._newest = await self._database.write(_begin)
        session = Session(self._broker)
        try:
            await session.open()
            log.info("%s: connected", self.address)
            self.connected, self.error = True, ""
            self._line.clear()
            async with asyncio.TaskGroup() as group:
                for work in (
                    self._events(session),
                    self._statuses(session),
                    self._save(),
                    session.until_lost(),
                ):
                    group.create_task(work)
        finally:
            await session.drain(DRAIN_S)
            await session.close()
            await self._save_now()

    async def _events(self, session: Session) -> None:
        reached = self._cursor
        while True:
            rings = self._stored.rings
            found, self._newest = await self._database.read(
                partial(events.to_mirror, after=reached, limit=_PAGE)
            )
            for event in found:
                await self._publish(session, event)
                reached = event.row
            if not found:
                await self._stored.wait(KEEPALIVE_S, since=rings)

    async def _publish(self, session: Session, event: events.ToMirror) -> None:
        levels = (event.device, "events", event.pipeline, event.output)
        topic = "/".join(("edgeflow", self._fleet, *(_level(level) for level in levels)))
        entry = [event.row, 0]
        self._line.append(entry)
        payload = event.body.encode()
        if session.fits(topic, payload):
            await session.publish(
                topic, payload, partial(self._done, entry, "mirror_published_total"), retain=False
            )
        else:
            log.error("%s: row %d: the broker takes none of %d bytes", self.address, event.row, len(payload))
            self._done(entry, "mirror_skipped_total")

    def _done(self, entry: list[int], counted: str) -> None:
        self._counters[counted] += 1
        entry[1] = 1
        while self._line and self._line[0][1]:
            self._cursor = self._line.popleft()[0]

    async def _statuses(self, session: Session) -> None:
        """Publish who is there, all of it on a new connection: the broker may be another one."""
        told: dict[str, bool] = {}
        while True:
            for name in self._registry.known:
                online = self._registry.online(name)
                if told.get(name) != online:
                    told[name] = online
                    await self._tell(session, name, online)
                    break
            else:
                await self._registry.changed.wait(KEEPALIVE_S)

    async def _tell(self, session: Session, device: str, online: bool) -> None:
        state = {
            "device": device,
            "status": "online" if online else "offline",
            "time": wall_time(time.time_ns()),
        }
        topic = f"edgeflow/{self._fleet}/{device}/status"
        await session.publish(topic, msgspec.json.encode(state), lambda: None, retain=True)

    # the cursor

    async def _save(self) -> None:
        while True:
            await asyncio.sleep(SAVE_S)
            await self._save_now()

    async def _save_now(self) -> None:
        cursor = self._cursor
        if cursor == self._saved:
            return
        try:
            await self._database.write(partial(cursors.put, name=CURSOR, row=cursor))
            self._saved = cursor
        except SQLAlchemyError as error:  # costs repeats after a restart, and is tried again
            log.error("its position cannot be stored: %s", error)


def _begin(connection: Any) -> int:
    """Return the row to go on behind: the last mirror's; for the first of all, the newest there is."""
    row = cursors.get(connection, CURSOR)
    if row is None:
        row = events.newest_row(connection)
        cursors.put(connection, CURSOR, row)
    return row


def _level(text: str) -> str:
    """Return a name as one level of a topic (MQTT 5.0, section 4.7)."""
    return _LEVEL.sub("_", text) or "_"
