"""Bundles on the wire: a tar (POSIX.1-2001, ustar) of regular files, the same bytes for the same files."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

from edgeflow_proto.bundle import MAX_BYTES, MAX_FILES, check_file_name

CONTENT_TYPE = "application/x-tar"


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return a tar of `files`; raises ValueError for a name that could leave the folder it is unpacked to."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(files.items()):
            check_file_name(name)
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def unpack(data: bytes) -> dict[str, bytes]:
    """Return the files of a tar by name; raises ValueError for anything but plain files with plain names.

    Compressed tars are refused, so that nothing grows beyond its own size while it is read.
    """
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for info in tar:
                _take(tar, info, files)
    except (tarfile.TarError, EOFError, UnicodeError, OverflowError) as error:
        raise ValueError(f"not a tar: {error}") from None
    if not files:
        raise ValueError("the tar holds no file")
    return files


def _take(tar: tarfile.TarFile, info: tarfile.TarInfo, files: dict[str, bytes]) -> None:
    if info.isdir():
        return
    name = info.name.removeprefix("./")
    check_file_name(name)
    if not info.isreg() or info.issparse():
        raise ValueError(f"not a plain file: {name!r}")
    if name in files:
        raise ValueError(f"a file is there twice: {name!r}")
    if len(files) >= MAX_FILES or sum(map(len, files.values())) + info.size > MAX_BYTES:
        raise ValueError(f"a bundle holds at most {MAX_FILES} files and {MAX_BYTES >> 20} MiB")
    member = tar.extractfile(info)
    content = member.read() if member is not None else b""
    if len(content) != info.size:
        raise ValueError(f"cut short: {name!r}")
    files[name] = content
