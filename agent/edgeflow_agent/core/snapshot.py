"""Two alternating snapshots of a worker's state in memory that outlives the worker.

A snapshot is written whole before anything names it. It becomes the one to resume from either when the
journal's transaction that carries the events before it names its serial, or, with no event waiting,
by `settle`. After a crash the newer of the two wins: see `resume`.
"""

from __future__ import annotations

import os
import struct
import sys

from edgeflow_agent.core import shm

MARKS = 256  # outputs of one pipeline that carry out effects
_SLOT = struct.Struct("<qqq")  # serial, offset, length
_SLOTS_AT = 64
_MARKS_AT = 256
_DATA_AT = 4096


class Snapshots:
    """The memory of one worker: two snapshots, the row in hand, and a mark per output with effects."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._map()

    def _map(self) -> None:
        self._memory = shm.map_shared(self._fd, os.fstat(self._fd).st_size)
        self._words = memoryview(self._memory)[:_DATA_AT].cast("q")

    @property
    def settled(self) -> int:
        """Serial of the newest snapshot that may be resumed from without asking the journal; 0 for none."""
        return self._words[0]

    def settle(self, serial: int) -> None:
        """Make a snapshot the one to resume from; all events before it are in the journal."""
        self._words[0] = serial

    @property
    def trying(self) -> int:
        """The row a careful worker had in hand when it last wrote; -1 when it is not careful."""
        return self._words[1] - 1

    @trying.setter
    def trying(self, row: int) -> None:
        self._words[1] = row + 1

    @property
    def tries(self) -> int:
        """How many careful workers died in a row with that row in hand."""
        return self._words[2]

    @tries.setter
    def tries(self, count: int) -> None:
        self._words[2] = count

    def marks(self) -> memoryview[int]:
        """Return one word per output: the newest row whose effect was carried out (written by `io`)."""
        return self._words[_MARKS_AT // 8 : _MARKS_AT // 8 + MARKS]

    def write(self, serial: int, data: bytes) -> None:
        """Write a snapshot over the older of the two; serials count up by one."""
        half = (os.fstat(self._fd).st_size - _DATA_AT) // 2
        if len(data) > half:
            self._grow(len(data))
            half = (os.fstat(self._fd).st_size - _DATA_AT) // 2
        at = _SLOTS_AT + serial % 2 * _SLOT.size
        offset = _DATA_AT + serial % 2 * half
        _SLOT.pack_into(self._memory, at, 0, 0, 0)
        self._memory[offset : offset + len(data)] = data
        _SLOT.pack_into(self._memory, at, serial, offset, len(data))

    def _grow(self, needed: int) -> None:
        """Make room, keeping the other snapshot where it is."""
        other = [self._read(slot) for slot in (0, 1)]
        half = -(-2 * needed // shm.PAGE) * shm.PAGE
        os.ftruncate(self._fd, _DATA_AT + 2 * half)
        self._map()
        for slot, (serial, data) in enumerate(other):
            if serial:
                offset = _DATA_AT + slot * half
                self._memory[offset : offset + len(data)] = data
                _SLOT.pack_into(self._memory, _SLOTS_AT + slot * _SLOT.size, serial, offset, len(data))

    def _read(self, slot: int) -> tuple[int, bytes]:
        serial, offset, length = _SLOT.unpack_from(self._memory, _SLOTS_AT + slot * _SLOT.size)
        return serial, self._memory[offset : offset + length] if serial else b""

    def resume(self, committed: int) -> tuple[int, bytes] | None:
        """Return serial and data to resume from, `committed` being the serial the journal names."""
        wanted = max(committed, self.settled)
        serial, data = self._read(wanted % 2)
        return (serial, data) if serial == wanted and serial > 0 else None


def settled(fd: int) -> int:
    """Return `Snapshots.settled` without mapping anything."""
    return int.from_bytes(os.pread(fd, 8, 0), sys.byteorder)


def create() -> int:
    """Return the descriptor of empty snapshots."""
    return shm.create("snapshots", _DATA_AT + 2 * 16 * shm.PAGE)
