"""`agentd`: holds what the others share, runs them by the table, and decides which pipelines run."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import lmdb
import msgspec

from edgeflow_agent.config import Http, Settings, pipelines_folder
from edgeflow_agent.control.notices import Notices
from edgeflow_agent.control.offers import Offers, Trial
from edgeflow_agent.control.pipelines import Pipeline, Pipelines, Shared
from edgeflow_agent.control.storage import Reserved, Storage
from edgeflow_agent.control.supervisor import Child, Death, Supervisor
from edgeflow_agent.control.systemd import Systemd
from edgeflow_agent.control.timekeeper import Timekeeper
from edgeflow_agent.control.watch import WatchedFolder
from edgeflow_agent.core import board as boards
from edgeflow_agent.core import clock, footprint, logs, messages, shm, spawn
from edgeflow_agent.core.background import Background
from edgeflow_agent.core.reactor import Reactor
from edgeflow_agent.core.spawn import Spawned
from edgeflow_agent.core.version import version
from edgeflow_agent.deploy.lifecycle import effective
from edgeflow_agent.store.state import Alive, OfferRecord, State
from edgeflow_agent.table import AGENTD_SLOT, TABLE
from edgeflow_proto.event import AGENT

log = logging.getLogger("edgeflow.agentd")
LINK_S = 0.5
TURN_S = 0.25
ALIVE_NS = 60 * 10**9
JOURNAL_BYTES = 16 << 20
MAX_NOTICES = 1000
LENGTHS = (2000, 300, 60)  # of what is said of a pipeline's troubles, the first that fits into a message
PORT_TRIES, PORT_WAIT_S = 10, 0.2


class AlreadyRunning(RuntimeError):
    """Another agent has this store."""


class PortTaken(RuntimeError):
    """The local endpoint cannot be served."""


def lock(store: Path) -> int:
    """Take the store for this process; raises AlreadyRunning. The lock goes with the process."""
    fd = os.open(store / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(fd, 32, 0).decode(errors="replace").strip()
        os.close(fd)
        raise AlreadyRunning(f"{store} is in use by the agent with process id {owner or 'unknown'}") from None
    with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def check_port(http: Http) -> None:
    """Make sure that the local endpoint can be served; raises PortTaken.

    The `link` of an agent that was killed just before may still be on its way out.
    """
    family = socket.AF_INET6 if ":" in http.host else socket.AF_INET
    for patience in (*[True] * PORT_TRIES, False):
        try:
            socket.create_server((http.host, http.port), family=family).close()
            return
        except OSError as error:
            if not patience:
                why = os.strerror(error.errno or 0)
                raise PortTaken(
                    f"http {http.host}:{http.port}: {why} (settings: http: {{port: …}})"
                ) from None
            time.sleep(PORT_WAIT_S)


class Agent:
    """The whole agent, but for what its children do."""

    def __init__(self, settings: Settings, settings_path: Path | None, early: Spawned | None) -> None:
        """Open the store; raises AlreadyRunning, PortTaken, StateError, JournalError or OSError."""
        self._settings = settings
        self._settings_path = str(settings_path or "")
        self._store = Path(settings.data)
        self._store.mkdir(parents=True, exist_ok=True)
        self._lock = lock(self._store)
        check_port(settings.http)
        self._share()
        for name in ("run", "journals", "files"):
            (self._store / name).mkdir(exist_ok=True)
        own = self._store / "journals" / AGENT
        self._notices = Notices(own, JOURNAL_BYTES, self._slot, self._acked, self._relieve)
        self._tell = self._notices.tell
        self._storage = self._budgeted()
        self._state = State(self._store / "state", self._relieve)
        self._brokers: dict[str, messages.BrokerStatus] = {}
        self._loop = Reactor()
        self._systemd = Systemd()
        self._compose(settings_path, early)
        self._time = Timekeeper(self._state, self._tell)
        self._notified_at, self._alive_at = 0, -ALIVE_NS  # the first turn says that it is alive
        self._stopping = False

    def _share(self) -> None:
        self._board_fd = boards.create()
        self._board = boards.Board(self._board_fd)
        self._slot = self._board.slot(AGENTD_SLOT)
        self._commits = shm.eventfd()
        self._posts = spawn.pair()
        folder = self._store / "logs"
        self._logs = logs.Keeping(str(folder), self._settings.log_bytes, logs.boot_number(folder))
        logs.keep(self._logs, "agentd", self._slot)

    def _budgeted(self) -> Storage:
        reserved = Reserved(self._settings.log_bytes, AGENT, JOURNAL_BYTES)
        slots = (self._slot, self._board.slot(TABLE["link"].slot))
        return Storage(self._store, self._settings, reserved, slots, self._notices.tell_now)

    def _acked(self) -> int | None:
        return self._storage.acked(AGENT)

    def _relieve(self) -> bool:
        return self._storage.relieve()

    def _compose(self, settings_path: Path | None, early: Spawned | None) -> None:
        self._zygote = self._child("zygote", None, self._begin_zygote, lambda _: None)
        self._supervisor = Supervisor(self._loop, self._settings.hang, self._zygote, early)
        self._io = self._child("io", messages.FromIo, self._begin_io, self._heard_io)
        self._link = self._child("link", messages.FromLink, self._begin_link, self._heard_link)
        shared = Shared(self._board_fd, self._commits, self._logs)
        self._pipelines = Pipelines(
            self._supervisor, shared, self._io, self._settings, self._tell, self._storage
        )
        background = Background(self._loop)
        params = self._settings.params
        self._offers = Offers(self._loop, background, self._state, self._store, params)
        folder = pipelines_folder(self._settings, settings_path)
        self._folder = WatchedFolder(folder, self._offers, self._storage, background)

    def _child(
        self, name: str, types: object, begin: Callable[[], None], heard: Callable[[object], None]
    ) -> Child:
        slot = self._board.slot(TABLE[name].slot)
        return Child(name, TABLE[name], slot, types, begin, heard, self._died)

    # running

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; then let every process drain, and return."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.on_signal(number, self._loop.stop)
        if self._state.damaged:
            data = {"reason": self._state.damaged, "pipelines": self._offers.recover()}
            self._tell("state.damaged", "error", data)
        self._offers.clean()
        self._tell_start()
        self._supervisor.add(self._zygote)
        self._supervisor.add(self._io)
        self._loop.after(LINK_S if self._offers.deployments else 0.0, self._start_link)
        for name in self._offers.deployments:
            self._deploy(name)
        self._write_run_file()
        self._systemd.notify("READY=1")
        self._loop.after(footprint.SETTLED_S, footprint.trim)
        self._loop.run(self._turn, TURN_S)
        self._shut_down()

    def _start_link(self) -> None:
        """Start `link`, which is the heaviest to load: what decides comes first."""
        if not self._stopping:
            self._supervisor.add(self._link)

    def _turn(self) -> None:
        self._slot.beat()
        self._supervisor.turn()
        self._folder.turn()
        self._offers.turn()
        self._pipelines.turn()
        self._pipelines.limit()
        self._time.turn()
        self._settle()
        self._flush()
        self._keep_alive()

    def _settle(self) -> None:
        """Run what is now wanted, and tell `link` of it."""
        while self._offers.changed:
            self._deploy(self._offers.changed.pop())
        with contextlib.suppress(OSError):
            self._offers.tidy(self._pipelines.used)
        if self._folder.changed:
            self._folder.changed, self._pipelines.changed = False, True
        if self._pipelines.changed:
            self._pipelines.changed = not self._tell_link()
        self._time.tell(self._link.send)

    def _tell_link(self) -> bool:
        """Tell `link` of all pipelines, of many in trouble more briefly; False when it is full."""
        statuses, brokers = self._statuses(), tuple(self._brokers.values())
        for longest in (*LENGTHS, 0):
            told = messages.Pipelines(tuple(_brief(status, longest) for status in statuses), brokers)
            if self._link.send(told):
                return True
            if self._link.fits(told):
                return False
        log.error("%d pipelines and refused bundles are more than can be told of", len(statuses))
        return True

    def _keep_alive(self) -> None:
        now = clock.boottime_ns()
        if self._systemd.watchdog_ns and now - self._notified_at >= self._systemd.watchdog_ns:
            self._notified_at = now
            self._systemd.notify("WATCHDOG=1")
        if now - self._alive_at >= ALIVE_NS:
            self._alive_at = now
            self._live(clean=False)
            for worn in self._pipelines.worn():
                self._renew(worn)

    def _live(self, *, clean: bool) -> None:
        self._time.live()
        with contextlib.suppress(lmdb.Error):  # a full disk must not stop what runs
            now = (clock.boot_id(), clock.boottime_ns(), clock.wall_ns())
            self._state.live(Alive(*now, clean, self._settings.device))

    def _write_run_file(self) -> None:
        """Tell others who is here; a full disk must not keep it from running."""
        target = self._store / "run" / "agent.json"
        temporary = target.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps({"pid": os.getpid(), "device": self._settings.device}))
            temporary.rename(target)
        except OSError as error:
            log.error("%s: %s", target, error)

    def _shut_down(self) -> None:
        """Inputs first, so that workers drain all that came in; `link` last, so that it can still upload."""
        self._systemd.notify("STOPPING=1")
        self._stop([self._zygote, self._io])
        self._stop([p.child for p in self._pipelines.by_name.values() if p.child is not None])
        self._tell("agent.stopped", "info", {})
        self._flush()
        self._stop([self._link])
        self._live(clean=True)
        with contextlib.suppress(FileNotFoundError):
            (self._store / "run" / "agent.json").unlink()

    def _stop(self, children: list[Child]) -> None:
        for child in children:
            self._supervisor.remove(child) if child in self._supervisor.children else None
        waited = [child for child in children if child.alive]

        def turn() -> None:
            self._slot.beat()
            self._supervisor.turn()
            if not any(child.alive for child in waited):
                self._loop.stop()

        if waited:
            self._loop.run(turn, 0.05)

    # children

    def _begin_zygote(self) -> None:
        self._zygote.send(messages.StartZygote(self._zygote.row.slot), (self._board_fd,))

    def _begin_io(self) -> None:
        self._brokers.clear()
        files = str(self._store / "files")
        message = messages.StartIo(self._io.row.slot, self._settings_path, files, self._logs)
        self._io.send(message, (self._board_fd, self._posts[0].fileno()))
        for pipeline in self._pipelines.by_name.values():
            self._pipelines.attach(pipeline)

    def _begin_link(self) -> None:
        self._storage.forget(int)  # what the one before had claimed
        message = messages.StartLink(self._link.row.slot, self._settings_path, str(self._store), self._logs)
        self._link.send(message, (self._board_fd, self._commits, self._posts[1].fileno()))
        self._pipelines.changed = self._time.changed = True

    def _died(self, death: Death) -> None:
        log.warning("%s", death)
        self._tell("process.died", "error", {"process": death.name, "reason": str(death), "code": death.code})

    def _heard_io(self, message: object) -> None:
        if isinstance(message, messages.InputFailed):
            self._end_failed(message.pipeline, "input", message.input, message.reason)
        elif isinstance(message, messages.OutputFailed):
            self._end_failed(message.pipeline, "output", message.output, message.reason)
        elif isinstance(message, messages.InputRejected):
            fields = message.__struct_fields__
            self._tell("input.rejected", "warning", {name: getattr(message, name) for name in fields})
        elif isinstance(message, messages.BrokerStatus):
            self._brokers[message.name] = message
            self._pipelines.changed = True

    def _end_failed(self, name: str, role: str, end: str, reason: str) -> None:
        """An input or output of a pipeline cannot be served, or is served again; the others are."""
        pipeline = self._pipelines.by_name.get(name)
        if pipeline is not None:
            pipeline.errors.pop(f"{role}s.{end}", None)
            if reason:
                pipeline.errors[f"{role}s.{end}"] = reason
            self._pipelines.changed = True
        if reason:
            self._tell(f"{role}.failed", "error", {"pipeline": name, role: end, "reason": reason})
        else:
            self._tell(f"{role}.recovered", "info", {"pipeline": name, role: end})

    def _heard_link(self, message: object) -> None:
        if isinstance(message, messages.Offer):
            self._offer(message)
        elif isinstance(message, messages.Withdraw):
            self._offers.withdraw(message.name, message.origin)
            self._answer(message, "", "removed", "")
        elif isinstance(message, messages.Claim):
            self._claim(message)
        elif isinstance(message, messages.Damaged):
            self._storage.set_aside(message.place, message.pipeline, message.segment)
        elif isinstance(message, messages.Listen):
            self._listen(message)
        elif isinstance(message, messages.RelayTime):
            self._time.learn(message.sync)

    def _claim(self, claim: messages.Claim) -> None:
        def answer(why: str) -> None:
            self._link.send(messages.Claimed(claim.ticket, why))

        if not claim.size:
            self._storage.release(claim.ticket)
        elif why := self._storage.never(claim.size):
            self._link.send(messages.Claimed(claim.ticket, why, never=True))
        else:
            self._storage.claim(claim.ticket, claim.size, Path(claim.folder), answer)

    def _listen(self, message: messages.Listen) -> None:
        try:
            with self._pipelines.listen(message) as sock:
                self._link.send(messages.Listening(message.ticket), (sock.fileno(),))
        except LookupError as error:
            self._link.send(messages.Listening(message.ticket, str(error)))

    def _offer(self, message: messages.Offer) -> None:
        staging = Path(message.staging)
        if staging.parent != self._store / "staging" or not staging.is_dir():
            self._answer(message, "", "refused", f"not a staged bundle: {staging}")
            return

        def done(digest: str, reason: str) -> None:
            self._answer(message, digest, "active" if digest else "refused", reason)

        self._offers.offer(Trial(message.name, message.origin, staging, "", message.revision, done))

    def _answer(
        self, message: messages.Offer | messages.Withdraw, digest: str, state: str, reason: str
    ) -> None:
        self._settle()  # whoever is told "active" finds it running, or starting
        if state == "refused":
            data = {"pipeline": message.name, "origin": message.origin, "reason": reason[:2000]}
            self._tell("pipeline.refused", "error", data)
        self._link.send(
            messages.Offered(
                message.name,
                digest,
                message.origin,
                state,
                reason[:100_000],
                message.revision,
                message.ticket,
            )
        )

    # pipelines

    def _deploy(self, name: str) -> None:
        """Run what now wins for a name, unless it runs already."""
        deployment = self._offers.deployments.get(name)
        winner = effective(deployment) if deployment is not None else None
        running = self._pipelines.by_name.get(name)
        if winner is None:
            if running is not None:
                self._pipelines.stop(name)
                self._tell("pipeline.removed", "info", {"pipeline": name, "digest": running.digest})
            return
        origin, record = winner
        if running is not None and running.digest == record.digest and running.child is not None:
            running.origin, self._pipelines.changed = origin, True
            return
        self._tell("pipeline.deployed", "info", {"pipeline": name, "digest": record.digest, "origin": origin})
        self._run(name, origin, record)

    def _run(self, name: str, origin: str, record: OfferRecord) -> None:
        params = self._settings.params.get(name, {})
        pipeline = Pipeline(name, record.digest, origin, self._offers.folder(record.digest), params)
        pipeline.warnings = record.warnings
        self._pipelines.start(pipeline, self._state.next_generation)

    def _renew(self, worn: Pipeline) -> None:
        """Run a pipeline on new rings, before the numbers of its rows come again."""
        self._tell("gap", "warning", {"pipeline": worn.name, "reason": "rings_renewed"})
        self._run(worn.name, worn.origin, OfferRecord(worn.digest, warnings=worn.warnings))

    def _statuses(self) -> tuple[messages.PipelineStatus, ...]:
        refusals = self._folder.refused
        running = [
            msgspec.structs.replace(status, errors=status.errors | {"folder": refusals[status.name][:1000]})
            if status.name in refusals
            else status
            for status in self._pipelines.statuses()
        ]
        names = {status.name for status in running}
        refused = [
            messages.PipelineStatus(name, "", "folder", "refused", reason[:1000], -1, "", "", 0, 0)
            for name, reason in refusals.items()
            if name not in names
        ]
        return (*running, *refused)

    # events of the agent's own

    def _flush(self) -> None:
        if self._notices.flush():
            shm.add(self._commits, 1)

    def _tell_start(self) -> None:
        """Say that the agent started; when it had not stopped cleanly, what it missed is a gap."""
        log.info("EdgeFlow %s starts", version())
        self._tell("agent.started", "info", {"pid": os.getpid()})
        before = self._state.alive()
        if before is not None and not before.clean:
            same = before.boot_id == clock.boot_id()
            data = {"reason": "agent" if same else "reboot", "last_alive_wall_ns": before.wall_ns}
            # It went on for a while after it had last said so.
            most = {"seconds_at_most": (clock.boottime_ns() - before.boottime_ns) / 1e9} if same else {}
            self._tell("gap", "warning", {**data, **most})


def _brief(status: messages.PipelineStatus, longest: int) -> messages.PipelineStatus:
    """Return a status of which no text is longer."""
    return msgspec.structs.replace(
        status,
        reason=status.reason[:longest],
        errors={name: text[:longest] for name, text in status.errors.items()} if longest else {},
        warnings=tuple(text[:longest] for text in status.warnings) if longest else (),
    )


def main(
    settings: Settings, settings_path: Path | None, started: Callable[[], None], early: Spawned | None = None
) -> None:
    """Run the agent until SIGTERM; `started` is called once it has its store and its port.

    `early` is a zygote that has begun to load. Raises AlreadyRunning, PortTaken, StateError, JournalError or
    OSError.
    """
    agent = Agent(settings, settings_path, early)
    started()
    agent.run()
