"""A disk that writes down what it is asked, in order: a FUSE file system of two files, in its own process.

`disk` is a disk's content, for a loop device: each write and each flush is one record of the log. A flush is
what fsync, a barrier of the file system and a forced write become on their way down. What is written to
`told` is a record too: what somebody outside has been told so far.
Run as ``python -m tests.support.power.disk IMAGE LOG MOUNTPOINT``; it ends when it is unmounted.
Source: fuse(4); Linux, Documentation/block/writeback_cache_control.rst.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import sys
from pathlib import Path

import mfusepy

from tests.support.power.log import FLUSH, TOLD, WRITE, record

DISK, TOLD_FILE = "/disk", "/told"


class Disk(mfusepy.Operations):
    """One thread serves it, so the log's order is the order of the answers."""

    use_ns = True

    def __init__(self, image: Path, log: Path) -> None:
        with image.open("r+b") as file:
            self._content = mmap.mmap(file.fileno(), 0)
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
        if path not in (DISK, TOLD_FILE):
            raise mfusepy.FuseOSError(errno.ENOENT)
        size = len(self._content) if path == DISK else 0
        return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": size}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", DISK[1:], TOLD_FILE[1:]]

    def open(self, path: str, flags: int) -> int:
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return self._content[offset : offset + size] if path == DISK else b""

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        if path == TOLD_FILE:
            self._append(record(TOLD, 0, data))
            return len(data)
        self._append(record(WRITE, offset, data))
        self._content[offset : offset + len(data)] = data
        return len(data)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._append(record(FLUSH))
        return 0

    def _append(self, data: bytes) -> None:
        if os.write(self._log, data) != len(data):
            raise mfusepy.FuseOSError(errno.ENOSPC)


def main() -> None:
    image, log, mountpoint = sys.argv[1:]
    disk = Disk(Path(image), Path(log))
    mfusepy.FUSE(disk, mountpoint, foreground=True, nothreads=True, direct_io=True, fsname="power-cuts")


if __name__ == "__main__":
    main()
