"""The watched folder: ``NAME.yaml`` files and ``NAME/`` bundles that a person put on the device."""

from __future__ import annotations

import errno
import logging
import shutil
from functools import partial
from pathlib import Path

from edgeflow_agent.control.offers import Offers, Trial
from edgeflow_agent.control.storage import Storage
from edgeflow_agent.core.background import Background
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.errors import told
from edgeflow_agent.deploy.files import File, copy, fingerprint, listed
from edgeflow_agent.store.budget import on_disk
from edgeflow_proto.bundle import PIPELINE_FILE
from edgeflow_proto.pipeline.schema import NAME

log = logging.getLogger("edgeflow.agentd")
ORIGIN = "folder"
SCAN_NS = 2 * 10**9
REST_NS = 60 * 10**9  # before what could not be copied is tried again unchanged: each try writes to the disk


class WatchedFolder:
    """Offers what is in the folder when it is new or changed, withdraws what is gone."""

    def __init__(self, folder: Path | None, offers: Offers, storage: Storage, background: Background) -> None:
        self._folder = folder
        self._offers = offers
        self._storage = storage
        self._background = background
        self._due = 0
        self._seen: dict[str, str] = {}  # name → fingerprint last offered
        self._rests: dict[str, tuple[str, int]] = {}  # name → fingerprint not to be tried, and until when
        self._unread: set[str] = set()
        self._coming: set[str] = set()  # names that wait for room, or are copied
        self.refused: dict[str, str] = {}  # name → why its newest content does not run
        self.changed = False  # what is refused

    def turn(self) -> None:
        """Scan when it is time; a folder that is not there is empty."""
        if self._folder is None or boottime_ns() < self._due:
            return
        self._due = boottime_ns() + SCAN_NS
        try:
            self._scan(self._folder)
        except OSError as error:
            log.warning("%s: %s", self._folder, error)

    def _scan(self, folder: Path) -> None:
        found = {path.stem if path.is_file() else path.name: path for path in _bundles(folder)}
        for name, path in found.items():
            self._attempt(name, path)
        known = [name for name, d in self._offers.deployments.items() if ORIGIN in d.offers]
        for name in {*known, *self.refused} - found.keys():
            self._offers.withdraw(name, ORIGIN)
            self._seen.pop(name, None)
            self._rests.pop(name, None)
            self._unread.discard(name)
            self._refuse(name, "")

    def _attempt(self, name: str, path: Path) -> None:
        """Consider a bundle; what cannot be read or copied now is tried again, and holds up no other."""
        if name in self._coming:
            return
        try:
            self._consider(name, path)
        except (OSError, ValueError) as error:
            self._failed(name, error)

    def _consider(self, name: str, path: Path) -> None:
        found = listed(path)
        content = fingerprint(found)
        resting, until = self._rests.get(name, ("", 0))
        if content == self._seen.get(name) or (content == resting and boottime_ns() < until):
            return
        deployment = self._offers.deployments.get(name)
        record = deployment.offers.get(ORIGIN) if deployment else None
        if record is not None and content == record.fingerprint:
            self._read(name)
            return
        size = on_disk(file.size for file in found)
        if why := self._storage.never(size):
            raise OSError(errno.EFBIG, why)
        staging = self._offers.stage(name)
        self._seen[name] = content
        self._coming.add(name)
        self._storage.claim(name, size, staging, partial(self._answered, name, found, staging))

    def _answered(self, name: str, found: list[File], staging: Path, why: str) -> None:
        """Copy a bundle to where it is tried, if there is room for it; the loop does not wait for that."""
        ended = partial(self._copied, name, fingerprint(found), staging)
        if why:
            ended(OSError(errno.ENOSPC, why))
        else:
            self._background.run(partial(copy, found, staging), ended)

    def _copied(self, name: str, content: str, staging: Path, error: Exception | None) -> None:
        self._coming.discard(name)
        self._storage.release(name)
        if error is None:
            self._read(name)
            self._offers.offer(Trial(name, ORIGIN, staging, content, 0, partial(self._tried, name)))
        else:
            shutil.rmtree(staging, ignore_errors=True)
            self._rests[name] = content, boottime_ns() + REST_NS
            self._failed(name, error)

    def _failed(self, name: str, error: Exception) -> None:
        self._seen.pop(name, None)
        if name not in self._unread:
            self._unread.add(name)
            self._done(name, f"cannot be read, or not be copied to where it is tried: {told(error)}")

    def _read(self, name: str) -> None:
        """Forget that it could not be read or copied."""
        if name in self._unread:
            self._unread.discard(name)
            self._refuse(name, "")

    def _tried(self, name: str, digest: str, words: str) -> None:
        self._done(name, "" if digest else words)

    def _done(self, name: str, reason: str) -> None:
        self._refuse(name, reason)
        if reason:
            extra = {"pipeline": name}
            log.error("%s in %s is refused:\n%s", name, self._folder, reason, extra=extra)

    def _refuse(self, name: str, reason: str) -> None:
        """Remember why a name does not run; without a reason, that it may."""
        self.changed |= self.refused.pop(name, "") != reason
        if reason:
            self.refused[name] = reason


def _bundles(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [
        path
        for path in sorted(folder.iterdir())
        if (path.suffix in (".yaml", ".yml", ".json") and NAME.fullmatch(path.stem))
        or (path.is_dir() and NAME.fullmatch(path.name) and (path / PIPELINE_FILE).is_file())
    ]
