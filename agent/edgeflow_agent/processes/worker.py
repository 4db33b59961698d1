"""The worker: one pipeline. Reads rings, runs the graph, keeps the journal, hands effects to `io`."""

from __future__ import annotations

import logging
import os
import selectors
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
from setproctitle import setproctitle

from edgeflow_agent.core import clock, errors, footprint, logs, messages, prints, shm
from edgeflow_agent.core.batch import Batch
from edgeflow_agent.core.board import Board, Histogram, labelled
from edgeflow_agent.core.channel import Channel, Closed
from edgeflow_agent.core.notice import notice
from edgeflow_agent.core.ring import KEY_MASK, Gap, RingReader
from edgeflow_agent.core.snapshot import Snapshots
from edgeflow_agent.core.spawn import inherited
from edgeflow_agent.deploy.bundle import Bundle
from edgeflow_agent.flow.effects import EffectSender
from edgeflow_agent.flow.queue import COMMIT_BYTES, Queue, copied
from edgeflow_agent.flow.recorder import Recorder
from edgeflow_agent.flow.saved import Saved
from edgeflow_agent.flow.setup import Models, setup_of
from edgeflow_agent.flow.source import Caution, Source
from edgeflow_agent.flow.tally import Tally
from edgeflow_agent.flow.taps import Taps
from edgeflow_agent.models.load import load_model
from edgeflow_agent.operators.load import operators
from edgeflow_agent.outputs.event import EventOutput
from edgeflow_agent.runtime.plan import compile_plan
from edgeflow_agent.runtime.run import Runtime, StepStoppedError
from edgeflow_agent.store.journal import Journal
from edgeflow_agent.store.ledger import HELD_NS, Ledger
from edgeflow_agent.store.retention import Evicted
from edgeflow_agent.table import TABLE
from edgeflow_proto import setup
from edgeflow_proto.event import Block

log = logging.getLogger("edgeflow.worker")
MAX_ROWS = 1024  # of one call of the graph
IDLE_S = 0.5
TICK_NS = 100_000_000
SLACK_NS = 200_000_000  # how long after its time a row may come to its ring
MAX_REASON = 10_000  # characters
FAILED_EXIT = 3  # the pipeline could not be loaded, and `agentd` was told why


class Worker:
    """One pipeline at work."""

    def __init__(self, channel: Channel, start: messages.StartWorker, fds: list[int]) -> None:
        """Load all of it; raises whatever a bundle or a store can raise."""
        self._channel = channel
        self._start = start
        board, snapshots, self._commits, effects, *rings = fds
        self._board = Board(board)
        self._slot = self._board.slot(start.slot)
        bundle = Bundle(Path(start.folder), start.params)
        self._graph = bundle.graph
        self._sources = {source.name: source for source in self._attach(rings)}
        self._load(bundle, Snapshots(snapshots))
        self._effects = EffectSender(self._graph, effects, self._slot)
        self._taps = Taps(self._graph, lambda edge: self._source_of(edge).key_name)
        self._queue = Queue(self._enough_bytes())
        self._refused = self._slot.counter("journal_refused")
        self._damages = 0  # segments set aside, that were told
        self._dropped = 0  # events that did not get into the journal, not told yet
        self._known = ""  # of the set-ups that the journal tells, the newest
        self._settled: tuple[int, ...] = ()
        self._decision = Histogram(self._slot, "decision")
        self._ticked = 0
        self._selector = selectors.DefaultSelector()
        self._stopping = False

    def _attach(self, fds: list[int]) -> Iterator[Source]:
        for index, spec in enumerate(self._start.rings):
            memory, ready, credit = fds[3 * index : 3 * index + 3]
            reader = RingReader(memory, spec, self._graph.flows[spec.input].columns)
            reader.bind(ready, credit)
            yield Source(index, reader, self._slot)

    def _load(self, bundle: Bundle, snapshots: Snapshots) -> None:
        start, graph = self._start, self._graph
        kinds = {node.kind for node in graph.steps.values()}
        models = Models(load_model)
        plan = compile_plan(graph, bundle.folder, operators(kinds), models)
        self._setup = setup_of(bundle, start, models)
        self._told = self._setup.fingerprint
        self._tally = Tally(self._slot, self._channel, graph, set(bundle.models))
        self._plan = plan
        self._runtime = Runtime(plan, self._tally, time.perf_counter_ns)
        self._recorder = Recorder(graph, self._sources, self._slot, start.digest, self._runtime.state)
        self._remembers = any(not operator.stateless for operator in plan.operators.values())
        self._journal = Journal(Path(start.journal), start.journal_bytes, self._set_up, self._evicted)
        self._ledger = Ledger(self._journal, snapshots, self._slot, start.digest, self._acked)
        self._caution = Caution(snapshots, start.deaths)
        events = [node for node in graph.outputs.values() if not node.options.effect]
        self._events = {node.name: EventOutput(graph, node, start.digest, bundle.models) for node in events}

    def _acked(self) -> int | None:
        """The newest event the relay has, as `link` wrote it on the board, if it has by now.

        More than there are it says of the journal that was here before, until it has seen this one.
        """
        counters = self._board.slot(TABLE["link"].slot).read()
        known = counters.get(labelled("uplink_acked", pipeline=self._start.pipeline))
        return known if known is None or known < self._journal.next else None

    def run(self) -> None:
        """Work until told to stop; then drain, commit, and return."""
        self._resume()
        self._tell_set_up()
        self._selector.register(self._channel.fileno(), selectors.EVENT_READ)
        for source in self._sources.values():
            self._selector.register(source.reader.ready, selectors.EVENT_READ)
        footprint.trim()
        self._channel.send(messages.WorkerReady())
        while not self._stopping:
            self._slot.beat()
            self._selector.select(self._patience())
            self._hear()
            self._turn()
        self._commit(last=True)
        self._recorder.end()

    def _patience(self) -> float:
        idle = TICK_NS * 1e-9 if self._plan.ticks else IDLE_S
        return min(idle, self._start.commit_ns * 1e-9) if self._queue else idle

    def _hear(self) -> None:
        try:
            while (received := self._channel.receive()) is not None:
                message, fds = received
                if isinstance(message, messages.BindReader):
                    self._rebind(self._sources[message.input].reader, *fds)
                elif isinstance(message, messages.Tap) and fds:
                    self._taps.add(message, fds[0])
                elif isinstance(message, messages.Limits):
                    self._recorder.limit(message.recording)
                    self._count_evicted(self._ledger.trim(message.journal, hold=message.hold))
                elif isinstance(message, messages.Stop):
                    self._stopping = True
        except Closed:
            self._stopping = True
        self._runtime.tap = self._taps.look if self._taps.turn(clock.boottime_ns()) else None

    def _rebind(self, reader: RingReader, ready: int, credit: int) -> None:
        self._selector.unregister(reader.ready)
        reader.bind(ready, credit)
        self._selector.register(ready, selectors.EVENT_READ)

    # resuming

    def _resume(self) -> None:
        self._tell_damage()
        saved = self._ledger.resume()
        durable = None if saved is not None else self._ledger.restored()
        try:
            self._restore(saved, durable)
        except (ValueError, KeyError, msgspec.MsgspecError) as error:  # of another version of EdgeFlow
            log.error("%s begins anew: %s", self._start.pipeline, error)
            self._tell("state.dropped", "warning", {"reason": str(error)}, clock.boottime_ns())
        self._recorder.begin(Path(self._start.recording), self._start.recording_bytes)
        self._release()
        fatal = self._caution.begin(list(self._sources.values()))
        if fatal is not None:
            self._take_out(fatal)

    def _restore(self, snapshot: bytes | None, durable: bytes | None) -> None:
        """Take up a snapshot; from a durable copy the rings are new ones, so windows begin anew."""
        data = snapshot if snapshot is not None else durable
        if data is None:
            return
        saved = msgspec.msgpack.decode(data, type=Saved)
        for name, source in self._sources.items():
            source.reader.position = saved.positions.get(name, 0) if snapshot is not None else 0
        self._known = saved.told if snapshot is not None and not self._ledger.damaged else ""
        for name, keys in saved.keys.items():
            if self._sources[name].reader.keys[: len(keys)] != keys:
                raise ValueError(f"the keys of {name} have other numbers than its state knows them by")
        self._runtime.restore(saved.runtime)
        if snapshot is not None:
            self._recorder.resume(saved.wanted)
            return
        for name in self._sources:
            self._runtime.gap(name)

    def _tell_damage(self) -> None:
        """Tell which segments of the journal were set aside, those not told yet."""
        for damage in self._ledger.damaged[self._damages :]:
            self._damages += 1
            self._slot.counter("journal_damaged_total").add()
            self._tell("gap", "error", damage.data, clock.boottime_ns())

    def _take_out(self, source: Source) -> None:
        """Skip a row that kills; it goes to the dead letters."""
        self._slot.counter("rows_skipped_total").add()
        if not source.reader.lost():
            row = source.view(1)
            data = {
                "input": source.name, "row": source.sequence, "key": source.key_name(int(row.key[0])),
                "values": row.values.ravel()[:64].tolist(), "reason": "workers died on it again and again",
            }  # fmt: skip
            self._tell("deadletter", "error", data, self._arrived(source, int(row.t[0])))
            self._recorder.skip(source)
            source.reader.position += 1
        self._runtime.gap(source.name)

    def _set_up(self) -> Block:
        """Return the event that tells what explains those behind it."""
        now = clock.now()
        data = self._setup.to_data()
        return notice(setup.NAME, "info", data, now, clock.boottime_ns(), self._start.digest)

    def _tell_set_up(self) -> None:
        """Say what explains the events to come, unless it was told, and what is not as asked for."""
        if self._known != self._told:
            self._queue.first = [self._set_up()]
        for name, operator in self._plan.operators.items():
            for what in operator.notices:
                log.warning("%s: steps.%s: %s", self._start.pipeline, name, what)
                self._tell("step.notice", "warning", {"step": name, "what": what}, clock.boottime_ns())

    # running

    def _turn(self) -> None:
        """Run all rows that are there; commit or settle whenever it is time."""
        now = clock.boottime_ns()
        for source in self._sources.values():
            while source.reader.poll() >= self._enough(source):
                self._read(source)
                self._slot.beat()
                self._rest()
        if self._plan.ticks and now - self._ticked >= TICK_NS:
            self._tick(now)
        self._effects.flush()
        self._rest()

    def _enough(self, source: Source) -> int:
        """How many rows to wait for: fewer bring nothing about, and are better off in the ring."""
        source.count()
        return 1 if self._caution.active else min(self._runtime.due(source.name), source.reader.margin)

    def _read(self, source: Source) -> None:
        """Run the next rows of one input, or count them as lost when the writer has come round."""
        reader = source.reader
        if lost := reader.lost():
            source.lost.add(lost)
            self._gap(source, Gap.OVERRUN, lost, source.sequence, clock.boottime_ns())
        careful = self._caution.active
        if careful:
            self._caution.hold(source)
        batch = source.view(1 if careful else MAX_ROWS)
        if self._remembers:  # torn rows must not get into what a step remembers: copy, check, then run
            batch = copied(batch)
        if not len(batch) or (self._remembers and not reader.intact(reader.position)):
            return
        with self._standing():
            results = self._run(source, batch)
        if not self._remembers and not reader.intact(reader.position):
            self._taps.drop()
            return
        reader.position += len(batch)
        if source.name in self._plan.arrival:
            self._decision.record(clock.boottime_ns() - int(batch.t[-1]))
        self._keep(results)
        if careful:
            self._caution.ran()
            self._secure()
            self._caution.passed(source)

    def _tick(self, now: int) -> None:
        """Tell the steps that wait for time to pass how far it has come: all rows up to then are run."""
        self._ticked = now
        with self._standing():
            results = self._runtime.tick(now - SLACK_NS)
        self._keep(results)

    @contextmanager
    def _standing(self) -> Iterator[None]:
        """Commit the state as it was before rows on which a step stops the pipeline."""
        before = self._state() if self._plan.stops else None
        try:
            yield
        except StepStoppedError:
            self._commit(last=True, state=before)
            raise

    def _run(self, source: Source, batch: Batch) -> list[tuple[str, Batch]]:
        """Run the graph over rows, stopping at each gap mark among them."""
        marks = np.flatnonzero(batch.key > KEY_MASK)
        if not len(marks):
            return self._runtime.push(source.name, batch)
        reasons = (batch.key[marks] >> np.uint32(28)).tolist()
        clean = Batch(batch.values, batch.t, batch.key & np.uint32(KEY_MASK), batch.span, batch.columns)
        results: list[tuple[str, Batch]] = []
        ends = [*marks.tolist(), len(batch)]
        results += self._part(source, clean, 0, ends[0])
        for i, reason in enumerate(reasons):
            row = ends[i]
            t = self._arrived(source, int(clean.t[row]))
            self._gap(source, Gap(reason), 0, int(clean.span[row, 0]), t)
            results += self._part(source, clean, row, ends[i + 1])
        return results

    def _part(self, source: Source, batch: Batch, start: int, end: int) -> list[tuple[str, Batch]]:
        """Run some of the rows; results are copied, because the next part uses their memory again."""
        if start == end:
            return []
        results = self._runtime.push(source.name, batch.take(slice(start, end)))
        return [(output, copied(rows)) for output, rows in results]

    def _arrived(self, source: Source, t: int) -> int:
        """Return when a row of time `t` came (CLOCK_BOOTTIME ns): now, where it carries a time of its own."""
        return t if source.name in self._plan.arrival else clock.boottime_ns()

    def _gap(self, source: Source, reason: Gap, lost: int, row: int, t: int) -> None:
        """Windows begin anew behind a gap, and an event says so; `lost` is 0 where it cannot be known."""
        self._runtime.gap(source.name)
        source.gaps.add()
        data = {
            "input": source.name,
            "reason": reason.name.lower(),
            "before_row": row,
            "rows_lost": lost or None,
        }
        self._tell("gap", "warning", data, t)

    def _keep(self, results: list[tuple[str, Batch]]) -> None:
        """Queue events, hand over effects."""
        decided = clock.boottime_ns()
        for output, batch in results:
            if output in self._events:
                self._queue.add(output, batch, decided)
                self._queue.urgent |= self._events[output].urgent
                self._recorder.events(self._graph.flows[self._edge_of(output)].inputs, batch.span)
            else:
                self._effects.send(output, batch, self._source_of(self._edge_of(output)).key_name)
        self._taps.send()

    def _enough_bytes(self) -> int:
        """Return of how many bytes of rows a commit is made at once; several go into the journal."""
        return min(COMMIT_BYTES, self._ledger.limit // 8)

    def _edge_of(self, output: str) -> str:
        return self._graph.outputs[output].source

    def _source_of(self, edge: str) -> Source:
        return self._sources[self._graph.flows[edge].inputs[0]]

    # committing

    def _rest(self) -> None:
        """Record rows, and commit what waits or settle, each not more often than it should be."""
        now = clock.boottime_ns()
        self._recorder.turn(now)
        for data in self._tally.notices(now):
            self._tell("step.failed", "error", data, now)
        for letter in self._tally.letters():
            self._tell("deadletter", "error", letter, now)
        for process in self._ledger.held(now):
            self._tell("journal.held", "warning", {"process": process, "seconds": HELD_NS / 1e9}, now)
        if self._queue:
            if self._ledger.due(now, self._start.commit_ns, urgent=self._queue.urgent):
                self._commit()
        elif self._ledger.stale(now) and self._positions() != self._settled:
            self._settle(now)

    def _positions(self) -> tuple[int, ...]:
        return tuple(source.reader.position for source in self._sources.values())

    def _commit(self, *, last: bool = False, state: bytes | None = None) -> None:
        """Commit what waits and the state behind it; what the disk refuses waits on, up to a bound."""
        queue = self._queue
        blocks = [*queue.notices, *self._blocks()]
        done, evicted = self._ledger.commit(
            clock.boottime_ns(), blocks, state or self._state(), queue.decided, last=last
        )
        if not done:
            self._bound()
            return
        for output, batches in queue.rows.items():
            self._slot.counter(labelled("events_total", output=output)).add(sum(map(len, batches)))
        self._queue = Queue(self._enough_bytes())
        self._heal()
        self._tell_damage()
        shm.add(self._commits, 1)
        self._recorder.committed(clock.boottime_ns())
        self._release()
        self._count_evicted(evicted)

    def _count_evicted(self, evicted: Evicted | None) -> None:
        """Count events that went; those that nobody else has were told before."""
        if evicted is not None:
            self._slot.counter("events_evicted_total").add(evicted.count)
            self._slot.counter("events_evicted_unacked_total").add(evicted.lost)

    def _evicted(self, evicted: Evicted) -> Block:
        """Return the event that says which events go that nobody else has."""
        return notice("gap", "error", evicted.data, clock.now(), clock.boottime_ns(), self._start.digest)

    def _blocks(self) -> Iterator[Block]:
        now = clock.now()
        for output, batches in self._queue.rows.items():
            name = self._source_of(self._edge_of(output)).key_name
            yield from self._events[output].blocks(batches, name, now, self._queue.decided)

    def _secure(self) -> None:
        """Let the point to resume from be here; the disk is only asked where events wait."""
        if self._queue:
            self._commit()
        else:
            self._settle(clock.boottime_ns())

    def _settle(self, now: int) -> None:
        self._count_evicted(self._ledger.settle(now, self._state()))
        self._release()

    def _state(self) -> bytes:
        positions = {name: source.reader.position for name, source in self._sources.items()}
        keys = {name: source.keys for name, source in self._sources.items()}
        return msgspec.msgpack.encode(
            Saved(positions, self._runtime.state(), self._told, self._recorder.wanted, keys)
        )

    def _release(self) -> None:
        """All rows before here are behind a snapshot: a writer that waits may have their place."""
        self._settled = self._positions()
        for source in self._sources.values():
            source.reader.release(self._recorder.needed(source))

    def _bound(self) -> None:
        """The disk refuses for long: let the oldest of what waits go, and say so as soon as it can be.

        Where it is the limit that refuses, so much goes that the rest goes in.
        """
        log.error("the journal refuses: %s", self._ledger.error)
        self._refused.set(2 if self._ledger.too_much else 1)
        dropped = self._queue.shed(self._ledger.limit // 4) if self._ledger.too_much else self._queue.shed()
        if dropped:
            self._slot.counter("events_dropped_total").add(dropped)
            self._dropped += dropped

    def _heal(self) -> None:
        """The disk takes what waited: say what did not."""
        self._refused.set(0)
        if self._dropped:
            data = {"reason": "disk", "events_lost": self._dropped}
            self._dropped = 0
            self._tell("gap", "error", data, clock.boottime_ns())

    def _tell(self, name: str, severity: str, data: dict[str, Any], t: int) -> None:
        self._queue.tell(notice(name, severity, data, clock.now(), t, self._start.digest))


def main() -> int:
    """Run the worker that `agentd` started; returns its exit code."""
    channel = Channel(inherited(), messages.ToWorker)
    message, fds = channel.wait()
    if not isinstance(message, messages.StartWorker):
        return 2
    setproctitle(f"edgeflow worker {message.pipeline}")
    logs.keep(message.logs, "worker", Board(fds[0]).slot(message.slot), message.pipeline)
    prints.take()
    try:
        worker = Worker(channel, message, fds)
    except (
        Exception
    ) as error:  # whatever is wrong with the bundle or the store, `agentd` is told and shows it
        log.exception("%s cannot be run", message.pipeline)
        channel.send(messages.WorkerFailed(errors.reason(error)[:MAX_REASON]))
        return FAILED_EXIT
    try:
        worker.run()
    except StepStoppedError as error:  # it stands still at this row, and is tried again now and then
        log.error("%s: %s", message.pipeline, error)
        channel.send(messages.WorkerFailed(f"stopped, as its step asks for: {error}"[:MAX_REASON]))
        return FAILED_EXIT
    return 0


def live() -> NoReturn:
    """Be that process, to its end."""
    logs.begin()
    code = main()
    prints.end()
    logging.shutdown()
    os._exit(code)  # model runtimes can crash at teardown; everything that matters is written


if __name__ == "__main__":
    live()
