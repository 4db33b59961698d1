"""Memory and counters that several processes share, handed over as file descriptors.

Nothing here has a name in any file system: what `agentd` holds lives as long as `agentd` does.
Source: memfd_create(2), eventfd(2), mmap(2).
"""

from __future__ import annotations

import ctypes
import mmap
import os

PAGE = mmap.PAGESIZE

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_PROT_NONE = 0
_MAP_FIXED = 0x10
_FAILED = ctypes.c_void_p(-1).value


def create(name: str, size: int) -> int:
    """Return a new memfd of `size` bytes, zeroed; pages take memory when first written."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    return fd


def map_shared(fd: int, size: int) -> mmap.mmap:
    """Map the first `size` bytes of a memfd for reading and writing."""
    return mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)


def eventfd() -> int:
    """Return a new eventfd counter at zero, non-blocking."""
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


def add(fd: int, count: int) -> None:
    """Add to an eventfd; whoever reads it sees all memory written before."""
    os.eventfd_write(fd, count)


def take(fd: int) -> int:
    """Take all that was added to an eventfd since the last call; 0 when nothing was."""
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


def close(*fds: int | None) -> None:
    """Close descriptors, those that are there."""
    for fd in fds:
        if fd is not None:
            os.close(fd)


class Mirror:
    """A part of a memfd mapped twice in a row, so that a span that wraps is one stretch of memory.

    `offset` and `size` must be multiples of the page size. `buffer` has ``2 * size`` bytes, of which
    byte ``i`` and ``i + size`` are the same memory. Raises OSError when the kernel refuses.
    """

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self.size = size
        self._address = _mmap(None, 2 * size, _PROT_NONE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        for half in (0, size):
            _mmap(
                self._address + half,
                size,
                mmap.PROT_READ | mmap.PROT_WRITE,
                mmap.MAP_SHARED | _MAP_FIXED,
                fd,
                offset,
            )
        self.buffer = memoryview((ctypes.c_char * (2 * size)).from_address(self._address)).cast("B")

    def close(self) -> None:
        """Unmap; every view of `buffer` is invalid afterwards."""
        if self._address:
            _libc.munmap(self._address, 2 * self.size)
            self._address = 0


def _mmap(address: int | None, size: int, protection: int, flags: int, fd: int, offset: int) -> int:
    result = _libc.mmap(address, size, protection, flags, fd, offset)
    if result == _FAILED or result is None:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return int(result)
