"""Offers: bundles that the relay, a local program or the watched folder wants run.

A bundle is staged, tried in a child process, moved to its immutable place, written down, and only then run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import lmdb
import msgspec

from edgeflow_agent.core.background import Background
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.prints import Lines
from edgeflow_agent.core.reactor import Reactor
from edgeflow_agent.deploy.files import matches, sync
from edgeflow_agent.deploy.lifecycle import offered, withdrawn
from edgeflow_agent.deploy.verdict import Verdict
from edgeflow_agent.store.state import Deployment, OfferRecord, State
from edgeflow_agent.table import ADMIT, ADMIT_NS
from edgeflow_proto.bundle import MANIFEST_FILE, PIPELINE_FILE, decode_manifest

log = logging.getLogger("edgeflow.agentd")
said = logging.getLogger("edgeflow.trial")
WRITE_AGAIN_NS = 5 * 10**9
MAX_READS = 64  # of 64 KiB each, behind the end of a trial


@dataclass(slots=True)
class Trial:
    """A bundle on its way in. `done` is told the outcome: a digest with warnings, or why not."""

    name: str
    origin: str
    staging: Path
    fingerprint: str
    revision: int
    done: Callable[[str, str], None]  # digest, and warnings if any; without a digest the reason, lines all
    process: subprocess.Popen[bytes] | None = None
    pidfd: int = -1
    deadline: int = 0
    output: list[bytes] = field(default_factory=list)
    printed: Lines = field(init=False)

    def __post_init__(self) -> None:
        self.printed = Lines(lambda text: said.info("%s", text, extra={"pipeline": self.name}))

    def streams(self) -> Iterator[tuple[IO[bytes], Callable[[bytes], object]]]:
        """Yield what its process writes to, each with what becomes of it: its verdict, and its log."""
        assert self.process is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        yield self.process.stdout, self.output.append
        yield self.process.stderr, self.printed.add


class Offers:
    """Takes bundles in, one trial at a time, and remembers who wants what."""

    def __init__(
        self,
        loop: Reactor,
        background: Background,
        state: State,
        store: Path,
        params: dict[str, dict[str, Any]],
    ) -> None:
        self._loop = loop
        self._background = background
        self._state = state
        self._store = store
        self._params = params
        self._queue: deque[Trial] = deque()
        self._current: Trial | None = None
        self._unwritten: set[str] = set()  # names whose deployment the disk does not hold yet
        self._write_at = 0
        self._replaced = True  # bundles may lie about that nobody wants
        self._used: set[str] = set()
        self.deployments: dict[str, Deployment] = state.deployments()
        self.changed: list[str] = []  # names whose deployment is not the one that runs, perhaps

    def recover(self) -> list[str]:
        """Want again what was admitted before the state was lost, of each name the newest; returns the names.

        It counts as put by a local program: the relay's wish wins over it as soon as there is one.
        """
        found: dict[str, Path] = {}
        for folder in sorted((self._store / "bundles").glob("*"), key=lambda path: path.stat().st_mtime):
            with contextlib.suppress(OSError, ValueError):
                found[decode_manifest((folder / MANIFEST_FILE).read_bytes()).name] = folder
        for name, folder in found.items():
            self.deployments[name] = Deployment({"http": OfferRecord(folder.name)})
            self._unwritten.add(name)
        return list(found)

    def clean(self) -> None:
        """Remove what a crash left: everything staged, and bundles nobody wants."""
        shutil.rmtree(self._store / "staging", ignore_errors=True)
        (self._store / "staging").mkdir(parents=True, exist_ok=True)
        (self._store / "bundles").mkdir(exist_ok=True)
        self.tidy(set())

    def tidy(self, used: set[str]) -> None:
        """Remove the bundles that nobody wants, but those that are `used` still; once per change."""
        if used == self._used and not self._replaced:
            return
        self._used, self._replaced = used, False
        wanted = {record.digest for d in self.deployments.values() for record in d.offers.values()}
        for folder in (self._store / "bundles").iterdir():
            if folder.name not in wanted | used:
                shutil.rmtree(folder, ignore_errors=True)

    def folder(self, digest: str) -> Path:
        """Return where an admitted bundle lies."""
        return self._store / "bundles" / digest

    def offer(self, trial: Trial) -> None:
        """Queue a staged bundle; a newer offer of the same name and origin replaces one that still waits."""
        for waiting in [t for t in self._queue if (t.name, t.origin) == (trial.name, trial.origin)]:
            self._queue.remove(waiting)
            shutil.rmtree(waiting.staging, ignore_errors=True)
            waiting.done("", "replaced by a newer offer")
        self._queue.append(trial)

    def withdraw(self, name: str, origin: str) -> None:
        """Note that an origin no longer wants a name."""
        deployment = self.deployments.get(name)
        if deployment is not None and origin in deployment.offers:
            self._forget(name, withdrawn(deployment, origin))

    def _forget(self, name: str, deployment: Deployment) -> None:
        """Stop running what nobody wants; where the disk refuses to remember that, it is tried again."""
        try:
            self._remember(name, deployment)
        except lmdb.Error as error:
            words = "%s: that it is not wanted cannot be written yet: %s"
            log.error(words, name, error, extra={"pipeline": name})
            self._unwritten.add(name)
            self._take(name, deployment)

    def _catch_up(self) -> None:
        with contextlib.suppress(lmdb.Error):
            while self._unwritten:
                name = next(iter(self._unwritten))
                self._state.deploy(name, self.deployments.get(name, Deployment()))
                self._unwritten.discard(name)

    def turn(self) -> None:
        """Begin the next trial when none is under way; end one that takes too long."""
        current = self._current
        if current is not None and current.process is not None and boottime_ns() > current.deadline:
            current.process.kill()
            current.deadline += ADMIT_NS
        if current is None and self._queue:
            self._try(self._queue.popleft())
        if self._unwritten and boottime_ns() >= self._write_at:
            self._write_at = boottime_ns() + WRITE_AGAIN_NS
            self._catch_up()

    def _try(self, trial: Trial) -> None:
        try:
            self._begin(trial)
        except OSError as error:  # no memory for another process, say
            shutil.rmtree(trial.staging, ignore_errors=True)
            trial.done("", f"cannot be tried: {error}")

    def _begin(self, trial: Trial) -> None:
        params = msgspec.json.encode(self._params.get(trial.name, {}))
        with open(os.memfd_create("params"), "wb+") as given:
            given.write(params)
            given.seek(0)
            command = [sys.executable, "-m", ADMIT, str(trial.staging)]
            trial.process = subprocess.Popen(
                command, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        trial.deadline = boottime_ns() + ADMIT_NS
        trial.pidfd = os.pidfd_open(trial.process.pid)
        for stream, take in trial.streams():
            os.set_blocking(stream.fileno(), False)
            self._loop.watch(stream.fileno(), partial(self._read, stream.fileno(), take))
        self._loop.watch(trial.pidfd, lambda: self._exited(trial))
        self._current = trial

    def _read(self, fd: int, take: Callable[[bytes], object]) -> bool:
        """Take what the trial says; False when there is no more now."""
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return False
        if data:
            take(data)
        else:
            self._loop.forget(fd)
        return bool(data)

    def _exited(self, trial: Trial) -> None:
        """The process is gone; others that it began may still hold its output open."""
        assert trial.process is not None
        code = trial.process.wait()
        for stream, take in trial.streams():
            for _ in range(MAX_READS):  # others that it began may go on for ever
                if not self._read(stream.fileno(), take):
                    break
            self._loop.forget(stream.fileno())
            stream.close()
        trial.printed.end()
        self._loop.forget(trial.pidfd)
        os.close(trial.pidfd)
        self._ended(trial, code)

    def _ended(self, trial: Trial, code: int) -> None:
        verdict = _verdict(trial.output)
        if verdict is None:
            reason = f"the trial of the bundle ended with {'signal' if code < 0 else 'code'} {abs(code)}"
        else:
            reason = "\n".join(str(problem) for problem in verdict.problems)
            if not reason and verdict.name != trial.name:
                reason = f"{PIPELINE_FILE} is named {verdict.name!r}, not {trial.name!r}"
        if verdict is None or reason:
            self._finish(trial, "", reason)
        else:
            self._check(trial, verdict)

    def _finish(self, trial: Trial, digest: str, words: str) -> None:
        self._current = None
        shutil.rmtree(trial.staging, ignore_errors=True)
        trial.done(digest, words)

    def _check(self, trial: Trial, verdict: Verdict) -> None:
        """Make what is new durable, or see what of an earlier copy is damaged; the loop does not wait."""
        target, other = self.folder(verdict.digest), list[str]()

        def job() -> None:
            _sync(trial.staging)
            if target.exists():
                other.extend(_other(trial.staging, target))

        self._background.run(job, lambda error: self._checked(trial, verdict, other, error))

    def _checked(self, trial: Trial, verdict: Verdict, other: list[str], error: Exception | None) -> None:
        try:
            if error is None:
                self._admit(trial, verdict, other)
        except (OSError, lmdb.Error) as refusal:
            error = refusal
        if error is not None:
            self._finish(trial, "", f"cannot be stored: {error}")
        else:
            self._finish(trial, verdict.digest, "\n".join(verdict.warnings))

    def _admit(self, trial: Trial, verdict: Verdict, other: list[str]) -> None:
        target = self.folder(verdict.digest)
        if not target.exists():
            trial.staging.rename(target)
            sync(target.parent)
        elif other:
            _mend(target, trial.staging, other)
            log.warning("%s was damaged on the disk: %s put right", target, ", ".join(other))
        record = OfferRecord(verdict.digest, trial.fingerprint, trial.revision, verdict.warnings)
        self._remember(
            trial.name, offered(self.deployments.get(trial.name, Deployment()), trial.origin, record)
        )

    def _remember(self, name: str, deployment: Deployment) -> None:
        self._state.deploy(name, deployment)
        self._unwritten.discard(name)
        self._take(name, deployment)

    def _take(self, name: str, deployment: Deployment) -> None:
        self._replaced = True
        self.deployments[name] = deployment
        if not deployment.offers:
            del self.deployments[name]
        self.changed.append(name)

    def stage(self, name: str) -> Path:
        """Return a new, empty folder to stage a bundle in."""
        folder = self._store / "staging" / f"{name}-{uuid.uuid4().hex[:12]}"
        folder.mkdir(parents=True)
        return folder


def _verdict(output: list[bytes]) -> Verdict | None:
    try:
        return msgspec.json.decode(b"".join(output).splitlines()[-1], type=Verdict)
    except (IndexError, msgspec.MsgspecError):
        return None


def _mend(folder: Path, files: Path, names: list[str]) -> None:
    """Put files in the place of damaged ones, each at once: whoever has the old ones open keeps them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).replace(folder / name)
    sync(*(path for path in folder.rglob("*") if path.is_dir()), folder)


def _sync(folder: Path) -> None:
    """Make files and names durable, but for what blocks whoever opens it: a trial may leave pipes."""
    sync(*(path for path in folder.rglob("*") if path.is_file() or path.is_dir()), folder)


def _other(files: Path, folder: Path) -> list[str]:
    """Return which of a bundle's files are not in a folder as they should be; the manifest last."""
    manifest = decode_manifest((files / MANIFEST_FILE).read_bytes())
    other = [name for name, entry in manifest.files.items() if not matches(folder / name, entry)]
    with contextlib.suppress(OSError):
        if (folder / MANIFEST_FILE).read_bytes() == manifest.encode():
            return other
    return [*other, MANIFEST_FILE]
