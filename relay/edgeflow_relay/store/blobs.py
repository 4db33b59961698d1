"""Files of bundles by their SHA-256."""

from __future__ import annotations

import os
import re
from pathlib import Path

from edgeflow_proto.bundle import sha256

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Blobs:
    """A folder; a file in it is whole and what its name says."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        for leftover in folder.glob("*.tmp"):
            leftover.unlink()

    def put(self, data: bytes) -> str:
        """Store and return the digest; on disk when this returns."""
        digest = sha256(data)
        target = self._folder / digest
        if not target.exists():
            temporary = target.with_suffix(f".{os.getpid()}.tmp")
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(target)
        return digest

    def path(self, digest: str) -> Path | None:
        """Return where a blob lies, ``None`` for one that is not here."""
        target = self._folder / digest
        return target if _DIGEST.fullmatch(digest) and target.exists() else None
