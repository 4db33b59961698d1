"""Pipelines as `agentd` runs them: rings, snapshots and sockets made once, workers come and go."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edgeflow_agent.config import Settings
from edgeflow_agent.control.storage import Storage
from edgeflow_agent.control.supervisor import SOON_NS, Child, Death, Supervisor
from edgeflow_agent.core import messages, shm, snapshot, spawn
from edgeflow_agent.core.board import SLOTS, Board, labelled
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.errors import shortened
from edgeflow_agent.core.layout import MAX_RING_BYTES, RingSpec, know_keys
from edgeflow_agent.core.logs import Keeping
from edgeflow_agent.deploy.bundle import Bundle
from edgeflow_agent.store.budget import Limits
from edgeflow_agent.store.journal import durable_of
from edgeflow_agent.table import TABLE
from edgeflow_proto.event import ROW_BITS
from edgeflow_proto.pipeline.graph import Graph

log = logging.getLogger("edgeflow.agentd")
FAILING_DEATHS = 3
WORN_ROWS = 1 << (ROW_BITS - 1)  # half of those that a ring has numbers for: a year at 16 kHz
MAX_ERROR = 1200  # characters
FAILED_EXIT = 3  # of a worker that said why before

Tell = Callable[[str, str, dict[str, Any]], None]  # name, severity, data


class Shared(NamedTuple):
    """What workers share with all others: the board, the bell for commits (eventfd), the logs."""

    board: int
    commits: int
    logs: Keeping


class Ring:
    """The memory of one input, held for as long as the pipeline is deployed."""

    def __init__(self, spec: RingSpec, keys: Sequence[str]) -> None:
        self.spec = spec
        self.memory = shm.create(f"ring-{spec.pipeline}-{spec.input}"[:200], spec.size)
        know_keys(self.memory, spec, keys)


class Keys(msgspec.Struct, frozen=True):
    """Of what a worker saves, the names of its inputs' keys by their numbers: its state goes by these."""

    keys: dict[str, tuple[str, ...]] = {}


class Pipeline:
    """One deployed pipeline: what its worker and `io` share, and how it is doing."""

    def __init__(self, name: str, digest: str, origin: str, folder: Path, params: dict[str, Any]) -> None:
        self.name, self.digest, self.origin, self.folder, self.params = name, digest, origin, folder, params
        self.state, self.reason = "starting", ""
        self.errors: dict[str, str] = {}
        self.warnings: tuple[str, ...] = ()
        self.since = boottime_ns()
        self.rings: list[Ring] = []
        self.snapshots = -1
        self.settled = -1  # serial of the snapshot the last worker started from
        self.deaths = 0  # of workers in a row at one position
        self.effects: tuple[socket.socket, socket.socket] | None = None
        self.child: Child | None = None
        self.slot = -1
        self.records = False  # rows of any input

    def make(self, generation: Callable[[], int], journal: Path) -> Graph:
        """Read the bundle and make what is shared; raises ValueError or OSError when it cannot be run.

        Keys have the numbers that the state beside the journal knows them by.
        """
        graph = Bundle(self.folder, self.params).graph
        self.records = graph.records
        specs = [ring_spec(graph, name, generation()) for name in graph.inputs]
        known = self._keys(journal)
        self.rings = [Ring(spec, known.get(spec.input, ())) for spec in specs]
        self.snapshots = snapshot.create()
        self.effects = spawn.pair()
        return graph

    def _keys(self, journal: Path) -> dict[str, tuple[str, ...]]:
        durable = durable_of(journal)
        if durable is None or durable.digest != self.digest:
            return {}
        try:
            return msgspec.msgpack.decode(durable.state, type=Keys).keys
        except msgspec.MsgspecError:  # of another version of EdgeFlow; the worker says that it begins anew
            return {}

    def close(self) -> None:
        """Let go of all that was shared."""
        shm.close(*(ring.memory for ring in self.rings), self.snapshots if self.snapshots >= 0 else None)
        for sock in self.effects or ():
            sock.close()

    def change(self, state: str, reason: str = "") -> None:
        """Note how the pipeline is doing."""
        if (state, reason) != (self.state, self.reason):
            self.state, self.reason, self.since = state, reason, boottime_ns()

    def status(self, journal: Path) -> messages.PipelineStatus:
        """Return what others are told."""
        errors = {name: shortened(text, MAX_ERROR) for name, text in list(self.errors.items())[-2:]}
        return messages.PipelineStatus(
            self.name, self.digest, self.origin, self.state, self.reason[:1000], self.slot, str(self.folder),
            str(journal), self.child.restarts if self.child else 0, self.since, errors,
            self.warnings[:3],
        )  # fmt: skip


def ring_spec(graph: Graph, name: str, generation: int) -> RingSpec:
    """Return the ring of an input; raises ValueError when it would be too large."""
    node = graph.inputs[name]
    spec = RingSpec(
        graph.name, name, node.intake.row_shape, node.intake.dtype, graph.capacity(name), generation,
        node.intake.max_keys if node.intake.key else 1, node.options.lossless,
    )  # fmt: skip
    if spec.size > MAX_RING_BYTES:
        raise ValueError(
            f"inputs.{name}: its buffer takes {spec.size >> 20} MiB, the most is {MAX_RING_BYTES >> 20}"
        )
    return spec


class Pipelines:
    """All pipelines, their workers, and `io`'s part in them."""

    def __init__(
        self,
        supervisor: Supervisor,
        shared: Shared,
        io: Child,
        settings: Settings,
        tell: Tell,
        storage: Storage,
    ) -> None:
        self._supervisor = supervisor
        self._shared = shared
        self._board = Board(shared.board)
        self._io = io
        self._settings = settings
        self._tell = tell
        self._storage = storage
        self.by_name: dict[str, Pipeline] = {}
        self._leaving: dict[str, Pipeline] = {}  # stopped, their workers still draining
        self._unattached: set[str] = set()  # `io` could not take what it must know of them
        self.changed = True

    def start(self, pipeline: Pipeline, generation: Callable[[], int]) -> None:
        """Run a pipeline in place of the one of the same name; what cannot be run is kept as failing."""
        self.stop(pipeline.name)
        self.by_name[pipeline.name] = pipeline
        self.changed = True
        try:
            pipeline.make(generation, self.journal(pipeline.name))
            pipeline.slot = self._free_slot()
        except (ValueError, OSError) as error:
            pipeline.change("failing", str(error))
            self._tell("pipeline.failed", "error", {"pipeline": pipeline.name, "reason": str(error)})
            return
        self._board.slot(pipeline.slot).clear()
        self._supervise(pipeline)
        self.attach(pipeline)

    def _supervise(self, pipeline: Pipeline) -> None:
        pipeline.child = Child(
            f"worker of {pipeline.name}", TABLE["worker"], self._board.slot(pipeline.slot),
            messages.FromWorker,
            lambda: self._begin(pipeline), lambda message: self._heard(pipeline, message),
            lambda death: self._died(pipeline, death),
        )  # fmt: skip
        leaving = self._leaving.get(pipeline.name)
        pipeline.child.after = leaving.child if leaving else None  # one writer per journal
        self._supervisor.add(pipeline.child)

    def _free_slot(self) -> int:
        draining = [p for p in self._leaving.values() if p.child is not None and p.child.alive]
        taken = {pipeline.slot for pipeline in (*self.by_name.values(), *draining)}
        for slot in range(TABLE["worker"].slot, SLOTS):
            if slot not in taken:
                return slot
        raise ValueError(f"more than {SLOTS - TABLE['worker'].slot} pipelines")

    def stop(self, name: str) -> None:
        """Stop a pipeline and let go of its rings; its journal stays."""
        pipeline = self.by_name.pop(name, None)
        if pipeline is None:
            return
        self.changed = True
        self._unattached.discard(name)
        self._io.send(messages.Detach(name))
        if pipeline.child is not None:
            self._supervisor.remove(pipeline.child)
            if pipeline.child.alive:
                self._leaving[name] = pipeline
        pipeline.close()

    def worn(self) -> list[Pipeline]:
        """Return the pipelines a ring of which will run out of numbers for its rows."""
        return [pipeline for pipeline in self.by_name.values() if self._rows(pipeline) >= WORN_ROWS]

    def _rows(self, pipeline: Pipeline) -> int:
        """Return how many rows have come to the ring that has had most."""
        if pipeline.slot < 0:
            return 0
        known = self._board.slot(pipeline.slot).read()
        names = ("rows_total", "rows_lost_total")
        rows = (
            sum(known.get(labelled(name, input=ring.spec.input), 0) for name in names)
            for ring in pipeline.rings
        )
        return max(rows, default=0)

    @property
    def used(self) -> set[str]:
        """Digests of the bundles that run, or drain."""
        return {pipeline.digest for pipeline in (*self.by_name.values(), *self._leaving.values())}

    def journal(self, name: str) -> Path:
        """Return the folder of a pipeline's journal."""
        return Path(self._settings.data) / "journals" / name

    def _recording(self, name: str) -> Path:
        return Path(self._settings.data) / "recordings" / name

    def listen(self, asked: messages.Listen) -> socket.socket:
        """Have a worker show rows of an edge; return the socket it speaks on. Raises LookupError."""
        pipeline = self.by_name.get(asked.pipeline)
        if pipeline is None:
            raise LookupError("no such pipeline")
        ours, theirs = spawn.pair()
        with theirs:
            message = messages.Tap(asked.edge, asked.rate)
            if pipeline.child is not None and pipeline.child.send(message, (theirs.fileno(),)):
                return ours
        ours.close()
        raise LookupError("its worker does not run")

    # both ends of the rings

    def attach(self, pipeline: Pipeline) -> None:
        """Give a pipeline's shared things to `io`; the worker learns of the new writer."""
        if pipeline.effects is None or self._io.channel is None:
            return
        ready, credit = self._counters(pipeline)
        fds = [pipeline.effects[1].fileno(), pipeline.snapshots]
        for ring, a, b in zip(pipeline.rings, ready, credit, strict=True):
            fds += [ring.memory, a, b]
        specs = tuple(ring.spec for ring in pipeline.rings)
        message = messages.Attach(pipeline.name, str(pipeline.folder), pipeline.params, specs)
        self._unattached.discard(pipeline.name)
        if not self._io.send(message, tuple(fds)):
            self._unattached.add(pipeline.name)
        if pipeline.child is not None:
            for spec, a, b in zip(specs, ready, credit, strict=True):
                pipeline.child.send(messages.BindReader(spec.input), (a, b))
        shm.close(*ready, *credit)

    def _counters(self, pipeline: Pipeline) -> tuple[list[int], list[int]]:
        count = len(pipeline.rings)
        return [shm.eventfd() for _ in range(count)], [shm.eventfd() for _ in range(count)]

    def _begin(self, pipeline: Pipeline) -> None:
        """First messages of a worker: all it shares, with fresh counters that `io` is told of."""
        assert pipeline.child is not None
        assert pipeline.effects is not None
        self._count_deaths(pipeline)
        ready, credit = self._counters(pipeline)
        fds = [self._shared.board, pipeline.snapshots, self._shared.commits, pipeline.effects[0].fileno()]
        for ring, a, b in zip(pipeline.rings, ready, credit, strict=True):
            fds += [ring.memory, a, b]
        pipeline.child.send(self._start_message(pipeline), tuple(fds))
        for ring, a, b in zip(pipeline.rings, ready, credit, strict=True):
            if not self._io.send(messages.BindWriter(pipeline.name, ring.spec.input), (a, b)):
                self._unattached.add(pipeline.name)
        shm.close(*ready, *credit)

    def _start_message(self, pipeline: Pipeline) -> messages.StartWorker:
        limit = self._limit(pipeline)
        return messages.StartWorker(
            pipeline.slot, pipeline.name, str(pipeline.folder), pipeline.digest, pipeline.params,
            str(self.journal(pipeline.name)), limit.journal, str(self._recording(pipeline.name)),
            limit.recording, int(self._settings.commit), tuple(ring.spec for ring in pipeline.rings),
            self._shared.logs, pipeline.deaths,
        )  # fmt: skip

    def _limit(self, pipeline: Pipeline) -> Limits:
        """Return what a pipeline may store that begins; for a new one the budget is divided anew."""
        name = pipeline.name
        known = self._storage.limits.get(name)
        if known is None or (pipeline.records and not known.recording):
            self._storage.look({**self.writing, name: pipeline.records}, self.resting)
        self._storage.changed.discard(name)
        self._storage.begin(name)
        return self._storage.limit(name)

    @property
    def writing(self) -> dict[str, bool]:
        """The pipelines whose journals are written to, and whether they record rows."""
        known = (*self._leaving.values(), *self.by_name.values())
        return {p.name: p.records for p in known if p.child is not None and p.child.alive}

    @property
    def resting(self) -> dict[str, bool]:
        """The pipelines that are deployed and have no worker just now, and whether they record rows."""
        writing = self.writing
        return {name: p.records for name, p in self.by_name.items() if name not in writing}

    def limit(self) -> None:
        """Tell the workers whose limits have changed."""
        self._storage.turn(self.writing, self.resting)
        for name in list(self._storage.changed):
            pipeline = self.by_name.get(name)
            if pipeline is None or pipeline.child is None or not pipeline.child.alive:
                self._storage.changed.discard(name)  # its next worker begins with it
            elif pipeline.child.send(messages.Limits(*self._storage.limit(name), self._storage.hold)):
                self._storage.changed.discard(name)

    def _count_deaths(self, pipeline: Pipeline) -> None:
        """Count workers that got no further than the one before; the snapshots tell."""
        settled = snapshot.settled(pipeline.snapshots)
        first = pipeline.settled < 0
        pipeline.deaths = 0 if first else pipeline.deaths + 1 if settled == pipeline.settled else 1
        pipeline.settled = settled

    # what workers say

    def turn(self) -> None:
        """A worker that has lived long enough after its deaths is running again."""
        now = boottime_ns()
        for name in self._unattached & self.by_name.keys():
            self.attach(self.by_name[name])
        self._leaving = {n: p for n, p in self._leaving.items() if p.child and p.child.alive}
        for pipeline in self.by_name.values():
            child = pipeline.child
            alive = child is not None and child.alive and now - child.started > SOON_NS
            if alive and pipeline.state == "failing" and now - pipeline.since > SOON_NS:
                pipeline.change("running")
                self.changed = True

    def _heard(self, pipeline: Pipeline, message: object) -> None:
        self.changed = True
        if isinstance(message, messages.WorkerReady):
            if pipeline.deaths < FAILING_DEATHS:
                pipeline.change("running")
        elif isinstance(message, messages.WorkerFailed):
            pipeline.change("failing", message.reason)
        elif isinstance(message, messages.StepFailed):
            dropped = f"{message.count} row{'' if message.count == 1 else 's'} dropped"
            pipeline.errors[message.step] = f"{dropped}: {message.error}\n{message.trace}".rstrip()

    def _died(self, pipeline: Pipeline, death: Death) -> None:
        self.changed = True
        deaths = self._without_progress(pipeline, death)
        told = death.code == FAILED_EXIT and pipeline.state == "failing"  # it said why before it exited
        reason = pipeline.reason if told else str(death)
        pipeline.change("failing" if told or deaths >= FAILING_DEATHS else "starting", reason)
        log.warning("%s: %s", pipeline.name, reason, extra={"pipeline": pipeline.name})
        data = {"pipeline": pipeline.name, "reason": reason, "code": death.code, "hung": death.hung}
        self._tell("worker.died", "error", data)

    def _without_progress(self, pipeline: Pipeline, death: Death) -> int:
        """Count deaths in a row; a worker that got further than the one before it is not made to wait."""
        assert pipeline.child is not None
        if snapshot.settled(pipeline.snapshots) != pipeline.settled:
            pipeline.child.deaths, pipeline.child.due = 1, boottime_ns()
            return 1
        return death.deaths

    def statuses(self) -> tuple[messages.PipelineStatus, ...]:
        """Return what is known of every pipeline."""
        return tuple(pipeline.status(self.journal(pipeline.name)) for pipeline in self.by_name.values())
