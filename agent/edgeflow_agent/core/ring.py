"""The ring: rows of one input in shared memory, one writer, any number of readers.

Memory order is the kernel's: the writer fills rows, then adds their number to each reader's eventfd;
what a reader takes from it tells exactly how many rows are there. No head in memory is ever polled.
A reader computes on views and asks afterwards whether the writer can have come round meanwhile.
The first number in a fresh eventfd is the writer's head plus one, the later ones are increments.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass

import numpy as np

from edgeflow_agent.core import shm
from edgeflow_agent.core.batch import Batch, Int64s, Keys, Values, numbered
from edgeflow_agent.core.layout import HEADER, KEY_BYTES, RingSpec
from edgeflow_proto.event import ROW_BITS

KEY_MASK = (1 << 28) - 1  # the low bits of a row's key; above them stands why rows are missing before it


class Gap(enum.IntEnum):
    """Why rows are missing before a row; 0 is no gap."""

    RESTART = 1  # the process that reads the source was not there
    DISCONNECT = 2  # the broker was not there
    OVERRUN = 3  # the reader was too slow (never stored: the reader finds out itself)
    SKIPPED = 4  # rows were taken out because they killed the worker (never stored)


class KeyLimitError(ValueError):
    """More keys than the input's `max_keys`."""


class _Memory:
    """The columns of a ring as arrays over memory mapped twice in a row."""

    def __init__(self, fd: int, spec: RingSpec) -> None:
        self.spec = spec
        self.header = shm.map_shared(fd, spec.header_bytes)
        offset = spec.header_bytes
        mirrors = []
        for size in spec.column_bytes:
            mirrors.append(shm.Mirror(fd, offset, size))
            offset += size
        self.mirrors = mirrors
        self.values: Values = np.frombuffer(mirrors[0].buffer, spec.dtype).reshape(-1, *spec.shape)
        self.t: Int64s = np.frombuffer(mirrors[1].buffer, np.int64)
        self.key: Keys = np.frombuffer(mirrors[2].buffer, np.uint32)
        self.wraps = tuple(len(column) // 2 for column in (self.values, self.t, self.key))
        self.slots = min(self.wraps)

    def views(self, row: int, count: int) -> tuple[Values, Int64s, Keys]:
        wrap, wrap_t, wrap_key = self.wraps
        at, at_t, at_key = row % wrap, row % wrap_t, row % wrap_key
        return self.values[at : at + count], self.t[at_t : at_t + count], self.key[at_key : at_key + count]

    def key_name(self, index: int) -> str:
        start = shm.PAGE + index * KEY_BYTES
        length = self.header[start]
        return self.header[start + 1 : start + 1 + length].decode()

    @property
    def key_count(self) -> int:
        _, _, count = HEADER.unpack_from(self.header)
        return int(count)

    def close(self) -> None:
        del self.values, self.t, self.key
        self.header.close()
        for mirror in self.mirrors:
            mirror.close()


@dataclass(slots=True)
class _Reader:
    """The writer's end of one reader: where to announce rows, and what it has let go of."""

    ready: int
    credit: int | None
    credited: int | None = None


class RingWriter:
    """Writes rows. A writer that takes over from a dead one continues at its head and marks the gap.

    There is no gap with `lossless`: such a source goes on where it stopped.
    """

    def __init__(self, fd: int, spec: RingSpec) -> None:
        self.spec = spec
        self._memory = _Memory(fd, spec)
        self.head, self._newest, count = HEADER.unpack_from(self._memory.header)
        self._published = self.head
        self._keys = {self._memory.key_name(i): i for i in range(count)}
        self._gap: Gap | None = Gap.RESTART if self.head and not spec.lossless else None
        self._readers: dict[str, _Reader] = {}
        self._margin = spec.margin

    def bind(self, ready: int, credit: int | None = None, reader: str = "live") -> None:
        """Announce rows to a reader on a fresh eventfd from now on, in place of its earlier one."""
        self.publish()
        if earlier := self._readers.pop(reader, None):
            shm.close(earlier.ready, earlier.credit)
        self._readers[reader] = _Reader(ready, credit)
        shm.add(ready, self.head + 1)

    def key(self, name: str) -> int:
        """Return the number of a key, new or known; raises KeyLimitError or ValueError (over 63 bytes)."""
        known = self._keys.get(name)
        return self._new_key(name) if known is None else known

    def _new_key(self, name: str) -> int:
        encoded = name.encode()
        if len(encoded) >= KEY_BYTES:
            raise ValueError(f"key longer than {KEY_BYTES - 1} bytes")
        index = len(self._keys)
        if index >= self.spec.max_keys:
            raise KeyLimitError(f"more than {self.spec.max_keys} keys")
        start = shm.PAGE + index * KEY_BYTES
        self._memory.header[start : start + 1 + len(encoded)] = bytes([len(encoded)]) + encoded
        self._keys[name] = index
        self._store()
        return index

    @property
    def newest(self) -> int:
        """Time of the newest row, 0 before the first."""
        return int(self._newest)

    def gap(self, reason: Gap) -> None:
        """Mark the next row: rows are missing before it."""
        self._gap = reason

    def space(self) -> int:
        """Rows that may be written now: all, or with `lossless` as many as the readers have let go of."""
        if not self.spec.lossless:
            return self.spec.capacity
        return min((self._room(reader) for reader in self._readers.values()), default=0)

    def _room(self, reader: _Reader) -> int:
        taken = shm.take(reader.credit) if reader.credit is not None else 0
        if taken:
            reader.credited = taken - 1 if reader.credited is None else reader.credited + taken
        return 0 if reader.credited is None else self.spec.capacity - (self.head - reader.credited)

    def append(self, values: Values, t: Int64s, key: Keys | int = 0, *, ordered: bool = False) -> None:
        """Copy rows in: values ``(n, *shape)``, times int64 ``(n,)``, keys uint32 ``(n,)`` or one for all.

        Times that run backwards are raised to the newest one; `ordered` promises that none does among these.
        Rows are seen by readers after `publish`.
        """
        count, head, margin = len(t), self.head, self._margin
        if not 0 < count <= margin:
            self._append_parts(values, t, key, ordered)
            return
        if head + count - self._published > margin:
            self.publish()
        to_values, to_t, to_key = self._memory.views(head, count)
        to_values[...] = values
        if ordered:
            to_t[...] = t
        else:
            np.maximum.accumulate(t, out=to_t)
        if to_t.item(0) < self._newest:
            np.maximum(to_t, self._newest, out=to_t)
        to_key[...] = key
        if self._gap is not None:
            to_key[0] |= np.uint32(self._gap << 28)
            self._gap = None
        self._newest = to_t.item(-1)
        self.head = head + count

    def _append_parts(self, values: Values, t: Int64s, key: Keys | int, ordered: bool) -> None:
        """Append more rows than may be announced at once."""
        keys = np.broadcast_to(np.asarray(key, np.uint32), t.shape)
        for part in (slice(start, start + self._margin) for start in range(0, len(t), self._margin)):
            self.append(values[part], t[part], keys[part], ordered=ordered)

    def publish(self) -> None:
        """Announce the rows appended since the last call."""
        head = self.head
        count = head - self._published
        if count:
            HEADER.pack_into(self._memory.header, 0, head, self._newest, len(self._keys))
            self._published = head
            for reader in self._readers.values():
                os.eventfd_write(reader.ready, count)

    def _store(self) -> None:
        HEADER.pack_into(self._memory.header, 0, self.head, self._newest, len(self._keys))

    def close(self) -> None:
        """Publish what is left and unmap."""
        self.publish()
        for reader in self._readers.values():
            shm.close(reader.ready, reader.credit)
        self._memory.close()


class RingReader:
    """Reads rows. `position` is the next row to read, `head` the rows known to be there."""

    def __init__(self, fd: int, spec: RingSpec, columns: tuple[str, ...] | None = None) -> None:
        self.spec = spec
        self.columns = columns
        self.position = 0
        self.head = 0
        self.ready = -1
        self._credit: int | None = None
        self._fresh = True
        self._released: int | None = None
        self._memory = _Memory(fd, spec)
        self._names: dict[int, str] = {}
        self.margin = spec.margin
        self._kept = self._memory.slots - spec.margin

    def bind(self, ready: int, credit: int | None = None) -> None:
        """Learn of rows from a fresh eventfd from now on, in place of the earlier one."""
        if self.ready >= 0:
            shm.close(self.ready, self._credit)
        self.ready, self._credit = ready, credit
        self._fresh = True
        released, self._released = self._released, None
        if released is not None:
            self.release(released)

    def poll(self) -> int:
        """Take note of new rows; return how many wait to be read."""
        count = shm.take(self.ready) if self.ready >= 0 else 0
        if count and self._fresh:
            self.head, self._fresh = count - 1, False
        else:
            self.head += count
        return self.head - self.position

    def oldest(self) -> int:
        """The oldest row the writer cannot be overwriting now."""
        return max(0, self.head - self._kept)

    def lost(self) -> int:
        """Return how many unread rows are gone, and skip them."""
        self.poll()
        gone = max(0, self.oldest() - self.position)
        self.position += gone
        return gone

    def view(self, count: int) -> Batch:
        """Return the next `count` rows as views of shared memory; `key` still carries gap marks."""
        return self.at(self.position, count)

    def at(self, row: int, count: int) -> Batch:
        """Return `count` rows from `row` on, which may have been read before, as `view` does the next."""
        values, t, key = self._memory.views(row, count)
        return numbered(values, t, key, self.spec.generation << ROW_BITS | row, self.columns)

    def intact(self, row: int) -> bool:
        """Say whether `row` and all after it cannot have been overwritten so far."""
        self.poll()
        return row >= self.oldest()

    def release(self, row: int) -> None:
        """Let go of all rows before `row`: a writer that waits may overwrite them."""
        if self._credit is not None:
            count = row + 1 if self._released is None else row - self._released
            if count:
                shm.add(self._credit, count)
        self._released = row

    def key_name(self, key: int) -> str:
        """Return the name of a key that came with a row."""
        if key not in self._names:
            self._names[key] = self._memory.key_name(key)
        return self._names[key]

    @property
    def keys(self) -> list[str]:
        """The names of all keys so far, by their numbers."""
        return [self.key_name(number) for number in range(self._memory.key_count)]

    def close(self) -> None:
        """Let go of the counters and unmap; earlier views are invalid afterwards."""
        if self.ready >= 0:
            shm.close(self.ready, self._credit)
            self.ready, self._credit = -1, None
        self._memory.close()
