"""When things happened: boots, what was known of the clock in each, and the times that follow from it.

A device without a battery for its clock boots in 1970, and learns the time later or never. What it writes
carries the time since its boot, which nobody sets, and the wall clock as it then stood. Nothing written is
ever rewritten: who reads asks the timeline, which knows by then what was not known before.

A boot whose clock was known once dates all of it, to the uncertainty of that reading and the drift of the
oscillator since. One whose clock was never known lies between what came before it and what came after.

Any reading may be wrong, the most certain one too. Where readings contradict each other the newest is
believed, and what agrees with it: in a boot, and between boots, since none can end after the next began.
Sources: RFC 5905, section 5 (offset, maximum error and its growth with time); section 11.2.1 (readings whose
intervals have no time in common cannot all be right).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import msgspec

from edgeflow_proto.event import Block, Clock, ClockQuality

DRIFT_PPM = 100  # how wrong an undisciplined oscillator may run: several times what boards are sold with
MAX_SYNCS = 8
DENIALS = 3  # words of the relay, in a row, that outrank what was held to have passed
RESYNC_NS = 3600 * 10**9


class Sync(msgspec.Struct, frozen=True):
    """A moment at which the wall clock was known: ``wall = boottime + offset_ns``, give or take."""

    boottime_ns: int
    offset_ns: int
    uncertainty_ns: int
    quality: ClockQuality  # what it was known by: "synchronised" (the kernel says so) or "relay"

    def at(self, t: int) -> int:
        """Return how uncertain this is at boot time `t`, in ns."""
        return self.uncertainty_ns + abs(t - self.boottime_ns) * DRIFT_PPM // 10**6

    def agrees(self, later: Sync) -> bool:
        """Say whether both can be right."""
        apart = abs(later.offset_ns - self.offset_ns)
        return apart <= later.uncertainty_ns + self.at(later.boottime_ns)


class Boot(msgspec.Struct, frozen=True):
    """One run of the kernel. `floor_ns` is wall time that was held to have passed when it began.

    `seen_ns` is how long it had run when the agent was last known alive. Of `syncs`, in the order of their
    times, the first is the one that dates the beginning. `denials` counts the words of the relay, in a row
    and those to boots before included, by which the floor has not passed yet; by the newest of them
    `denied_ns` has.
    """

    id: str
    floor_ns: int = 0
    seen_ns: int = 0
    syncs: tuple[Sync, ...] = ()
    denials: int = 0
    denied_ns: int = 0

    @property
    def trusted(self) -> tuple[Sync, ...]:
        """The newest reading and those before it that agree; what contradicts them was wrong."""
        agreed: list[Sync] = []
        for sync in reversed(self.syncs):
            if all(sync.agrees(later) for later in agreed):
                agreed.append(sync)
        return tuple(reversed(agreed))

    def learnt(self, sync: Sync) -> Boot:
        """Return the boot with a reading that says something new; itself where it does not.

        New are the first one, another time, and an hour later. The relay's word counts where the kernel never
        knew, and where it can be: a time that has passed before the boot began is none, unless it is said
        again and again. Of more than `MAX_SYNCS` readings the first and the newest are kept.
        """
        if sync.quality == "relay":
            if self._kernel_knew:
                return self
            if self._floor_stands and sync.offset_ns + sync.uncertainty_ns < self.floor_ns:
                return self._denied(sync)
        before = self.syncs[-1] if self.syncs else None
        if before is not None and before.quality == sync.quality and not _new(before, sync):
            return self
        return msgspec.structs.replace(self, syncs=self._kept(sync), denials=0)

    def _denied(self, sync: Sync) -> Boot:
        """Count the word of a relay against the floor; where its time goes on, the `DENIALS`th is taken."""
        wall = sync.boottime_ns + sync.offset_ns
        count = self.denials + 1 if wall + sync.uncertainty_ns >= self.denied_ns else 1
        if count >= DENIALS:
            return msgspec.structs.replace(self, syncs=self._kept(sync), denials=0)
        return msgspec.structs.replace(self, denials=count, denied_ns=wall - sync.uncertainty_ns)

    def _kept(self, sync: Sync) -> tuple[Sync, ...]:
        """Return the readings with a new one; what is wrong, with it and without it, is what goes first."""
        syncs = (*self.syncs, sync)
        if len(syncs) <= MAX_SYNCS:
            return syncs
        right = {*self.trusted, *msgspec.structs.replace(self, syncs=syncs).trusted}
        gone = next((place for place, each in enumerate(syncs) if each not in right), 1)
        return (*syncs[:gone], *syncs[gone + 1 :])

    @property
    def _kernel_knew(self) -> bool:
        return any(sync.quality == "synchronised" for sync in self.syncs)

    @property
    def _floor_stands(self) -> bool:
        sync = nearest(self.trusted, 0)
        return sync is None or sync.offset_ns + sync.at(0) >= self.floor_ns

    @property
    def ended_ns(self) -> int:
        """Wall time that had passed when the boot was last seen, by what is believed of this boot."""
        return _ended(self, self.trusted, self.floor_ns if self._floor_stands else 0)


def nearest(syncs: Sequence[Sync], t: int) -> Sync | None:
    """Return the reading that is best known at boot time `t`."""
    return min(syncs, key=lambda sync: sync.at(t), default=None)


def _new(before: Sync, sync: Sync) -> bool:
    return sync.boottime_ns - before.boottime_ns >= RESYNC_NS or not before.agrees(sync)


def _ended(boot: Boot, syncs: Sequence[Sync], floor: int) -> int:
    sync = nearest(syncs, boot.seen_ns)
    known = 0 if sync is None else boot.seen_ns + sync.offset_ns - sync.at(boot.seen_ns)
    return max(known, floor + boot.seen_ns)


def following(boots: Sequence[Boot], boot_id: str) -> Boot:
    """Return a boot that begins now, behind others."""
    if not boots:
        return Boot(boot_id)
    before = boots[-1]
    return Boot(boot_id, before.ended_ns, denials=before.denials, denied_ns=before.denied_ns)


class _Known(NamedTuple):
    """What is believed of a boot beside all others."""

    syncs: tuple[Sync, ...]
    floor: int  # wall time when it began, at least
    end: int | None  # wall time when it was last seen, at most


def _believed(boots: Sequence[Boot]) -> list[_Known]:
    """Hold the boots against each other: none was seen after a later one began."""
    out: list[_Known] = []
    end: int | None = None
    for boot in reversed(boots):
        syncs = boot.trusted
        if end is not None and syncs and _ended(boot, syncs, 0) > end:
            syncs = ()
        out.append(_Known(syncs, boot.floor_ns, end))
        end = _began(boot, out[-1])
    return _floored(boots, out[::-1])


def _floored(boots: Sequence[Boot], known: Sequence[_Known]) -> list[_Known]:
    """Let a floor that is above what is known count no more: the end of the boot before is one."""
    out: list[_Known] = []
    floor = 0
    for boot, each in zip(boots, known, strict=True):
        latest = _began(boot, each)
        if latest is None or each.floor <= latest:
            floor = each.floor
        out.append(each._replace(floor=floor))
        floor = _ended(boot, each.syncs, floor)
    return out


def _began(boot: Boot, known: _Known) -> int | None:
    """Return wall time when a boot began, at most."""
    sync = nearest(known.syncs, 0)
    if sync is not None:
        return sync.offset_ns + sync.at(0)
    return None if known.end is None else known.end - boot.seen_ns


class Timeline:
    """The boots of one device, oldest first."""

    def __init__(self, boots: Sequence[Boot] = ()) -> None:
        self.boots = tuple(boots)
        self._places = {boot.id: place for place, boot in enumerate(self.boots)}

    def place(self, boot_id: str) -> int:
        """Return the place of a boot among all; one that is not known comes before them."""
        return self._places.get(boot_id, -1)

    def clock(self, written: Clock, t: int) -> Clock:
        """Return how boot time `t` becomes wall time as known now, given how it was written then.

        A clock that was known when it was written stands until the kernel says later that it was wrong, and
        so does one that a reading of its boot agrees with. Else it is ``corrected`` where there is better
        knowledge by now, with an uncertainty; where there is none it stays ``unsynchronised``, and is no
        earlier than what is known to have passed.
        """
        place = self._places.get(written.boot_id)
        if place is None or not self._doubtful(place, written, t):
            return written
        sync = nearest(self._known[place].syncs, t)
        if sync is not None:
            return _by(sync, written, t)
        return _between(written, t, self._earliest(place, t), self._latest(place, t))

    @cached_property
    def _known(self) -> list[_Known]:
        return _believed(self.boots)

    def _doubtful(self, place: int, written: Clock, t: int) -> bool:
        """Say whether what was written is to be held against what is known by now."""
        if written.quality != "synchronised":
            return written.quality == "unsynchronised"
        syncs, then = self._known[place].syncs, _sync(written, t)
        if self.boots[place].syncs and not syncs:  # a later boot contradicts this one
            return not self._earliest(place, t) <= t + written.offset_ns <= (self._latest(place, t) or 0)
        return any(
            later.quality == "synchronised" and later.boottime_ns >= t and not then.agrees(later)
            for later in syncs
        )

    def learnt(self, boot_id: str, sync: Sync) -> Timeline:
        """Return the timeline with a reading of one of its boots, or of a new one behind them."""
        if boot_id not in self._places:
            return Timeline((*self.boots, Boot(boot_id).learnt(sync)))
        return Timeline([boot.learnt(sync) if boot.id == boot_id else boot for boot in self.boots])

    def dated(self, block: Block) -> Block:
        """Return a block with its clock as known now."""
        (newest,) = struct.unpack_from("<q", block.t, len(block.t) - 8)
        clock = self.clock(block.clock, newest)
        return block if clock is block.clock else msgspec.structs.replace(block, clock=clock)

    def _earliest(self, place: int, t: int) -> int:
        return self._known[place].floor + t

    def _latest(self, place: int, t: int) -> int | None:
        """Return the latest wall time: all that was seen later had to happen before the next known time."""
        end = self._known[place].end
        return None if end is None else end - max(0, self.boots[place].seen_ns - t)


def _sync(written: Clock, t: int) -> Sync:
    return Sync(t, written.offset_ns, written.uncertainty_ns or 0, written.quality)


def _by(sync: Sync, written: Clock, t: int) -> Clock:
    """Return the clock by a reading: as it was written where the reading agrees with it."""
    apart, uncertainty = abs(written.offset_ns - sync.offset_ns), sync.at(t)
    if apart <= uncertainty:
        return Clock(written.boot_id, written.offset_ns, sync.quality, uncertainty + apart)
    return Clock(written.boot_id, sync.offset_ns, "corrected", uncertainty)


def _between(written: Clock, t: int, earliest: int, latest: int | None) -> Clock:
    wall = t + written.offset_ns
    if latest is None:
        return written if wall >= earliest else Clock(written.boot_id, earliest - t, "unsynchronised")
    if earliest <= wall <= latest:
        return Clock(
            written.boot_id, written.offset_ns, "unsynchronised", max(wall - earliest, latest - wall)
        )
    middle = (earliest + latest) // 2
    return Clock(written.boot_id, middle - t, "corrected", abs(latest - earliest) // 2 + 1)
