"""What a power cut at any place of a disk's log leaves on the disk.

What was written before the last flush that was answered is there. Of what was written after it, a disk may
have kept any part, in any order, down to single sectors: it holds back, orders and merges what it is given.
Source: Pillai et al., "All File Systems Are Not Created Equal" (OSDI 2014); Mohan et al., "Finding
Crash-Consistency Bugs with Bounded Black-Box Crash Testing" (OSDI 2018).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tests.support.power.log import FLUSH, TOLD, WRITE, Record

Keep = Literal["nothing", "everything", "the first", "any writes", "any pages", "any sectors"]
KEEPS: tuple[Keep, ...] = ("nothing", "everything", "the first", "any writes", "any pages", "any sectors")
_GRAIN = {"any pages": 4096, "any sectors": 512}  # bytes that a drive writes whole or not at all


@dataclass(frozen=True)
class Cut:
    """A cut before entry number `at` of a log, and what the drive keeps of what no flush covers."""

    at: int
    keep: Keep
    seed: int


def drawn(records: list[Record], count: int, seed: int) -> list[Cut]:
    """Return `count` cuts at random places in order, with every way to keep in turn.

    Nine of ten are where some writes are not flushed: elsewhere all ways to keep are one.
    """
    rng, everywhere = random.Random(seed), range(1, len(records) + 1)
    amid = [at for at in everywhere if unflushed(records, at)]
    places = sorted(rng.choice(amid if rng.random() < 0.9 else everywhere) for _ in range(count))
    return [Cut(at, KEEPS[i % len(KEEPS)], rng.getrandbits(32)) for i, at in enumerate(places)]


def unflushed(records: list[Record], at: int) -> bool:
    """Say whether some write before entry number `at` is not flushed."""
    newest = next((entry.kind for entry in reversed(records[:at]) if entry.kind != TOLD), FLUSH)
    return newest == WRITE


def images(base: bytes, records: list[Record], cuts: list[Cut]) -> Iterator[tuple[Cut, bytes]]:
    """Yield each of the cuts, which are in order, with what is then on a disk that held `base`."""
    safe, done = bytearray(base), 0
    for cut in cuts:
        flushed = max((i for i in range(done, cut.at) if records[i].kind == FLUSH), default=done)
        _apply(safe, _writes(records[done:flushed]))
        done = flushed
        image = bytearray(safe)
        _apply(image, survivors(records[flushed : cut.at], cut))
        yield cut, image


def survivors(records: list[Record], cut: Cut) -> Iterator[tuple[int, bytes]]:
    """Yield ``(offset, bytes)`` of what the drive kept of writes that no flush covers."""
    rng, grain = random.Random(cut.seed), _GRAIN.get(cut.keep, 0)
    writes = list(_writes(records))
    if cut.keep == "everything":
        yield from writes
    elif cut.keep == "the first":
        yield from writes[: rng.randint(0, len(writes))]
    elif cut.keep != "nothing":
        parts = _parts(writes, grain) if grain else writes
        yield from (part for part in parts if rng.random() < 0.5)


def _writes(records: list[Record]) -> Iterator[tuple[int, bytes]]:
    return ((entry.offset, entry.data) for entry in records if entry.kind == WRITE)


def _parts(writes: list[tuple[int, bytes]], grain: int) -> Iterator[tuple[int, bytes]]:
    for offset, data in writes:
        for at in range(0, len(data), grain):
            yield offset + at, data[at : at + grain]


def _apply(image: bytearray, writes: Iterator[tuple[int, bytes]]) -> None:
    for offset, data in writes:
        image[offset : offset + len(data)] = data
