"""What `agentd` remembers over restarts: deployments, ring generations, whether it stopped cleanly.

One small LMDB environment, written by `agentd` alone, each change synced before it is acted on.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import lmdb
import msgspec

from edgeflow_agent.store import generations
from edgeflow_agent.store.environment import DAMAGE, DATA, opened
from edgeflow_proto.timeline import Boot, Timeline

log = logging.getLogger("edgeflow.agentd")
FORMAT = 1
_SIZE = 16 << 20
MAX_BOOTS = 1000
T = TypeVar("T")
_DAMAGE = (*DAMAGE, msgspec.MsgspecError, ValueError)


class StateError(RuntimeError):
    """The store cannot be used; the message says why."""


class OfferRecord(msgspec.Struct, frozen=True):
    """A bundle an origin wants. `fingerprint` tells a folder's content apart without trying it again."""

    digest: str
    fingerprint: str = ""
    revision: int = 0
    warnings: tuple[str, ...] = ()  # of its trial


class Deployment(msgspec.Struct, frozen=True):
    """All that is wanted under one pipeline name, by origin."""

    offers: dict[str, OfferRecord] = {}


class Alive(msgspec.Struct, frozen=True):
    """When the agent of `device` last said it was alive, and whether it then stopped of its own will."""

    boot_id: str
    boottime_ns: int
    wall_ns: int
    clean: bool
    device: str = ""


class State:
    """The environment. Every method is one transaction; raises lmdb.Error when the disk refuses.

    What was refused is tried once more in the environment opened again, and `relieve` is asked for room
    before. One that cannot be read is set aside and a new one begun; `damaged` says why, or that it was gone.
    """

    def __init__(self, path: Path, relieve: Callable[[], bool] = bool) -> None:
        """Open or make it; raises StateError when it is of another format, or there is none to be had."""
        self._path, self._relieve = path, relieve
        self.damaged = ""
        try:
            known = self._open(path)
        except _DAMAGE as error:
            known = self._begin_anew(path, error)
        except (lmdb.Error, OSError) as error:
            raise StateError(f"{path}: {error}") from error
        if known is None:
            self._begin(path.parent)
        elif int(known) != FORMAT:
            raise StateError(
                f"{path}: store format {int(known)} is not known to this version, which has {FORMAT}"
            )
        self._generation = int(self._get(b"generation") or b"0")

    def _open(self, path: Path) -> bytes | None:
        """Open the environment; returns the format of the store, ``None`` when it is new."""
        path.mkdir(parents=True, exist_ok=True)
        self._env = opened(path, map_size=_SIZE, max_dbs=3)
        try:
            self._meta = self._env.open_db(b"meta")
            self._boots = self._env.open_db(b"boots")
            self._deployments = self._env.open_db(b"deployments")
            with self._env.begin() as txn:
                return self._looked_through(txn)
        except (lmdb.Error, ValueError):
            self._env.close()
            raise

    def _looked_through(self, txn: lmdb.Transaction) -> bytes | None:
        """Return the format, having read all there is: what cannot be read later is damage now."""
        found = txn.get(b"format", db=self._meta)
        if found is None or int(found) == FORMAT:
            _boots(txn, self._boots)
            _deployments(txn, self._deployments)
            int(txn.get(b"generation", db=self._meta) or 0)
            _alive(txn.get(b"alive", db=self._meta))
        return None if found is None else bytes(found)

    def _begin_anew(self, path: Path, error: Exception) -> bytes | None:
        """Set a damaged environment aside and begin a new one."""
        log.error("%s is damaged and set aside: %s", path, error)
        aside = path.with_name(path.name + ".damaged")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        self.damaged = str(error)
        return self._open(path)

    def _begin(self, store: Path) -> None:
        """Write what a new one begins with: generations begin behind those of events and rows there are."""
        generation = generations.behind(store)
        if generation and not self.damaged:
            self.damaged = "it is gone, and what it knew of is not"
            log.error("%s: %s", self._path, self.damaged)
        self._put(b"generation", b"%d" % generation)
        self._put(b"format", b"%d" % FORMAT)

    def _get(self, key: bytes) -> bytes | None:
        found = self._do(lambda txn: txn.get(key, db=self._meta))
        return None if found is None else bytes(found)

    def _write(self, work: Callable[[lmdb.Transaction], object]) -> None:
        self._do(work, write=True)

    def _do(self, work: Callable[[lmdb.Transaction], T], *, write: bool = False) -> T:
        """Return what comes of a transaction; behind one that failed the environment takes no other."""
        try:
            with self._env.begin(write=write) as txn:
                return work(txn)
        except lmdb.Error:
            self._relieve()
        self._open_again()
        with self._env.begin(write=write) as txn:
            return work(txn)

    def _open_again(self) -> None:
        """Open the same environment; one that is gone is not begun anew under who has read it."""
        self._env.close()
        try:
            (self._path / DATA).stat()
            self._open(self._path)
        except OSError as error:
            raise lmdb.Error(str(error)) from error

    def _put(self, key: bytes, value: bytes) -> None:
        self._write(lambda txn: txn.put(key, value, db=self._meta))

    def next_generation(self) -> int:
        """Return a ring generation never returned before.

        Where the disk refuses, it is one that may come again after a restart: better than not to run.
        """
        self._generation += 1
        try:
            self._put(b"generation", b"%d" % self._generation)
        except lmdb.Error as error:
            log.error("the generation of a ring cannot be written: %s", error)
        return self._generation

    def deployments(self) -> dict[str, Deployment]:
        """Return all deployments by pipeline name."""
        return self._do(lambda txn: _deployments(txn, self._deployments))

    def deploy(self, name: str, deployment: Deployment) -> None:
        """Remember a deployment; one without offers is forgotten."""
        key, value = name.encode(), msgspec.msgpack.encode(deployment)
        if deployment.offers:
            self._write(lambda txn: txn.put(key, value, db=self._deployments))
        else:
            self._write(lambda txn: txn.delete(key, db=self._deployments))

    def alive(self) -> Alive | None:
        """Return what `live` wrote last."""
        return _alive(self._get(b"alive"))

    def live(self, alive: Alive) -> None:
        """Remember that the agent is, or cleanly was, alive."""
        self._put(b"alive", msgspec.msgpack.encode(alive))

    def boots(self) -> list[Boot]:
        """Return the boots that are remembered, oldest first."""
        return self._do(lambda txn: _boots(txn, self._boots))

    def keep_boot(self, boot: Boot) -> None:
        """Remember a boot: the newest one as it is by now, or a new one behind it."""
        self._write(lambda txn: self._keep_boot(txn, boot))

    def _keep_boot(self, txn: lmdb.Transaction, boot: Boot) -> None:
        with txn.cursor(self._boots) as cursor:
            number = int.from_bytes(cursor.key(), "big") if cursor.last() else 0
            if not number or msgspec.msgpack.decode(cursor.value(), type=Boot).id != boot.id:
                number += 1
        txn.put(number.to_bytes(8, "big"), msgspec.msgpack.encode(boot), db=self._boots)
        if number > MAX_BOOTS:
            txn.delete((number - MAX_BOOTS).to_bytes(8, "big"), db=self._boots)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def timeline(path: Path) -> Timeline:
    """Return what is known of the clock in a store that may be another process's or a copy; it only reads.

    Where there is no state, or it may not be read, nothing is known.
    """
    return _read(path, b"boots", lambda txn, boots: Timeline(_boots(txn, boots))) or Timeline()


def device_of(path: Path) -> str:
    """Return what the device is called whose store it is, as `timeline` reads it; empty where not known."""
    alive = _read(path, b"meta", lambda txn, meta: bytes(txn.get(b"alive", db=meta) or b""))
    try:
        return msgspec.msgpack.decode(alive, type=Alive).device if alive else ""
    except msgspec.MsgspecError:
        return ""


def _read(path: Path, database: bytes, work: Callable[[lmdb.Transaction, Any], T]) -> T | None:
    """Return what comes of a transaction in a store that is only read, ``None`` where it cannot be."""
    try:
        with opened(path, readonly=True, create=False, max_dbs=1) as env:
            found = env.open_db(database, create=False)
            with env.begin() as txn:
                return work(txn, found)
    except (lmdb.Error, OSError, msgspec.MsgspecError):
        return None


def _alive(data: bytes | memoryview | None) -> Alive | None:
    return None if data is None else msgspec.msgpack.decode(data, type=Alive)


def _deployments(txn: lmdb.Transaction, deployments: Any) -> dict[str, Deployment]:
    with txn.cursor(deployments) as cursor:
        return {
            bytes(name).decode(): msgspec.msgpack.decode(value, type=Deployment) for name, value in cursor
        }


def _boots(txn: lmdb.Transaction, boots: Any) -> list[Boot]:
    with txn.cursor(boots) as cursor:
        return [msgspec.msgpack.decode(value, type=Boot) for _, value in cursor]
