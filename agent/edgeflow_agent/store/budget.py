"""How the bytes the agent may take are divided: pure rules over what there is.

All that is stored counts towards one budget, which is a ceiling and not a hope. Logs and the agent's own
state keep within bounds of their own, bundles are given room before they are written; journals and recordings
share the rest. Each has a limit that only its one writer enforces, before it writes. When it is tight, what
the relay has goes first, then recordings, then the oldest of what nobody else has; what a busy pipeline wants
comes after what a quiet one needs (max-min fairness). Bytes that are there come before bytes that might be:
room to grow is shared by those who write, when all that is worth keeping has its place.
Source: Bertsekas and Gallager, "Data Networks", section 6.5 (max-min fair shares).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

LEAST = 1 << 20  # of a journal: below, its segments hold hardly a commit
LEAST_ROWS = 5 << 20  # of a recording: below, the largest of its commits does not go in
GROWTH = 8 << 20  # beyond what it has, so that a journal has begun to grow before it is asked again
AHEAD = 8  # the part of the room that is for the next events, before anything is recorded
BALLAST = 4 << 20
BLOCK = 4096  # of usual file systems
MAX_HEADROOM = 32 << 20
_Key = TypeVar("_Key", str, tuple[str, int])


class Store(NamedTuple):
    """What a pipeline stores, in bytes on disk: events the relay has, other events, recorded rows."""

    acked: int = 0
    unacked: int = 0
    recorded: int = 0
    records: bool = False  # whether it records at all
    written: bool = True  # whether its journal has a writer, or will have one again

    @property
    def total(self) -> int:
        """All of it."""
        return self.acked + self.unacked + self.recorded


class Limits(NamedTuple):
    """How many bytes a pipeline's journal and its recordings may take."""

    journal: int
    recording: int = 0

    @property
    def total(self) -> int:
        """Both."""
        return self.journal + self.recording


class Pot(NamedTuple):
    """The bytes for journals and recordings; with `hold` no event that nobody else has goes for a new one."""

    bytes: int
    hold: bool = False


def pot(budget: int, others: int, stores: Iterable[Store], free: int, floor: int) -> Pot:
    """Return what journals and recordings may take.

    `others` is what else the agent takes, `free` what the file system has left and `floor` what of that
    belongs to the rest of the system. Where others fill the disk, what the relay has and recordings make
    room, and nothing grows; events that nobody else has are held, and new ones wait in memory.
    """
    found = list(stores)
    within = max(0, budget - others)
    left = sum(store.total for store in found) + free - floor
    if left >= within:
        return Pot(within)
    return Pot(min(within, max(left, sum(store.unacked for store in found))), hold=True)


def on_disk(sizes: Iterable[int]) -> int:
    """Return the bytes that files of these sizes take on disk at most, with a folder or two."""
    return sum(size + BLOCK for size in sizes) + 4 * BLOCK


def headroom(budget: int) -> int:
    """Return the bytes that are promised to nobody, so that a small bundle need not wait for room."""
    return min(MAX_HEADROOM, budget // 16)


def most(budget: int, others: int, stores: Iterable[Store], free: int, floor: int) -> int:
    """Return how many bytes of bundles there can be room for.

    Each pipeline that runs, and one that is new, keeps what a journal takes at least. Events that nobody
    else has stay, up to half of the budget: on a device without a relay they take it all. A small bundle may
    cost some.
    """
    found = list(stores)
    least = LEAST * (sum(store.written for store in found) + 1)
    held = min(budget // 2, sum(max(LEAST if store.written else 0, store.unacked) for store in found))
    left = budget - others - headroom(budget)
    within = max(left - max(least, held), min(headroom(budget), left - least))
    return min(within, free - floor + sum(store.acked + store.recorded for store in found))


def ever(budget: int, reserved: int) -> int:
    """Return how many bytes of bundles there could be room for beside one journal, and nothing else."""
    return budget - reserved - headroom(budget) - LEAST


def vacant(budget: int, others: int, limits: Mapping[str, Limits], stores: Mapping[str, Store]) -> int:
    """Return the bytes that nobody takes and nobody was promised; below zero where that is too much."""
    return budget - others - _could_be({name: limits.get(name, Limits(0)) for name in stores}, stores)


def targets(stores: Mapping[str, Store], room: int) -> dict[str, Limits]:
    """Return the limits that `room` bytes allow, by pipeline; together they are not above it.

    What is claimed first has its place first: see the claims below, each of which says what there should be.
    """
    limits, left = dict.fromkeys(stores, Limits(0)), room
    writers = [name for name, store in stores.items() if store.written]
    events = partial(_events, room // (AHEAD * max(1, len(writers))))
    for claim in (_least, events, _rows, _least_rows, _growth, _history):
        given = fair(_rises(limits, {name: claim(store) for name, store in stores.items()}), left)
        limits = {name: _more(limit, given, name) for name, limit in limits.items()}
        left -= sum(given.values())
    spare = {(name, 0): left // len(writers) for name in writers}
    return {name: _more(limit, spare, name) for name, limit in limits.items()}


def _least(store: Store) -> Limits:
    return Limits(LEAST if store.written else 0)


def _events(share: int, store: Store) -> Limits:
    """What nobody else has, and the next of it: a share of the room, more where there is much already."""
    ahead = min(GROWTH, max(LEAST, share, store.unacked // 2)) if store.written else 0
    return Limits(store.unacked + ahead)


def _rows(store: Store) -> Limits:
    return Limits(0, store.recorded)


def _least_rows(store: Store) -> Limits:
    return Limits(0, LEAST_ROWS if store.records else 0)


def _growth(store: Store) -> Limits:
    journal = store.unacked + GROWTH if store.written else 0
    return Limits(journal, store.recorded + GROWTH if store.records else 0)


def _history(store: Store) -> Limits:
    return Limits(store.unacked + store.acked + (GROWTH if store.written else 0))


def _rises(before: Mapping[str, Limits], after: Mapping[str, Limits]) -> dict[tuple[str, int], int]:
    """Return how far each limit is below another: a pipeline's for its journal (0) and its recording (1)."""
    return {
        (name, part): max(0, after[name][part] - limit[part])
        for name, limit in before.items()
        for part in (0, 1)
    }


def _more(limit: Limits, given: Mapping[tuple[str, int], int], name: str) -> Limits:
    return Limits(*(bytes_ + given.get((name, part), 0) for part, bytes_ in enumerate(limit)))


def fair(wanted: Mapping[_Key, int], room: int) -> dict[_Key, int]:
    """Divide `room` so that nobody gets more than is wanted, and who gets less gets as much as anybody."""
    out: dict[_Key, int] = {}
    left = room
    for place, name in enumerate(sorted(wanted, key=lambda name: (wanted[name], name))):
        out[name] = min(wanted[name], left // (len(wanted) - place))
        left -= out[name]
    return out


def granted(
    before: Mapping[str, Limits], target: Mapping[str, Limits], stores: Mapping[str, Store], room: int
) -> dict[str, Limits]:
    """Return the limits that may be told now, on the way to `target`.

    One that sinks is told at once. One that rises gets of what the others have given up, as much as there is
    by now: what counts of another is its limit or what it still takes, whichever is more. While that is more
    than there is, nobody grows at all.
    """
    sunk = {name: _lesser(before.get(name, Limits(0)), limit) for name, limit in target.items()}
    left = room - _could_be(sunk, stores)
    if left < 0:
        return {name: _lesser(limit, _taken(stores[name])) for name, limit in sunk.items()}
    counted = {name: _greater(limit, _taken(stores[name])) for name, limit in sunk.items()}
    given = fair(_rises(counted, target), left)
    return {name: _lesser(target[name], _more(limit, given, name)) for name, limit in counted.items()}


def _could_be(limits: Mapping[str, Limits], stores: Mapping[str, Store]) -> int:
    return sum(_greater(limit, _taken(stores[name])).total for name, limit in limits.items())


def _taken(store: Store) -> Limits:
    return Limits(store.acked + store.unacked, store.recorded)


def _lesser(one: Limits, other: Limits) -> Limits:
    return Limits(min(one.journal, other.journal), min(one.recording, other.recording))


def _greater(one: Limits, other: Limits) -> Limits:
    return Limits(max(one.journal, other.journal), max(one.recording, other.recording))


def split(segments: Iterable[tuple[int, int]], acked: int, end: int | None = None) -> tuple[int, int]:
    """Return the bytes of segments ``(first event, bytes)``, oldest first, that the relay has, and of others.

    A segment is acknowledged when the next one begins at an event that is, or right behind one. `end` is the
    number behind the last event of all, where nobody writes any more.
    """
    found = list(segments)
    ends = [*(first for first, _ in found[1:]), *([] if end is None else [end])]
    done = sum(size for (_, size), end in zip(found, ends, strict=False) if end <= acked + 1)
    return done, sum(size for _, size in found) - done
