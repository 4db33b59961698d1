"""What the uplink remembers over restarts: acknowledged sequences, journals that were put back, wishes.

One small LMDB environment, written by `link` alone. Losing it costs sending some events twice, which the
relay knows by their ids; so when the disk refuses, what is remembered stays in memory and nothing stops.
Commits leave out the sync of the meta page: a power cut may undo the newest, never damage the rest.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

import lmdb
import msgspec

from edgeflow_agent.store.environment import opened

log = logging.getLogger("edgeflow.uplink")
_SIZE = 16 << 20
_ACKED = b"acked "  # and the journal's id
_CONFLICT = b"conflict "  # and the journal's id
_WISHES = b"wishes"
_Changes = dict[bytes, bytes]


class Outcome(msgspec.Struct, frozen=True):
    """What became of one wish of the relay: the newest DeploymentStatus of a name."""

    name: str
    digest: str
    state: str  # fetching | verified | active | refused | removed
    reason: str = ""
    revision: int = 0


class _Wishes(msgspec.Struct, frozen=True):
    revision: int = 0
    outcomes: tuple[Outcome, ...] = ()


class Memory:
    """The environment and its content in memory; `save` brings the two together."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._env: lmdb.Environment | None = None
        self._dirty: _Changes = {}
        self._refused = ""
        self.acked: dict[str, int] = {}
        self.conflicts: dict[str, int] = {}  # journals put back, and up to where the relay has what they hold
        self.revision = 0
        self.outcomes: dict[str, Outcome] = {}
        try:
            self._load()
        except (lmdb.Error, OSError, ValueError) as error:
            log.error("what the uplink remembered cannot be read: %s", error)

    def _load(self) -> None:
        with self._opened().begin() as txn, txn.cursor() as cursor:
            for key, value in cursor:
                self._take(bytes(key), bytes(value))

    def _take(self, key: bytes, value: bytes) -> None:
        if key == _WISHES:
            wishes = msgspec.msgpack.decode(value, type=_Wishes)
            self.revision = wishes.revision
            self.outcomes = {outcome.name: outcome for outcome in wishes.outcomes}
        elif key.startswith(_CONFLICT):
            self.conflicts[key.removeprefix(_CONFLICT).decode()] = int(value)
        else:
            self.acked[key.removeprefix(_ACKED).decode()] = int(value)

    def _opened(self) -> lmdb.Environment:
        if self._env is None:
            self._path.mkdir(parents=True, exist_ok=True)
            try:
                self._env = self._open()
            except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError) as error:
                log.error("%s is damaged and set aside: %s", self._path, error)
                aside = self._path.with_name(self._path.name + ".damaged")
                shutil.rmtree(aside, ignore_errors=True)
                self._path.rename(aside)
                self._path.mkdir()
                self._env = self._open()
        return self._env

    def _open(self) -> lmdb.Environment:
        return opened(self._path, map_size=_SIZE, metasync=False)

    def ack(self, journal: str, sequence: int) -> None:
        """Remember an acknowledgement at the next `save`."""
        self.acked[journal] = sequence
        self._dirty[_ACKED + journal.encode()] = b"%d" % sequence

    def conflict(self, journal: str, stored: int) -> None:
        """Remember, at the next `save`, that a journal was put back; one of this id stays so."""
        if journal not in self.conflicts:
            self.conflicts[journal] = stored
            self._dirty[_CONFLICT + journal.encode()] = b"%d" % stored

    def keep(self, revision: int, outcomes: dict[str, Outcome]) -> None:
        """Remember what came of the relay's wishes at the next `save`."""
        self.revision, self.outcomes = revision, outcomes
        self._dirty[_WISHES] = msgspec.msgpack.encode(_Wishes(revision, tuple(outcomes.values())))

    async def save(self) -> None:
        """Write what changed, beside the event loop; what cannot be written now is tried at the next call."""
        if not self._dirty:
            return
        changes, self._dirty = self._dirty, {}
        try:
            await asyncio.to_thread(self._write, changes)
            self._refused = ""
        except (lmdb.Error, OSError) as error:
            self._dirty = changes | self._dirty
            self.close()  # it takes nothing more (see `edgeflow_agent.store.environment`)
            if self._refused != str(error):
                log.error("what the uplink remembers cannot be written: %s", error)
            self._refused = str(error)

    def _write(self, changes: _Changes) -> None:
        with self._opened().begin(write=True) as txn:
            for key, value in changes.items():
                txn.put(key, value)

    def close(self) -> None:
        """Close the environment."""
        if self._env is not None:
            self._env.close()
            self._env = None
