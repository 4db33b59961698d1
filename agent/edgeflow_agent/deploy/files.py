"""The files of a bundle on a disk: which there are, whether they are unharmed, how they are copied."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from edgeflow_proto.bundle import MAX_FILES, PIPELINE_FILE, FileEntry, check_amount, left_out

PIECE = 4 << 20


class File(NamedTuple):
    """A file that belongs to a bundle: where it lies, and its name there."""

    path: Path
    name: str
    size: int
    changed_ns: int


def listed(path: Path) -> list[File]:
    """Return the files of the bundle that a folder, or a single document, holds; links are followed.

    Hidden files and caches of Python belong to none. Raises ValueError for more than a bundle may hold, and
    OSError for what is no file, or is a link to a folder that it lies in.
    """
    if path.is_dir():
        names = [entry.relative_to(path).as_posix() for entry in islice(_below(path, ()), MAX_FILES + 1)]
        files = [_file(path / name, name) for name in names]
    else:
        files = [_file(path, PIPELINE_FILE)]
    check_amount(len(files), sum(file.size for file in files))
    return sorted(files)


def _below(folder: Path, within: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    found = folder.stat()
    here = (found.st_dev, found.st_ino)
    if here in within:
        raise OSError(errno.ELOOP, "a link to a folder that it lies in", str(folder))
    for entry in sorted(folder.iterdir()):
        if left_out(entry.name):
            continue
        if entry.is_dir():
            yield from _below(entry, (*within, here))
        else:
            yield entry


def _file(path: Path, name: str) -> File:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "neither a file nor a folder", str(path))
    return File(path, name, found.st_size, found.st_mtime_ns)


def fingerprint(files: Sequence[File]) -> str:
    """Return a digest of names, sizes and times: changes when a file may have changed."""
    lines = [f"{file.name} {file.size} {file.changed_ns}" for file in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def copy(files: Sequence[File], target: Path) -> None:
    """Copy files into a folder; raises OSError, also where one has grown: nobody has room for more."""
    for file in files:
        place = target / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        _copy(file, place)


def _copy(file: File, place: Path) -> None:
    """Copy a file, each piece onto the disk before the next: no commit elsewhere has to wait for all."""
    left = file.size
    with file.path.open("rb", buffering=0) as source, place.open("wb") as out:
        while piece := source.read(PIECE):
            left -= len(piece)
            if left < 0:
                raise OSError(errno.EBUSY, "it grows while it is copied", str(file.path))
            out.write(piece)
            out.flush()
            os.fdatasync(out.fileno())


def matches(path: Path, entry: FileEntry) -> bool:
    """Say whether a file is there and has the digest, whatever became of the disk since it was written."""
    try:
        return path.stat().st_size == entry.size and digest_of(path) == entry.digest
    except OSError:
        return False


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(*paths: Path) -> None:
    """Make files, or the names in folders, durable."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
