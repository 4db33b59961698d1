"""When things happened: boots, what was known of the clock in each, and the times that follow from it.

A device without a battery for its clock boots in 1970, and learns the time later or never. What it writes
carries the time since its boot, which nobody sets, and the wall clock as it then stood. Nothing written is
ever rewritten: who reads asks the timeline, which knows by then what was not known before.

A boot whose clock was known once dates all of it, to the uncertainty of that reading and the drift of the
oscillator since. One whose clock was never known lies between what came before it and what came after.
Source: RFC 5905, section 5 (offset, maximum error and its growth with time).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

from edgeflow_proto.event import Block, Clock, ClockQuality

DRIFT_PPM = 100  # how wrong an undisciplined oscillator may run: several times what boards are sold with
MAX_SYNCS = 8
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


class Boot(msgspec.Struct, frozen=True):
    """One run of the kernel. `floor_ns` is wall time that had certainly passed when it began.

    `seen_ns` is how long it had run when the agent was last known alive. Of `syncs`, in the order of their
    times, the first is the one that dates the beginning.
    """

    id: str
    floor_ns: int = 0
    seen_ns: int = 0
    syncs: tuple[Sync, ...] = ()

    def nearest(self, t: int) -> Sync | None:
        """Return the sync that is best known at boot time `t`."""
        return min(self.syncs, key=lambda sync: sync.at(t), default=None)

    def learnt(self, sync: Sync) -> Boot:
        """Return the boot with a reading that says something new; itself where it does not.

        New are the first one, another time, and an hour later. The relay's word counts where the kernel never
        knew, and where it can be: a time that has passed before the boot began is none. Of more than
        `MAX_SYNCS` readings the first and the newest are kept.
        """
        relay = sync.quality == "relay"
        if relay and (self._kernel_knew or sync.offset_ns + sync.uncertainty_ns < self.floor_ns):
            return self
        before = self.syncs[-1] if self.syncs else None
        if before is not None and before.quality == sync.quality and not _differ(before, sync):
            return self
        syncs = (*self.syncs, sync)
        if len(syncs) > MAX_SYNCS:
            syncs = (syncs[0], *syncs[2:])
        return msgspec.structs.replace(self, syncs=syncs)

    @property
    def _kernel_knew(self) -> bool:
        return any(sync.quality == "synchronised" for sync in self.syncs)

    @property
    def ended_ns(self) -> int:
        """Wall time that had certainly passed when the boot was last seen."""
        sync = self.nearest(self.seen_ns)
        known = 0 if sync is None else self.seen_ns + sync.offset_ns - sync.at(self.seen_ns)
        return max(known, self.floor_ns + self.seen_ns)


def _differ(before: Sync, sync: Sync) -> bool:
    late = sync.boottime_ns - before.boottime_ns >= RESYNC_NS
    return late or abs(sync.offset_ns - before.offset_ns) > sync.uncertainty_ns + before.at(sync.boottime_ns)


class Timeline:
    """The boots of one device, oldest first."""

    def __init__(self, boots: Sequence[Boot] = ()) -> None:
        self.boots = tuple(boots)
        self._places = {boot.id: place for place, boot in enumerate(self.boots)}

    def clock(self, written: Clock, t: int) -> Clock:
        """Return how boot time `t` becomes wall time as known now, given how it was written then.

        A clock that was known when it was written stands, and so does one that a reading of its boot agrees
        with. Else it is ``corrected`` where there is better knowledge by now, with an uncertainty; where
        there is none it stays ``unsynchronised``, and is no earlier than what is known to have passed.
        """
        place = self._places.get(written.boot_id)
        if written.quality != "unsynchronised" or place is None:
            return written
        sync = self.boots[place].nearest(t)
        if sync is not None:
            return _by(sync, written, t)
        return _between(written, t, self._earliest(place, t), self._latest(place, t))

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
        return self.boots[place].floor_ns + t

    def _latest(self, place: int, t: int) -> int | None:
        """Return the latest wall time: all that was seen later had to happen before the next known time."""
        after = self.boots[place].seen_ns - t
        for boot in self.boots[place + 1 :]:
            sync = boot.nearest(0)
            if sync is not None:
                return sync.offset_ns + sync.at(0) - after
            after += boot.seen_ns
        return None


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
