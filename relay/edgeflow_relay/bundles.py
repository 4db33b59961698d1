"""Uploads: what is sent becomes a bundle, checked as on the laptop."""

from __future__ import annotations

from collections.abc import Mapping

from edgeflow_proto import archive
from edgeflow_proto.bundle import MANIFEST_FILE, PIPELINE_FILE, Manifest, decode_manifest, make_manifest
from edgeflow_proto.pipeline.check import graph_of

SINGLE = ("application/yaml", "application/x-yaml", "text/yaml", "application/json", "text/plain")


class UploadError(ValueError):
    """An upload is not a bundle; `status` is the HTTP status to answer with."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(what)
        self.status = status


class _Memory:
    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def read(self, name: str) -> bytes | None:
        return self._files.get(name)


def files_of(body: bytes, content_type: str) -> dict[str, bytes]:
    """Return the files of an upload: a tar, or a single pipeline file. Raises UploadError."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in SINGLE:
        return {PIPELINE_FILE: body}
    if kind != archive.CONTENT_TYPE:
        raise UploadError(
            415, f"content type {kind or 'missing'}: send {archive.CONTENT_TYPE} or {SINGLE[0]}"
        )
    try:
        return archive.unpack(body)
    except ValueError as error:
        raise UploadError(400, str(error)) from None


def checked(name: str, files: dict[str, bytes]) -> tuple[Manifest, dict[str, bytes]]:
    """Return manifest and files of a bundle without mistakes.

    Raises UploadError, or Rejected with every problem of the pipeline file.
    """
    sent = files.pop(MANIFEST_FILE, None)
    if PIPELINE_FILE not in files:
        raise UploadError(400, f"no {PIPELINE_FILE} in the bundle")
    try:
        signatures = decode_manifest(sent).signatures if sent is not None else {}
        graph = graph_of(files[PIPELINE_FILE], PIPELINE_FILE, _Memory(files), signatures)
        manifest = make_manifest(graph.name, files, signatures)
    except ValueError as error:
        if hasattr(error, "problems"):
            raise
        raise UploadError(400, str(error)) from None
    if graph.name != name:
        raise UploadError(400, f"the pipeline is named {graph.name!r}, not {name!r}")
    if sent is not None and decode_manifest(sent).files != manifest.files:
        raise UploadError(400, f"{MANIFEST_FILE} does not describe these files")
    return manifest, files
