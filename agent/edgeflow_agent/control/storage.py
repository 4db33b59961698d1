"""The one budget of bytes at work: `agentd` measures what is stored, and tells each writer its limit.

A worker keeps its own journal and recordings within what it was told, so that the ceiling holds at every
moment; what pipelines that are gone have left is kept within it here. A ballast file of a few megabytes is
given up when the disk is full, so that the agent can always commit its own state.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from edgeflow_agent.config import Settings
from edgeflow_agent.control.claims import Answer, Claims
from edgeflow_agent.core.board import Slot, labelled
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.store import segment
from edgeflow_agent.store.budget import (
    BALLAST,
    LEAST,
    Limits,
    Pot,
    Store,
    ever,
    granted,
    headroom,
    most,
    pot,
    split,
    targets,
    vacant,
)
from edgeflow_agent.store.retention import Evicted, ending, evict, leave_out

log = logging.getLogger("edgeflow.agentd")
LOOK_NS = 10**9
JOURNALS, RECORDINGS, LOGS = "journals", "recordings", "logs"

Tell = Callable[[str, str, dict[str, Any]], None]  # name, severity, data


@dataclass(frozen=True, slots=True)
class Reserved:
    """Bytes that writers of their own keep within: the logs, and the agent's journal of that name."""

    logs: int
    journal: str
    journal_bytes: int


class Beside(NamedTuple):
    """Bytes that are not of pipelines: what they are, and what they may come to be before the next look."""

    taken: int
    most: int


class Storage:
    """What is stored below a folder, and the limits that follow from it.

    `limits` are those in force, by pipeline, with `hold` for all; `changed` names the pipelines whose writers
    must be told.
    """

    def __init__(
        self, folder: Path, settings: Settings, reserved: Reserved, slots: tuple[Slot, Slot], tell: Tell
    ) -> None:
        self._folder = folder
        self._settings = settings.storage
        self._reserved = reserved
        self._slot, self._link = slots
        self._tell = tell
        self._looked = 0
        self._short = False
        self._unseen = ""  # why nothing can be measured
        self._claims = Claims(_below)
        self._ends: dict[Path, int | None] = {}  # of what nobody writes (see `ending`)
        self.limits: dict[str, Limits] = {}
        self.hold = False
        self.changed: set[str] = set()

    def turn(self, running: Mapping[str, bool], resting: Mapping[str, bool]) -> None:
        """Look once a second (see `look`)."""
        now = boottime_ns()
        if now - self._looked >= LOOK_NS:
            self._looked = now
            self.look(running, resting)

    def claim(self, key: Hashable, size: int, folder: Path, answer: Answer) -> None:
        """Ask for room for a bundle (see `Claims`); turns answer it."""
        self._claims.claim(key, size, folder, answer)
        self._looked = 0

    def never(self, size: int) -> str:
        """Return why there will never be room for a bundle of that size; nothing where there may be."""
        budget = self._settings.budget
        reserved = self._reserved.logs + self._reserved.journal_bytes + BALLAST
        left = ever(budget, reserved)
        if size <= left:
            return ""
        return f"{size} bytes are more than the {max(0, left)} that the budget of {budget} has for bundles"

    def release(self, key: Hashable) -> None:
        """Give back what was claimed."""
        self._claims.release(key)

    def forget(self, keys: type) -> None:
        """Give back what was claimed under keys of a type."""
        self._claims.forget(keys)

    def look(self, running: Mapping[str, bool], resting: Mapping[str, bool] = MappingProxyType({})) -> None:
        """Measure, and bring the limits up to date; where nothing can be measured they stand.

        `running` are the pipelines whose writers are at work, `resting` those that will have one again; each
        says whether it records. All others are gone.
        """
        try:
            self._measure(running, resting)
            self._unseen = ""
        except OSError as error:  # its disk is gone, say
            if str(error) != self._unseen:
                log.error("what is stored cannot be measured: %s", error)
            self._unseen = str(error)

    def begin(self, name: str) -> None:
        """Take note that a writer begins: where it goes on is no end any more."""
        for kind in (JOURNALS, RECORDINGS):
            self._ends.pop(self._folder / kind / name, None)

    def limit(self, name: str) -> Limits:
        """Return what a pipeline may store."""
        return self.limits.get(name, Limits(LEAST))

    def _measure(self, running: Mapping[str, bool], resting: Mapping[str, bool]) -> None:
        self._claims.look()  # before all else: what is written meanwhile counts twice, not never
        written = {**resting, **running}
        self._learn(written)
        stores = dict(self._stores(written))
        beside, free = self._beside(), self._free()
        others = beside.most
        room = self._pot(stores, others, free)
        limits = granted(self.limits, targets(stores, room.bytes), stores, room.bytes)
        self.changed |= {
            n for n, limit in limits.items() if self.limits.get(n) != limit or room.hold != self.hold
        }
        self.limits, self.hold = limits, room.hold
        for name in limits.keys() - running.keys():
            self._keep(name, limits[name])
        for name in limits.keys() - {name for name, records in running.items() if records}:
            self._keep_recording(name, limits[name])
        self._tell_recordings(stores)
        self._ballast(free)
        self._count(beside.taken + sum(store.total for store in stores.values()), free)
        self._warn(free)

    def _pot(self, stores: dict[str, Store], others: int, free: int) -> Pot:
        """Return what is left to share, beside what is claimed; answer the claims."""
        budget, floor = self._settings.budget, self._settings.free
        self._claims.refuse(most(budget, others, stores.values(), free, floor))
        coming = self._claims.coming
        left = vacant(budget, others, self.limits, stores)
        self._claims.give(fits=coming <= min(left, free - floor))
        beside = others + max(coming, headroom(budget))
        return pot(budget, beside, stores.values(), free - coming, floor)

    def _stores(self, written: Mapping[str, bool]) -> Iterator[tuple[str, Store]]:
        for name in sorted({*written, *self._left()}):
            done, rest = self._journal(name)
            recorded = segment.taken_below(self._folder / RECORDINGS / name)
            yield name, Store(done, rest, recorded, written.get(name, False), name in written)

    def _journal(self, name: str) -> tuple[int, int]:
        """Return the bytes of a journal that the relay has, and of the rest."""
        journal = self._folder / JOURNALS / name
        try:
            segments = [(segment.number(path), segment.taken(path)) for path in segment.names(journal)]
        except OSError:
            segments = []
        end = self._ends.get(journal)
        done, rest = split(segments, self.acked(name) or 0, end)
        beside = max(0, segment.taken_below(journal) - done - rest)  # its state, and what was set aside
        return (done, rest + beside) if rest or end is None else (done + beside, 0)

    def _learn(self, written: Mapping[str, bool]) -> None:
        """Learn where what nobody writes any more ends; one at a look, because its pages are checked."""
        recording = {name for name, records in written.items() if records}
        gone = {self._folder / JOURNALS / name for name in self._left() - written.keys()}
        gone |= {self._folder / RECORDINGS / name for name in self._left() - recording}
        unknown = sorted(path for path in gone - self._ends.keys() if path.is_dir())
        self._ends = {
            path: end for path, end in self._ends.items() if path in gone and (unknown or end is not None)
        }
        if unknown:
            self._ends[unknown[0]] = ending(unknown[0])

    def _left(self) -> set[str]:
        """Return the names of all journals and recordings but the agent's own."""
        found: set[str] = set()
        for kind in (JOURNALS, RECORDINGS):
            with contextlib.suppress(OSError):
                found |= {entry.name for entry in os.scandir(self._folder / kind) if entry.is_dir()}
        return found - {self._reserved.journal}

    def _beside(self) -> Beside:
        """Measure what is not of pipelines."""
        kept = (JOURNALS, RECORDINGS, LOGS, "ballast")
        entries = [Path(entry.path) for entry in os.scandir(self._folder) if entry.name not in kept]
        logs, rest = _below(self._folder / LOGS), _below(*entries)
        own = segment.taken_below(self._folder / JOURNALS / self._reserved.journal)
        most = rest + max(self._reserved.logs, logs) + max(self._reserved.journal_bytes, own) + BALLAST
        return Beside(logs + own + rest + segment.allocated(self._folder / "ballast"), most)

    def _free(self) -> int:
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    def _keep(self, name: str, limit: Limits) -> None:
        """Keep the journal a pipeline left within its limit; nobody else does."""
        path, tell = self._folder / JOURNALS / name, partial(self._evicted, name)
        evict(path, limit.journal, self.acked(name), tell, hold=self.hold, end=self._ends.get(path))

    def acked(self, name: str) -> int | None:
        """Return the newest event the relay has of a pipeline, if `link` has said so by now."""
        return self._link.read().get(labelled("uplink_acked", pipeline=name))

    def _evicted(self, name: str, evicted: Evicted) -> None:
        self._slot.counter(labelled("events_evicted_total", pipeline=name)).add(evicted.count)
        self._slot.counter(labelled("events_evicted_unacked_total", pipeline=name)).add(evicted.lost)
        if evicted.lost:
            self._tell("gap", "error", {"pipeline": name, **evicted.data})

    def _keep_recording(self, name: str, limit: Limits) -> None:
        """Keep what was recorded within its limit, where nobody records any more."""
        path, tell = self._folder / RECORDINGS / name, partial(self._evicted_rows, name)
        evict(path, limit.recording, 0, tell, end=self._ends.get(path))

    def _evicted_rows(self, name: str, evicted: Evicted) -> None:
        self._slot.counter(labelled("recording_evicted_total", pipeline=name)).add(evicted.count)

    def _tell_recordings(self, stores: Mapping[str, Store]) -> None:
        """Say how many bytes each pipeline that records may take for that."""
        for name in (name for name, store in stores.items() if store.records):
            self._slot.counter(labelled("recording_limit_bytes", pipeline=name)).set(
                self.limits[name].recording
            )

    # damage

    def set_aside(self, place: str, name: str, damaged: str) -> None:
        """Set a segment aside that a reader has found damaged, and tell; nobody writes to it any more.

        `place` is what it is of: ``journals`` or ``recordings``. The newest is left to its writer.
        """
        folder = self._folder / place / name
        if place not in (JOURNALS, RECORDINGS) or folder.parent != self._folder / place:
            return
        lost = leave_out(folder, damaged)
        if lost is None:
            return
        kind = "journal" if place == JOURNALS else "recording"
        self._slot.counter(labelled(f"{kind}_damaged_total", pipeline=name)).add()
        first, last = lost
        data = {"pipeline": name, "segment": damaged, "first": first, "last": last}
        self._tell("gap", "error", {"reason": f"{kind}_damaged", **data})

    # a full disk

    def _ballast(self, free: int) -> None:
        """Make the ballast, where there is room for it beside the floor."""
        path = self._folder / "ballast"
        if not path.exists() and free > self._settings.free + 2 * BALLAST:
            with contextlib.suppress(OSError), path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, BALLAST)

    def relieve(self) -> bool:
        """Give up the ballast; True when there was any, so that what failed is worth another try."""
        try:
            (self._folder / "ballast").unlink()
        except OSError:
            return False
        log.error("the disk refuses what it is given: the ballast is given up")
        return True

    def _count(self, taken: int, free: int) -> None:
        self._slot.counter("storage_bytes").set(taken)
        self._slot.counter("storage_budget_bytes").set(self._settings.budget)
        self._slot.counter("storage_free_bytes").set(free)

    def _warn(self, free: int) -> None:
        """Say when the disk has less left than it should, and when it has again."""
        short = free < (self._settings.free if not self._short else self._settings.free * 5 // 4)
        if short != self._short:
            words = "the disk has %d bytes left, %d are to stay free: %s"
            log.warning(words, free, self._settings.free, "nothing grows" if short else "it is enough again")
            self._tell(
                "disk.short" if short else "disk.enough", "warning" if short else "info", {"free": free}
            )
        self._short = short
        self._slot.counter("storage_short").set(int(short))


def _below(*paths: Path) -> int:
    """Return what files, or all files below folders, take on disk; those with several names count once."""
    seen: dict[tuple[int, int], int] = {}
    folders = [*paths]
    while folders:
        each = folders.pop()
        with contextlib.suppress(OSError):
            found = each.lstat()
            seen[found.st_dev, found.st_ino] = found.st_blocks * 512
            if each.is_dir() and not each.is_symlink():
                folders += [Path(entry.path) for entry in os.scandir(each)]
    return sum(seen.values())
