"""LMDB environments on disks that fill up and fail.

A commit whose last page the disk refuses leaves an environment that refuses everything from then on
(``MDB_PANIC``), the disk mended or not: it has to be opened again. Source: LMDB (symas.com/lmdb),
`mdb_txn_commit` and "Caveats".
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

import lmdb

from edgeflow_agent.store import pages

DATA = "data.mdb"
LOCK = "-lock"  # LMDB appends it to an environment that is one file
DAMAGE = (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError, lmdb.PageNotFoundError)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_LOCK_BYTES = 1 << 13  # more than what LMDB keeps there for 32 readers


def opened(path: Path, *, subdir: bool = True, sound: bool = False, **options: Any) -> lmdb.Environment:
    """Open an environment, in a folder or as one file; raises lmdb.Error (one of `DAMAGE`) or OSError.

    Its pages are checked before, unless they are known to be `sound`. Its lock file is given its room before:
    LMDB writes there through a map, and where the disk has no room for that the kernel kills the process
    (SIGBUS). Who reads where that file may not be written does without: a writer does not know of it then,
    and may take pages anew that a transaction of seconds still reads.
    """
    if not sound:
        with contextlib.suppress(FileNotFoundError):
            pages.check(path / DATA if subdir else path)
    _allocate(path / "lock.mdb" if subdir else Path(f"{path}{LOCK}"))
    try:
        return lmdb.open(str(path), subdir=subdir, **options)
    except lmdb.ReadonlyError:
        if not options.get("readonly"):
            raise
    return lmdb.open(str(path), subdir=subdir, lock=False, **options)


def _allocate(lock: Path) -> None:
    """Give a lock file its room; one that has some is not touched, for closing it would end its locks."""
    with contextlib.suppress(FileNotFoundError):
        if lock.stat().st_blocks:
            return
    try:
        with lock.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, _LOCK_BYTES)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise  # of anything else LMDB says what it matters


def used_bytes(env: lmdb.Environment) -> int:
    """Return how long the file of an environment is, or should be."""
    return int((env.info()["last_pgno"] + 1) * env.stat()["psize"])
