"""An unpacked bundle in its folder: the graph it holds and the digests that name it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeflow_proto.bundle import MANIFEST_FILE, PIPELINE_FILE, Manifest, decode_manifest
from edgeflow_proto.pipeline.check import graph_of
from edgeflow_proto.pipeline.graph import Graph


class Folder:
    """The files of a folder (port `edgeflow_proto.pipeline.kinds.base.Files`)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or ``None`` when there is no such file."""
        try:
            return (self._path / name).read_bytes()
        except (OSError, ValueError):
            return None


class Bundle:
    """A bundle that was admitted: its manifest is beside its files."""

    def __init__(self, folder: Path, params: dict[str, Any]) -> None:
        """Read it; raises Rejected, ValueError or OSError when it is not what was admitted."""
        self.folder = folder
        self.manifest: Manifest = decode_manifest((folder / MANIFEST_FILE).read_bytes())
        text = (folder / PIPELINE_FILE).read_bytes()
        self.graph: Graph = graph_of(text, PIPELINE_FILE, Folder(folder), self.manifest.signatures, params)

    @property
    def models(self) -> dict[str, str]:
        """SHA-256 of each model step's file."""
        files = {name: getattr(node.options, "file", None) for name, node in self.graph.steps.items()}
        entries = self.manifest.files
        return {step: entries[file].digest for step, file in files.items() if file in entries}
