"""A device that is asked for what it recorded, and for what it ran."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeflow_proto.bundle import MANIFEST_FILE, decode_manifest, sha256
from edgeflow_proto.event import wall_time
from edgeflow_proto.rows import CONTENT_TYPE, Rows, sequence
from edgeflow_tools.client import Server, quoted
from edgeflow_tools.stored import GONE, Gone
from edgeflow_tools.terminal import Failure

_PIPELINES = "/api/v1/pipelines/"


class Reached:
    """The device. Every call raises Failure. Bundles are put below `folder`."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._folder = folder

    def recorded(self) -> list[str]:
        """Return the pipelines of which something is recorded."""
        found: list[str] = self._server.get("/api/v1/recordings")["recordings"]
        return found

    def blocks(self, name: str, since_ns: float, until_ns: float) -> Iterator[Rows]:
        """Yield what is recorded of a pipeline, from where it is known what its steps remembered."""
        asked = {"since": since_ns, "until": until_ns}
        query = {word: wall_time(int(ns)) for word, ns in asked.items() if math.isfinite(ns)}
        with self._server.body(f"{_PIPELINES}{quoted(name)}/recording", CONTENT_TYPE, **query) as body:
            try:
                yield from sequence(body)
            except ValueError as error:
                raise Failure(f"{self._server.url}: {error}") from None

    def damaged(self, _name: str) -> int:
        """Return 0: what a device cannot read of its recording is in its log, and a hole in what it sends."""
        return False

    def events(self, name: str, kind: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the events of a pipeline, or those of one type, in CloudEvents form."""
        after, more = "", True
        while more:
            page = self._server.get("/api/v1/events", pipeline=name, type=kind, limit=1000, after=after)
            yield from page["events"]
            after, more = page["next"], page["more"]

    def bundle(self, name: str) -> Path:
        """Fetch the bundle that runs; return its folder. Its files are those that the manifest names."""
        running = [each["name"] for each in self._server.get("/api/v1/pipelines")["pipelines"]]
        if name not in running:
            raise Gone(f"{self._server.url}: the bundle that recorded '{name}' is not there: {GONE}")
        try:
            manifest = decode_manifest(self._file(name, MANIFEST_FILE))
        except ValueError as error:
            raise Failure(f"{self._server.url}: {error}") from None
        folder = self._folder / manifest.digest
        for path, entry in manifest.files.items():
            data = self._file(name, path)
            if sha256(data) != entry.digest:
                raise Failure(f"{self._server.url}: {path} is not what the manifest of '{name}' says")
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        (folder / MANIFEST_FILE).write_bytes(manifest.encode())
        return folder

    def _file(self, name: str, path: str) -> bytes:
        with self._server.body(f"{_PIPELINES}{quoted(name)}/files/{quoted(path)}", "*/*") as body:
            return body.read()

    def close(self) -> None:
        """Nothing is held open."""
