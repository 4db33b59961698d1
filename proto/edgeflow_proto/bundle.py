"""The bundle: a pipeline file with all it needs, named by the digest of its manifest.

A manifest lists every file by SHA-256 and size and keeps the models' signatures, read where
the runtimes are, so that a relay without runtimes checks what the laptop checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

PIPELINE_FILE = "pipeline.yaml"
MANIFEST_FILE = "manifest.json"
MAX_FILES = 256
MAX_BYTES = 512 << 20


class Tensor(msgspec.Struct, frozen=True, omit_defaults=True):
    """One input or output of a model. `shape` has -1 where a dimension is free."""

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    scale: float = 0.0  # 0: not quantised; else real = scale * (stored - zero_point)
    zero_point: int = 0


class Signature(msgspec.Struct, frozen=True):
    """What a model takes and gives, in the model's own order."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class FileEntry(msgspec.Struct, frozen=True):
    """One file of a bundle: SHA-256 in lower-case hexadecimal, size in bytes."""

    digest: str
    size: int


class Manifest(msgspec.Struct, frozen=True):
    """What a bundle consists of; `files` always has ``pipeline.yaml``."""

    name: str
    files: dict[str, FileEntry]
    signatures: dict[str, Signature] = {}

    def encode(self) -> bytes:
        """Return the canonical form: JSON with sorted keys and no white space."""
        return msgspec.json.encode(self, order="deterministic")

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical form, in lower-case hexadecimal."""
        return sha256(self.encode())


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest; raises ValueError naming what is wrong with it."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise ValueError(f"manifest: {error}") from None
    for name in manifest.files:
        check_file_name(name)
    if PIPELINE_FILE not in manifest.files:
        raise ValueError(f"manifest: no {PIPELINE_FILE}")
    return manifest


def make_manifest(name: str, files: Mapping[str, bytes], signatures: Mapping[str, Signature]) -> Manifest:
    """Describe `files`; raises ValueError for a name that could leave the bundle or too much content."""
    for path in files:
        check_file_name(path)
    if len(files) > MAX_FILES or sum(map(len, files.values())) > MAX_BYTES:
        raise ValueError(f"a bundle holds at most {MAX_FILES} files and {MAX_BYTES >> 20} MiB")
    entries = {path: FileEntry(sha256(data), len(data)) for path, data in sorted(files.items())}
    return Manifest(name, entries, dict(sorted(signatures.items())))


def check_file_name(name: str) -> None:
    """Raise ValueError unless `name` is a plain relative path with forward slashes."""
    parts = name.split("/")
    if (
        not name
        or len(name) > 255
        or "\\" in name
        or "\0" in name
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise ValueError(f"not a file name a bundle may hold: {name!r}")
