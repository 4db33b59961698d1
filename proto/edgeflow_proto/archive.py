"""Bundles as one tar file: what uploads carry.

The same files give the same bytes. Reading takes files and nothing else, and believes no size and no name:
the file may come from anyone. It walks the headers itself, because the library's own walk follows sparse
files of any claimed size, recurses from header to header and goes back where a size is negative.
Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar's long names.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from edgeflow_proto.bundle import MAX_FILES, check_amount, check_file_name, check_reserved, left_out

CONTENT_TYPE = "application/x-tar"

_BLOCK = tarfile.BLOCKSIZE
_MAX_HEADER = 64 << 10  # of a name or of extended attributes
_MAX_MEMBERS = 8 * MAX_FILES  # with folders and extended headers
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME)


class _Member(NamedTuple):
    name: str
    kind: bytes
    data: bytes


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return `files` as a tar; raises ValueError for a name that `unpack` would refuse."""
    _check_names(files)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def unpack(data: bytes) -> dict[str, bytes]:
    """Return the files of a tar by name; folders hold nothing, and all else is refused.

    What is hidden or of a cache of Python is left out, whatever it is.
    Raises ValueError for what is not a tar, for links, devices and sparse files, for names that could leave
    the bundle or stand for two things, and for more than a bundle may hold.
    """
    files: dict[str, bytes] = {}
    size = 0
    for member in _members(data):
        if member.kind == tarfile.DIRTYPE:
            continue
        check_file_name(member.name)
        if left_out(member.name):
            continue
        if member.kind not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise ValueError(f"{member.name[:100]!r} is not a regular file")
        if member.name in files:
            raise ValueError(f"{member.name[:100]!r} is there twice")
        size += len(member.data)
        files[member.name] = member.data
        check_amount(len(files), size)
    _check_names(files)
    return files


def _check_names(files: Mapping[str, bytes]) -> None:
    for name in files:
        check_file_name(name)
        check_reserved(name)
        name.encode()  # half a surrogate pair is no text
        parts = name.split("/")
        folders = ("/".join(parts[:count]) for count in range(1, len(parts)))
        clash = next((folder for folder in folders if folder in files), None)
        if clash is not None:
            raise ValueError(f"{clash[:100]!r} is both a file and a folder")


def _members(data: bytes) -> Iterator[_Member]:
    """Yield files, folders and whatever else there is, under the names that extended headers give them."""
    longer: dict[str, str] = {}
    for info, content in _headers(data):
        if info.type not in _EXTENDED:
            name = longer.pop("path", info.name).removeprefix("./").rstrip("/")
            if longer:
                raise ValueError(f"{name[:100]!r}: cannot read a file with {', '.join(sorted(longer))}")
            yield _Member(name, info.type, content)
        elif info.type == tarfile.GNUTYPE_LONGNAME:
            longer = {"path": content.rstrip(b"\0").decode()}
        elif info.type == tarfile.XHDTYPE:
            longer = dict(_attributes(content))


def _headers(data: bytes) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Yield each header with the bytes behind it; raises ValueError unless both are whole."""
    at = count = 0
    while (block := data[at : at + _BLOCK]).strip(b"\0"):
        count += 1
        info = _header(block)
        room = len(data) - at - _BLOCK
        if not 0 <= info.size <= room or (info.type in _EXTENDED and info.size > _MAX_HEADER):
            raise ValueError(f"{info.name[:100]!r} says it has {info.size} bytes; {room} are there")
        if count > _MAX_MEMBERS:
            raise ValueError(f"more than {_MAX_MEMBERS} entries")
        start = at + _BLOCK
        yield info, data[start : start + info.size]
        at = start + -(-info.size // _BLOCK) * _BLOCK
    if not count and len(block) < _BLOCK:
        raise ValueError("not a tar file: it is empty")


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError) as error:
        raise ValueError(f"not a tar file: {error}") from None


def _attributes(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield the attributes that change what a file is: each is ``length key=value`` and a line feed."""
    while content:
        length, _, _ = content.partition(b" ")
        size = int(length) if length.isdigit() and len(length) < 8 else 0
        key, equals, value = content[len(length) + 1 : size - 1].partition(b"=")
        if not equals or content[size - 1 : size] != b"\n":
            raise ValueError("not a tar file: a damaged extended header")
        name = key.decode()
        if name in ("path", "size") or name.startswith("GNU.sparse"):
            yield name, value.decode()
        content = content[size:]
