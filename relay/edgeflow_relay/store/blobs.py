"""Blobs: the files of bundles, each named by its SHA-256, in a folder."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable
from pathlib import Path

from edgeflow_proto.bundle import sha256

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Blobs:
    """A file that has its name is whole and on disk. Everything here blocks: call it in a thread."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, and drop what was being written when the relay died; raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        for left in folder.glob("*.tmp"):
            left.unlink()

    def path(self, digest: str) -> Path | None:
        """Return where a blob lies, ``None`` when there is none of that digest."""
        path = self._folder / digest
        return path if _DIGEST.fullmatch(digest) and path.is_file() else None

    def read(self, digest: str) -> bytes:
        """Return a blob; raises OSError."""
        return (self._folder / digest).read_bytes()

    def keep(self, blobs: Iterable[bytes]) -> None:
        """Store blobs; they are on disk when this returns. Raises OSError when the disk refuses."""
        for data in blobs:
            self._keep(data)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _keep(self, data: bytes) -> None:
        target = self._folder / sha256(data)
        if target.is_file() and sha256(target.read_bytes()) == target.name:
            return  # one that was damaged is mended by sending it again
        temporary = self._folder / f"{uuid.uuid4().hex}.tmp"
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(target)
        finally:
            temporary.unlink(missing_ok=True)
