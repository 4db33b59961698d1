"""Log files: one writer per name, pieces of bounded size, all names of a folder together within a share.

A file of a name is a row of numbered pieces, ``io.7.jsonl``. Lines are only ever appended to the newest, and
a piece never changes its name: a reader that knows how far it has read a piece can go on from there. Whoever
begins a piece makes room for it first. The share holds however many processes write at once, because every
newest piece counts as if it were full, and a new one stays empty until the count has been seen to fit.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PIECES = 256  # of a share; there are at most half as many processes
MIN_BYTES = 4 << 20  # a share in which a piece takes any line
MAX_LINE = 8 << 10  # bytes
MAX_WAITING = 100  # lines
_UNIT = 4096  # sizes come out as whole pages, so that what a full piece takes on disk is no more
_NAME = re.compile(r"([A-Za-z0-9_.-]+)\.(\d{1,12})\.jsonl")
_LAST = 9 * 10**11  # of what is counted on from; higher ones are somebody else's


class Piece(NamedTuple):
    """One file: whose it is, which of them, and how it lies on the disk."""

    name: str
    number: int
    path: Path
    allocated: int  # bytes
    changed: int  # wall time of its last change, ns: it only breaks ties


def pieces(folder: Path) -> list[Piece]:
    """Return all pieces in a folder, by name and number; none where there is no such folder."""
    return sorted(_pieces(folder))


def _pieces(folder: Path) -> Iterator[Piece]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        match = _NAME.fullmatch(entry.name)
        if match is None or int(match[2]) > _LAST or not entry.is_file(follow_symlinks=False):
            continue
        with contextlib.suppress(OSError):  # it has just gone
            found = entry.stat(follow_symlinks=False)
            number, allocated = int(match[2]), found.st_blocks * 512
            yield Piece(match[1], number, folder / entry.name, allocated, found.st_mtime_ns)


class LogFile:
    """The writing end of one name. Nothing here raises: what the disk refuses waits, up to a bound."""

    def __init__(self, folder: Path, name: str, share: int) -> None:
        """`share` is what all names in the folder may take together, in bytes; at least `MIN_BYTES`."""
        self._folder = folder
        self._name = name
        self._share = share
        self._piece = share // PIECES // _UNIT * _UNIT
        self._waiting: deque[bytes] = deque()
        self._number = max((each.number for each in pieces(folder) if each.name == name), default=0)
        self.lost = 0  # lines
        self.error = ""

    def append(self, line: bytes) -> None:
        """Append a line of at most `MAX_LINE` bytes, its end included, behind those that still wait.

        While the disk refuses, the newest `MAX_WAITING` wait; each call tries again.
        """
        self._waiting.append(line)
        try:
            self._write()
            self.error = ""
        except OSError as error:
            self.error = error.strerror or str(error)
        while len(self._waiting) > MAX_WAITING:
            self._waiting.popleft()
            self.lost += 1

    def _write(self) -> None:
        """Write what waits. The file is opened each time, so that it may be gone, or back, at any time."""
        while self._waiting:
            try:
                fd = os.open(self._path(self._number), os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            except FileNotFoundError:
                self._begin()
                continue
            try:
                self._fill(fd)
            finally:
                os.close(fd)
            if self._waiting:
                self._begin()

    def _fill(self, fd: int) -> None:
        """Write lines that wait, as many as there is room for in the piece."""
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":  # the power went while it was written
            size += os.write(fd, b"\n")
        while self._waiting and (not size or size + len(self._waiting[0]) <= self._piece):
            line = self._waiting[0]
            if os.write(fd, line) < len(line):  # a part of a line is of no use
                os.ftruncate(fd, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            size += len(line)
            self._waiting.popleft()

    def _begin(self) -> None:
        """Begin the next piece; raises OSError where the disk refuses."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(self._number + 1)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        self._make_room(path)
        self._number += 1

    def _make_room(self, mine: Path) -> None:
        """Remove pieces while all together could outgrow the share: the oldest of whose there is most."""
        while True:
            found = pieces(self._folder)
            newest = {each.name: each.number for each in found}
            sizes = {each: self._size(each, newest) for each in found}
            others = [each for each in found if each.path != mine]
            if sum(sizes.values()) <= self._share or not others:
                return
            _victim(others, sizes).path.unlink(missing_ok=True)

    def _size(self, piece: Piece, newest: dict[str, int]) -> int:
        growing = newest[piece.name] == piece.number
        return max(piece.allocated, self._piece) if growing else piece.allocated

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._name}.{number}.jsonl"


def _victim(candidates: list[Piece], sizes: dict[Piece, int]) -> Piece:
    """Return the oldest piece of the name that takes most; among equals, what was written to longest ago."""
    totals: dict[str, int] = {}
    for piece, size in sizes.items():
        totals[piece.name] = totals.get(piece.name, 0) + size
    oldest: dict[str, Piece] = {}
    for piece in candidates:
        oldest.setdefault(piece.name, piece)
    return max(oldest.values(), key=lambda piece: (totals[piece.name], -piece.changed))
