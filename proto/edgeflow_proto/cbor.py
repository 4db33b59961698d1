"""CBOR from anyone: what stands for far more than was sent is refused before anything is made of it.

A few bytes can refer to what came before them again and again, and whoever follows each of these references
walks and copies what no memory holds. Source: cbor.schmorp.de, value-sharing and stringref (tags 25 and 29).
"""

from __future__ import annotations

from typing import Any

from cbor2 import CBORTag

# The beginnings of a reference, its tag in one byte or in more; other bytes may look alike.
_MARKS = (b"\xd8\x19", b"\xd8\x1d", b"\x00\x19", b"\x00\x1d")


def check_written_out(content: Any, data: bytes) -> None:
    """Raise ValueError when what was read from `data` is larger than that once written out."""
    if any(mark in data for mark in _MARKS):
        _check_size(content, len(data))


def _check_size(content: Any, size: int) -> None:
    left, todo = size, [content]
    while todo:
        value = todo.pop()
        left -= 1 + (len(value) if isinstance(value, str | bytes) else 0)
        todo += _parts(value)
        if len(todo) > left:  # each of them takes a byte at least
            raise ValueError("it refers to parts of itself again and again")


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    return [value.value] if isinstance(value, CBORTag) else []
