"""The bundle: a pipeline file with all it needs, named by the digest of its manifest.

A manifest lists every file by SHA-256 and size and keeps the models' signatures, read where
the runtimes are, so that a relay without runtimes checks what the laptop checked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

import msgspec

PIPELINE_FILE = "pipeline.yaml"
MANIFEST_FILE = "manifest.json"
MAX_FILES = 256
MAX_BYTES = 512 << 20
PIPELINE_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


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
        return msgspec.json.encode(self, order="sorted")

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
    except RecursionError:
        raise ValueError("manifest: it is nested too deeply") from None
    _check_manifest(manifest)
    return manifest


def make_manifest(name: str, files: Mapping[str, bytes], signatures: Mapping[str, Signature]) -> Manifest:
    """Describe `files`; raises ValueError for a name that could leave the bundle or too much content."""
    entries = {path: FileEntry(sha256(data), len(data)) for path, data in sorted(files.items())}
    manifest = Manifest(name, entries, dict(sorted(signatures.items())))
    _check_manifest(manifest)
    return manifest


def _check_manifest(manifest: Manifest) -> None:
    """Raise ValueError for what could leave the bundle's folder, fill the disk or not be unpacked."""
    if not PIPELINE_NAME.fullmatch(manifest.name):
        raise ValueError(f"manifest: not a pipeline's name: {manifest.name!r}")
    if PIPELINE_FILE not in manifest.files:
        raise ValueError(f"manifest: no {PIPELINE_FILE}")
    for name, entry in manifest.files.items():
        _check_listed(name)
        if not _DIGEST.fullmatch(entry.digest) or entry.size < 0:
            raise ValueError(f"manifest: {name} has no proper digest and size")
    check_amount(len(manifest.files), sum(entry.size for entry in manifest.files.values()))
    for folder in {name[:i] for name in manifest.files for i, char in enumerate(name) if char == "/"}:
        if folder in manifest.files:
            raise ValueError(f"manifest: {folder} is both a file and a folder")


def _check_listed(name: str) -> None:
    check_file_name(name)
    check_reserved(name)
    if left_out(name):
        raise ValueError(f"manifest: {name!r} is hidden or of a cache of Python, which no bundle holds")
    if name == MANIFEST_FILE:
        raise ValueError(f"manifest: it lists {name}, which is itself")


def left_out(name: str) -> bool:
    """Say whether a file stays out of a bundle wherever one is made: hidden, or of a cache of Python."""
    return any(part.startswith((".", "__pycache__")) for part in name.split("/"))


def check_reserved(name: str) -> None:
    """Raise ValueError for a file in a folder called as the manifest is, which lies beside the files."""
    if name.startswith(f"{MANIFEST_FILE}/"):
        what = f"{MANIFEST_FILE} is the name of the bundle's manifest, not of a folder"
        raise ValueError(f"{name[:300]!r}: {what}")


def check_amount(files: int, size: int) -> None:
    """Raise ValueError for more files, or more bytes in them, than a bundle may hold."""
    if files > MAX_FILES or size > MAX_BYTES:
        raise ValueError(f"a bundle holds at most {MAX_FILES} files and {MAX_BYTES >> 20} MiB")


def check_file_name(name: str) -> None:
    """Raise ValueError unless `name` is a plain relative path with forward slashes."""
    plain = name.isprintable() and "\\" not in name and len(name.encode("utf-8", "replace")) <= 255
    if not plain or any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(f"not a file name a bundle may hold: {name[:300]!r}")
