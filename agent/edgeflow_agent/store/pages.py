"""The pages of an LMDB file, checked before LMDB touches them.

LMDB takes what is on the disk on trust: over a page that flash has lost it ends the process (an assertion, or
a signal), at each start again. This walks all that a reader or writer can come to, by reading and not through
a map, so that a disk that fails is an error, too. What is in the values is not looked at.
Source: LMDB 0.9, ``mdb.c``: MDB_page, MDB_meta, MDB_db, MDB_node (64-bit, little-endian, data version 1).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import lmdb

MAGIC, VERSION = 0xBEEFC0DE, 1
_HEADER = 16
_PAGE = struct.Struct("<QHHHH")  # number, padding, flags, lower, upper
_META = struct.Struct("<IIQQ")  # magic, version, address, map size
_TREE = struct.Struct("<IHHQQQQQ")  # padding, flags, depth, branch, leaf and overflow pages, entries, root
_NODE = struct.Struct("<HHHH")  # size of the data or page in three parts, size of the key
_LAST = struct.Struct("<QQ")  # last page, transaction
_BRANCH, _LEAF, _OVERFLOW, _IS_META = 1, 2, 4, 8  # kinds of pages
_BIG, _TREE_NODE = 1, 2
_NO_PAGE = (1 << 64) - 1
_INTEGER_KEYS = 0x08
_SMALLEST = 4096  # of a page


class DamagedError(lmdb.CorruptedError):
    """A file that LMDB must not be given; the message says what is wrong, and on which page."""


class _Tree(NamedTuple):
    padding: int
    flags: int
    depth: int
    branches: int
    leaves: int
    overflows: int
    entries: int
    root: int


class _Meta(NamedTuple):
    page_bytes: int
    free: _Tree
    main: _Tree
    last: int
    transaction: int


def check(path: Path) -> None:
    """Raise DamagedError where the file is no sound LMDB environment, OSError where it cannot be read.

    One that is being written to is checked as it was at one of its transactions.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(fd)
    finally:
        os.close(fd)


def _check(fd: int) -> None:
    meta = _newest(fd)
    while meta is not None:
        try:
            _Walk(fd, meta).run()
        except DamagedError:
            before, meta = meta, _newest(fd)
            if meta == before:
                raise
        else:
            return


def _newest(fd: int) -> _Meta | None:
    """Return the newest of the two meta pages, ``None`` where nothing was ever written."""
    size = os.fstat(fd).st_size
    if not size:
        return None
    first = _meta(fd, 0, 0)
    found = [first, _meta(fd, 1, first.page_bytes)]
    return max(found, key=lambda meta: meta.transaction)


def _meta(fd: int, number: int, at: int) -> _Meta:
    data = os.pread(fd, _SMALLEST, at)
    if len(data) < _HEADER + _META.size + 2 * _TREE.size + _LAST.size:
        raise DamagedError("the file is cut off")
    found, _, flags, _, _ = _PAGE.unpack_from(data)
    magic, version, _, _ = _META.unpack_from(data, _HEADER)
    if (found, flags & _IS_META, magic, version & 0xFFFF) != (number, _IS_META, MAGIC, VERSION):
        raise DamagedError(f"page {number} is not the beginning of such a file")
    start = _HEADER + _META.size
    free, main = (_Tree(*_TREE.unpack_from(data, start + place * _TREE.size)) for place in (0, 1))
    return _Meta(free.padding, free, main, *_LAST.unpack_from(data, start + 2 * _TREE.size))


class _Walk:
    """One way through all pages that a meta page leads to."""

    def __init__(self, fd: int, meta: _Meta) -> None:
        self._fd, self._meta = fd, meta
        self._size = os.fstat(fd).st_size
        self._bytes = meta.page_bytes
        self._seen: set[int] = set()
        self._counts = [0, 0, 0, 0]  # branch, leaf and overflow pages, entries of a tree

    def run(self) -> None:
        """Walk both trees, and those named in the main one."""
        size = self._bytes
        if size < _SMALLEST or size & (size - 1):
            raise DamagedError(f"pages of {size} bytes")
        self._tree(self._meta.free)
        named = self._tree(self._meta.main)
        while named:
            named += self._tree(named.pop())

    def _tree(self, tree: _Tree) -> list[_Tree]:
        """Walk a tree; return those whose roots are in it."""
        self._counts = [0, 0, 0, 0]
        found: list[_Tree] = []
        todo = [(tree.root, 1)] if tree.root != _NO_PAGE else []
        while todo:
            number, depth = todo.pop()
            data, branch = self._page(number, last=depth == tree.depth)
            ordered = not tree.flags & _INTEGER_KEYS
            for node in self._nodes(number, data, branch=branch, ordered=ordered):
                if branch:
                    todo.append((node, depth + 1))
                else:
                    found += self._leaf(number, data, node)
        if tuple(self._counts) != tree[3:7]:
            raise DamagedError(f"a tree has {self._counts} pages and entries, it says {list(tree[3:7])}")
        return found

    def _page(self, number: int, *, last: bool) -> tuple[bytes, bool]:
        """Read a page of a tree; return it, and whether it is a branch."""
        data = self._read(number)
        _, _, flags, lower, upper = _PAGE.unpack_from(data)
        kind = flags & (_BRANCH | _LEAF | _OVERFLOW | _IS_META)
        fits = _HEADER <= lower <= upper <= self._bytes and not lower % 2
        if kind != (_LEAF if last else _BRANCH) or not fits:
            raise DamagedError(f"page {number} is no {'leaf' if last else 'branch'}")
        self._counts[1 if last else 0] += 1
        return data, not last

    def _read(self, number: int) -> bytes:
        if not 2 <= number <= self._meta.last or number in self._seen:
            raise DamagedError(f"a way leads to page {number}, which cannot be there")
        self._seen.add(number)
        data = os.pread(self._fd, self._bytes, number * self._bytes)
        if len(data) < self._bytes or _PAGE.unpack_from(data)[0] != number:
            raise DamagedError(f"page {number} is lost")
        return data

    def _nodes(self, number: int, data: bytes, *, branch: bool, ordered: bool) -> Iterator[int]:
        """Yield the pages that a branch leads to, or where the nodes of a leaf are."""
        _, _, _, lower, upper = _PAGE.unpack_from(data)
        before: bytes | None = None
        for place, at in enumerate(memoryview(data)[_HEADER:lower].cast("H")):
            if not upper <= at <= self._bytes - _NODE.size:
                raise DamagedError(f"page {number}: node {place} is not in it")
            low, middle, high, size = _NODE.unpack_from(data, at)
            key = data[at + _NODE.size : at + _NODE.size + size]
            if len(key) < size or (ordered and before is not None and place > branch and key <= before):
                raise DamagedError(f"page {number}: the key of node {place} is not where it belongs")
            before = key
            yield low | middle << 16 | high << 32 if branch else at

    def _leaf(self, number: int, data: bytes, at: int) -> list[_Tree]:
        """Check what a node of a leaf holds; return the tree whose root it is, if it is one."""
        low, high, flags, size = _NODE.unpack_from(data, at)
        start, length = at + _NODE.size + size, low | high << 16
        self._counts[3] += 1
        if start + (8 if flags & _BIG else length) > self._bytes:
            raise DamagedError(f"page {number}: a value is not in it")
        if flags & _BIG:
            self._value(int.from_bytes(data[start : start + 8], "little"), length)
        if not flags & _TREE_NODE:
            return []
        if length != _TREE.size:
            raise DamagedError(f"page {number}: a tree of {length} bytes")
        return [_Tree(*_TREE.unpack_from(data, start))]

    def _value(self, number: int, length: int) -> None:
        """Check the pages of a value that has some of its own."""
        head = os.pread(self._fd, _HEADER, number * self._bytes) if number <= self._meta.last else b""
        if len(head) < _HEADER:
            raise DamagedError(f"a value is on page {number}, which cannot be there")
        found, _, flags, low, high = _PAGE.unpack(head)
        pages = low | high << 16
        end = (number + pages) * self._bytes
        enough = _HEADER + length <= pages * self._bytes and end <= self._size
        if found != number or not flags & _OVERFLOW or not enough:
            raise DamagedError(f"page {number} does not hold the value that is said to be there")
        self._counts[2] += pages
