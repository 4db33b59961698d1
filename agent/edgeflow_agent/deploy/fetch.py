"""Bundles from the relay: what is missing is fetched, what is here already is linked, all of it is verified.

``blobs/<sha256>.part`` grows as a blob arrives and is taken up where it ended; a blob is renamed to its
digest only when it has that digest and is on disk. A bundle is assembled under a hidden name in
``staging/`` and appears there whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

from edgeflow_agent.deploy.files import digest_of, matches, sync
from edgeflow_agent.store.budget import on_disk
from edgeflow_proto.bundle import MANIFEST_FILE, FileEntry, Manifest, decode_manifest

# Bytes, and the folder they come to lie in; raises OSError where there is no room.
Claim = Callable[[int, Path], contextlib.AbstractAsyncContextManager[None]]


class BlobSource(Protocol):
    """Where blobs come from."""

    def fetch(self, digest: str, offset: int) -> AsyncGenerator[bytes, None]:
        """Yield a blob from `offset` on; raises LookupError when there is no such blob or offset."""


class Fetcher:
    """Stages bundles below `store`, one at a time. `claim` has room made for what is to be written.

    A process that ends half-way leaves a hidden folder in ``staging/``, to be removed by the next one.
    """

    def __init__(self, store: Path, claim: Claim) -> None:
        self._claim = claim
        self._blobs = store / "blobs"
        self._staging = store / "staging"
        self._bundles = store / "bundles"

    async def stage(self, manifest: bytes, files: Manifest, source: BlobSource) -> Path:
        """Return a new folder below ``staging/`` with the bundle and its manifest.

        Raises whatever `source` raises, ValueError when a blob does not have its digest (it is dropped and
        may be fetched again), OSError when the disk is full or failing, and with EISDIR when the names cannot
        lie in one folder, which no other try changes.
        """
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._staging.mkdir(parents=True, exist_ok=True)
        present = await asyncio.to_thread(self._collect, files)
        missing = {e.digest: e for e in files.files.values() if e.digest not in present}
        sizes = [max(0, entry.size - self._part(entry)) for entry in missing.values()]
        keep = {entry.digest for entry in files.files.values()}
        async with self._room(on_disk([*sizes, len(manifest)]), keep):
            for entry in missing.values():
                present[entry.digest] = await self._fetch(entry, source)
            return await asyncio.to_thread(self._assemble, manifest, files, present)

    @contextlib.asynccontextmanager
    async def _room(self, needed: int, keep: set[str]) -> AsyncIterator[None]:
        """Have room for what is missing; where there is none, at the cost of what was fetched for others."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._claim(needed, self._blobs))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                await asyncio.to_thread(self.prune, keep)
                await stack.enter_async_context(self._claim(needed, self._blobs))
            yield

    def prune(self, keep: set[str]) -> None:
        """Drop fetched blobs but those in `keep`; files of admitted bundles are links and stay."""
        for path in self._blobs.glob("*"):
            if path.name.partition(".")[0] not in keep:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _collect(self, files: Manifest) -> dict[str, Path]:
        """Find which blobs are here, among the fetched ones and in admitted bundles, unharmed."""
        wanted = {entry.digest: entry for entry in files.files.values()}
        places = [(digest, self._blobs / digest) for digest in wanted]
        for path in self._bundles.glob(f"*/{MANIFEST_FILE}"):
            with contextlib.suppress(OSError, ValueError):
                for name, entry in decode_manifest(path.read_bytes()).files.items():
                    places.append((entry.digest, path.parent / name))
        present: dict[str, Path] = {}
        for digest, path in places:
            if digest in wanted and digest not in present and matches(path, wanted[digest]):
                present[digest] = path
        return present

    def _part(self, entry: FileEntry) -> int:
        """Return how many bytes of a blob are here already."""
        try:
            return (self._blobs / f"{entry.digest}.part").stat().st_size
        except OSError:
            return 0

    async def _fetch(self, entry: FileEntry, source: BlobSource) -> Path:
        part = self._blobs / f"{entry.digest}.part"
        offset = part.stat().st_size if part.exists() else 0
        if offset > entry.size:
            part.unlink()
            offset = 0
        if offset < entry.size or not offset:
            await self._receive(part, offset, entry, source)
        return await asyncio.to_thread(_verified, part, entry)

    async def _receive(self, part: Path, offset: int, entry: FileEntry, source: BlobSource) -> None:
        with part.open("ab") as file:
            chunks = source.fetch(entry.digest, offset)
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    offset += len(chunk)
                    if offset > entry.size:
                        break
                    await asyncio.to_thread(file.write, chunk)
        if offset != entry.size:
            if offset > entry.size:
                await asyncio.to_thread(part.unlink)
            raise ValueError(f"blob {entry.digest}: {offset} bytes came, {entry.size} were announced")

    def _assemble(self, manifest: bytes, files: Manifest, present: dict[str, Path]) -> Path:
        name = uuid.uuid4().hex
        hidden = self._staging / f".{name}"
        try:
            for path, entry in files.files.items():
                target = hidden / path
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(present[entry.digest], target)
            (hidden / MANIFEST_FILE).write_bytes(manifest)
            return hidden.rename(self._staging / name)
        except OSError as error:
            shutil.rmtree(hidden, ignore_errors=True)
            if isinstance(error, FileExistsError | IsADirectoryError | NotADirectoryError):
                name = Path(str(error.filename)).name
                raise OSError(errno.EISDIR, f"{name} of the bundle is a file and a folder at once") from None
            raise


def _verified(part: Path, entry: FileEntry) -> Path:
    """Give a complete part its name; raises ValueError, and drops it, when it has another digest."""
    if digest_of(part) != entry.digest:
        part.unlink()
        raise ValueError(f"blob {entry.digest}: what came has another digest")
    sync(part)
    target = part.rename(part.with_suffix(""))
    sync(target.parent)
    return target


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:  # a file system without hard links, or too many of them
        if error.errno == errno.ENOSPC:
            raise
        shutil.copyfile(source, target)
