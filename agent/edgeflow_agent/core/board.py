"""The board: counters and heartbeats that every process can read and only their owner writes.

One slot per process. A counter is one aligned 64-bit word, so a reader sees it old or new and never
torn; there is no message and no lock. Names follow Prometheus: ``rows_total{input="accel"}``.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgeflow_agent.core import shm
from edgeflow_agent.core.clock import boottime_ns

SLOTS = 128
ENTRIES = 2047  # per slot, besides its header: memory is taken only for those in use
OVERFLOW = "counters_overflow_total"

_ENTRY = 256  # room for two labels of 63 characters and a reason
_NAME = _ENTRY - 8  # name bytes, a length byte first; the value fills the rest
_SLOT = (ENTRIES + 1) * _ENTRY
SIZE = SLOTS * _SLOT
BUCKETS = (*(float(1 << power) for power in range(24)), float("inf"))  # µs


class Counter:
    """One number of a slot."""

    __slots__ = ("_at", "_words")

    def __init__(self, words: memoryview[int], at: int) -> None:
        self._words = words
        self._at = at

    def add(self, count: int = 1) -> None:
        """Add to the number."""
        self._words[self._at] += count

    def set(self, value: int) -> None:
        """Replace the number."""
        self._words[self._at] = value

    @property
    def value(self) -> int:
        """The number now."""
        return self._words[self._at]


class Histogram:
    """Durations in buckets that double, as Prometheus counts them apart (not cumulated)."""

    def __init__(self, slot: Slot, name: str) -> None:
        self._buckets = [slot.counter(f'{name}_us_bucket{{le="{limit:g}"}}') for limit in BUCKETS]
        self._sum = slot.counter(f"{name}_us_sum")

    def record(self, ns: int, count: int = 1) -> None:
        """Count `count` durations of `ns` nanoseconds."""
        us = max(0, ns) // 1000
        self._buckets[min(max(0, us - 1).bit_length(), len(BUCKETS) - 1)].add(count)
        self._sum.add(us * count)


class Slot:
    """One process's part of the board."""

    def __init__(self, memory: memoryview[int], index: int) -> None:
        start = index * _SLOT
        self._bytes = memory[start : start + _SLOT]
        self._words = self._bytes.cast("q")
        self._names: dict[str, Counter] = {}

    def clear(self) -> None:
        """Begin anew: no counters, no heartbeat. Called by whoever hands the slot out."""
        used = (min(self._words[1], ENTRIES) + 1) * _ENTRY
        self._bytes[:used] = bytes(used)
        self._names.clear()

    def beat(self) -> None:
        """Say that the working loop has come round."""
        self._words[0] = boottime_ns()

    @property
    def beaten(self) -> int:
        """CLOCK_BOOTTIME ns of the last beat, 0 before the first."""
        return self._words[0]

    def counter(self, name: str) -> Counter:
        """Return the counter of that name; a new one starts at 0. Names over 247 bytes are cut.

        A restarted process finds the counters of the one before it and goes on counting. When the slot is
        full, all further names share one counter that says so.
        """
        if not self._names:
            self._names = {known: Counter(self._words, at) for known, at in self._entries()}
        counter = self._names.get(name)
        return self._new(name) if counter is None else counter

    def _new(self, name: str) -> Counter:
        name = name.encode()[: _NAME - 1].decode(errors="ignore")
        if name in self._names:
            return self._names[name]
        index = self._words[1] + 1
        if index >= ENTRIES and name != OVERFLOW:
            return self.counter(OVERFLOW)
        encoded, start = name.encode(), index * _ENTRY
        self._bytes[start : start + 1 + len(encoded)] = bytes([len(encoded)]) + encoded
        self._words[1] = index  # after the name, so that no reader meets half a name
        counter = Counter(self._words, (start + _NAME) // 8)
        self._names[name] = counter
        return counter

    def _entries(self) -> Iterator[tuple[str, int]]:
        for index in range(1, min(self._words[1], ENTRIES) + 1):
            start = index * _ENTRY
            length = self._bytes[start]
            yield (
                bytes(self._bytes[start + 1 : start + 1 + length]).decode(errors="replace"),
                (start + _NAME) // 8,
            )

    def read(self) -> dict[str, int]:
        """Return every counter."""
        return {name: self._words[at] for name, at in self._entries()}


class Board:
    """The whole board, mapped from the descriptor that `agentd` hands to each process."""

    def __init__(self, fd: int) -> None:
        self._memory = memoryview(shm.map_shared(fd, SIZE))

    def slot(self, index: int) -> Slot:
        """Return one slot, 0 ≤ index < SLOTS."""
        return Slot(self._memory, index)


def create() -> int:
    """Return the descriptor of a new, empty board."""
    return shm.create("board", SIZE)


def labelled(name: str, **labels: str) -> str:
    """Return ``name{a="x",b="y"}`` with values escaped as Prometheus asks."""
    escape = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
    pairs = ",".join(f'{label}="{value.translate(escape)}"' for label, value in labels.items())
    return f"{name}{{{pairs}}}"
