"""The uplink at work: keeps a stream to the relay for as long as the device runs.

The relay may be away, slow, restarted or wrong; all that changes here is the backlog.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from edgeflow_agent.config import Settings
from edgeflow_agent.core import clock
from edgeflow_agent.core.bell import Bell
from edgeflow_agent.core.board import Slot, labelled
from edgeflow_agent.store.journal import JournalError
from edgeflow_agent.store.readers import Journals, OpenJournal, Unreadable
from edgeflow_agent.uplink import outgoing
from edgeflow_agent.uplink.memory import Memory
from edgeflow_agent.uplink.ports import Dial, Lost, Ousted, Stream
from edgeflow_agent.uplink.session import Session, backlog
from edgeflow_agent.uplink.wishes import Wishes
from edgeflow_proto.timeline import Sync
from edgeflow_proto.v1.device_pb2 import DeviceMessage
from edgeflow_proto.v1.relay_pb2 import EventAck, RelayMessage, TimeAnswer

log = logging.getLogger("edgeflow.uplink")
WELCOME_S = 10.0
STALLED_S = 60.0  # without an acknowledgement while some are due: another stream may fare better
SLOWEST = 1000  # bytes a second: what is under way is given as much longer as it takes at that rate
LOOK_S = 1.0  # the safety net under the wake-ups
BACKOFF_S = (0.25, 15.0)
SETTLED_S = 1.0  # a stream that ends sooner is no reason to hurry
OUSTED_S = 60.0
TIME_S = 600.0  # between two questions what the relay's clock reads
HEARTBEAT_S = (0.2, 60.0)  # what a relay may ask for
CONFLICT = (
    "%s: the relay had more of its events than its journal: the store was put back to an older state. "
    "None are sent until the agent is started without the folder journals/%s of its data"
)


@dataclass(slots=True)
class State:
    """What the device's page says of the uplink."""

    address: str = ""
    connected: bool = False
    error: str = ""
    backlog: int = 0
    conflicts: tuple[str, ...] = ()  # pipelines whose journals are behind what the relay acknowledged


@dataclass(frozen=True, slots=True)
class Parts:
    """What the uplink works with. `wake` is rung when a journal has grown."""

    settings: Settings
    dial: Dial
    journals: Journals
    memory: Memory
    wishes: Wishes
    slot: Slot
    wake: Bell
    heartbeat: Callable[[int], DeviceMessage]  # of a backlog
    state: State = field(default_factory=State)
    relay_time: Callable[[Sync], object] = bool  # is told what the relay's clock says


def backoff() -> Iterator[float]:
    """Yield the seconds to wait before each next attempt: doubling up to a limit, shortened at random."""
    delay, most = BACKOFF_S
    while True:
        yield delay * random.uniform(0.5, 1.0)
        delay = min(most, delay * 2)


def reading(asked_ns: int, answered_ns: int, wall_ns: int) -> Sync:
    """Return what a clock says that read `wall_ns` some time between asking and answer.

    Source: RFC 5905, section 8 (half the round trip bounds the error).
    """
    middle = (asked_ns + answered_ns) // 2
    return Sync(answered_ns, wall_ns - middle, (answered_ns - asked_ns + 1) // 2, "relay")


class Uplink:
    """The stream, over all its lives."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._session = Session(parts.memory.acked, parts.memory.conflicts)
        self._progress = 0.0
        self._ousted = False
        self._tell_connected(False, "not tried yet" if parts.state.address else "")

    async def run(self) -> None:
        """Connect, converse, and begin anew, until cancelled."""
        delays = backoff()
        while True:
            began = asyncio.get_running_loop().time()
            reason = await self._attempt()
            if asyncio.get_running_loop().time() - began >= SETTLED_S:
                delays = backoff()
            if reason != self._parts.state.error:
                log.warning("relay %s: %s", self._parts.state.address, reason)
            self._tell_connected(False, reason)
            await asyncio.sleep(OUSTED_S * random.uniform(0.5, 1.0) if self._ousted else next(delays))

    async def _attempt(self) -> str:
        """Live one stream; return why it ended."""
        stream: Stream | None = None
        reason, self._ousted = "", False
        try:
            stream = self._parts.dial()
            await self._converse(stream)
        except* Lost as group:
            reason, self._ousted = str(_first(group)), isinstance(_first(group), Ousted)
        except* Exception as group:  # a relay that sends what nobody foresaw must not stop what is local
            log.exception("relay %s", self._parts.state.address)
            reason = f"internal error: {_first(group)!r}"
        finally:
            if stream is not None:
                await stream.close()
        return reason

    def _tell_connected(self, connected: bool, error: str) -> None:
        self._parts.state.connected, self._parts.state.error = connected, error
        self._parts.slot.counter("uplink_connected").set(int(connected))

    # one stream

    async def _converse(self, stream: Stream) -> None:
        try:
            async with asyncio.timeout(WELCOME_S):
                interval = await self._greet(stream)
        except TimeoutError:
            raise Lost(f"no welcome within {WELCOME_S:g} s") from None
        log.info("relay %s: connected", self._parts.state.address)
        self._tell_connected(True, "")
        self._progress = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(stream))
            group.create_task(self._upload(stream))
            group.create_task(self._beat(stream, interval))
            group.create_task(self._report(stream))
            group.create_task(self._parts.wishes.run(stream))

    async def _greet(self, stream: Stream) -> float:
        """Say hello, hear what the relay has; return the seconds between heartbeats."""
        self._parts.journals.refresh()
        memory = self._parts.memory
        asked = clock.boottime_ns()
        await stream.send(outgoing.hello(self._parts.settings, memory.revision, self._worth_telling()))
        answer = await stream.receive()
        if answer.WhichOneof("message") != "welcome":
            raise Lost("the relay's first message is no welcome")
        self.take_time(TimeAnswer(boot_time_ns=asked, wall_time_ns=answer.welcome.wall_time_ns))
        self._session = Session(memory.acked, memory.conflicts)
        self._resume({ack.journal_id: ack.sequence for ack in answer.welcome.acked})
        least, most = HEARTBEAT_S
        return min(most, max(least, (answer.welcome.heartbeat_interval_ms or 5000) / 1000))

    def _worth_telling(self) -> list[OpenJournal]:
        """Return the journals that can be read."""
        out = []
        for journal in self._parts.journals:
            try:
                _ = journal.bounds
                out.append(journal)
            except Unreadable as error:
                self._parts.journals.drop(error)
        return out

    def _resume(self, acked: Mapping[str, int]) -> None:
        """Go on after what the relay has: less than it acknowledged where its store was put back."""
        for journal in self._parts.journals:
            theirs, ours = acked.get(journal.id, 0), self._session.acked(journal.id)
            if theirs < ours:
                words = "%s: the relay has events up to %d of %d it acknowledged: what is here is sent again"
                log.error(words, journal.pipeline, theirs, ours)
                self._parts.memory.ack(journal.id, theirs)
        self._session = Session(self._parts.memory.acked, self._parts.memory.conflicts)
        for journal_id, sequence in acked.items():
            self._acknowledge(EventAck(journal_id=journal_id, sequence=sequence))
        self.measure()

    async def _listen(self, stream: Stream) -> None:
        while True:
            message: RelayMessage = await stream.receive()
            kind = message.WhichOneof("message")
            if kind == "ack":
                self._acknowledge(message.ack)
                self._progress = asyncio.get_running_loop().time()
                self._parts.wake.ring()  # there is room in flight
            elif kind == "desired":
                self._parts.wishes.desire(message.desired)
            elif kind == "time":
                self.take_time(message.time)

    def take_time(self, answer: TimeAnswer) -> None:
        """Take what the relay's clock says; an answer to what was not asked says nothing."""
        now, asked = clock.boottime_ns(), answer.boot_time_ns
        if 0 < asked <= now and answer.wall_time_ns:
            self._parts.relay_time(reading(asked, now, answer.wall_time_ns))

    def _acknowledge(self, ack: EventAck) -> None:
        if self._session.acknowledge(ack.journal_id, ack.sequence):
            self._parts.memory.ack(ack.journal_id, ack.sequence)

    async def _upload(self, stream: Stream) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                batch = self._session.next(self._parts.journals)
            except Unreadable as error:
                self._parts.journals.drop(error)
                continue
            if batch is not None:
                if self._session.in_flight == 1:
                    self._progress = loop.time()
                await stream.send(outgoing.events(batch, self._parts.journals.timeline))
            else:
                await self._parts.wake.wait(LOOK_S)

    async def _beat(self, stream: Stream, interval: float) -> None:
        loop = asyncio.get_running_loop()
        asked = loop.time()  # for the time, by the hello
        while True:
            patience = STALLED_S + self._session.bytes_in_flight / SLOWEST
            if self._session.in_flight and loop.time() - self._progress > patience:
                raise Lost(f"no acknowledgement for {patience:.0f} s")
            message = self._parts.heartbeat(self._parts.state.backlog)
            if loop.time() - asked >= TIME_S:
                message.heartbeat.asks_time, asked = True, loop.time()
            await stream.send(message)
            await asyncio.sleep(interval)

    async def _report(self, stream: Stream) -> None:
        """Send the newest outcome of each wish, once per stream."""
        wishes = self._parts.wishes
        sent: dict[str, object] = {}
        while True:
            new = [outcome for name, outcome in wishes.outcomes.items() if sent.get(name) != outcome]
            for outcome in new:
                await stream.send(outgoing.status(outcome))
                sent[outcome.name] = outcome
            if not new:
                await wishes.changed.wait()

    # figures

    def measure(self) -> None:
        """Bring backlog, acknowledged numbers and conflicts up to date on the board."""
        waiting, conflicts = 0, []
        for journal in self._parts.journals:
            try:
                if self._session.conflict(journal):
                    conflicts.append(journal.pipeline)
                    self._parts.memory.conflict(journal.id, self._session.stored(journal.id))
                stored = self._session.stored(journal.id)
                waiting += backlog(journal.bounds, stored)
            except JournalError:
                continue  # whoever reads it next says so and drops it
            self._parts.slot.counter(labelled("uplink_acked", pipeline=journal.pipeline)).set(stored)
        for pipeline in set(conflicts) - set(self._parts.state.conflicts):
            log.error(CONFLICT, pipeline, pipeline)
        self._parts.state.backlog, self._parts.state.conflicts = waiting, tuple(conflicts)
        self._parts.slot.counter("uplink_backlog").set(waiting)
        self._parts.slot.counter("uplink_conflict").set(len(conflicts))


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first single exception of a group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
