"""Reading the logs of all processes as one sequence: the newest lines, or those that follow a position.

A position holds per name how far which piece was read. Pieces only ever grow or go, so reading goes on from
there however the writers rotate; a line that is being written, or was torn by a power cut, is none.
"""

from __future__ import annotations

import heapq
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import msgspec

from edgeflow_agent.core.logfile import Piece, pieces
from edgeflow_agent.core.logs import Line
from edgeflow_proto.event import Clock, instant, wall_time
from edgeflow_proto.timeline import Timeline

LEVELS = ("debug", "info", "warning", "error", "critical")
_MAX_NAMES = 1024
_PART = re.compile(r"([A-Za-z0-9_.-]{1,200}):(\d{1,18}):(\d{1,18})")
_LOOSE_NS = 10**9  # how far a line's clock may be off that was known: lines do not say
_RANKS = logging.getLevelNamesMapping()

Positions = dict[str, tuple[int, int]]  # name → piece, and bytes of it that were read


def encode(positions: Positions) -> str:
    """Return positions as text; ``0`` for the beginning of everything."""
    return ",".join(f"{name}:{number}:{end}" for name, (number, end) in positions.items()) or "0"


def decode(text: str) -> Positions:
    """Read positions; raises ValueError."""
    if text in ("", "0"):
        return {}
    found = [_PART.fullmatch(part) for part in text.split(",", _MAX_NAMES)]
    if None in found:
        raise ValueError(f"not a position in the logs: {text[:100]!r}")
    return {match[1]: (int(match[2]), int(match[3])) for match in found if match is not None}


@dataclass(frozen=True, slots=True)
class Query:
    """Which lines: of a process or a pipeline, of a level at least, not before a time (RFC 3339, UTC)."""

    name: str = ""
    level: str = "debug"
    since: str = ""
    limit: int = 100

    def takes(self, line: Line) -> bool:
        """Say whether a line is among them."""
        rank = _RANKS.get(line.level.upper(), logging.INFO)
        named = not self.name or self.name in (line.process, line.pipeline)
        return named and rank >= _RANKS[self.level.upper()] and line.time >= self.since


@dataclass(slots=True)
class Page:
    """Lines in order, each with the position behind it; then where to go on, and what could not be read."""

    lines: list[tuple[Line, str]] = field(default_factory=list)
    positions: Positions = field(default_factory=dict)
    unreadable: int = 0


class _Found(NamedTuple):
    """What lies in a piece, up to `end`."""

    line: Line
    name: str
    number: int
    end: int

    @property
    def order(self) -> tuple[int, int]:
        return self.line.order


class Reader:
    """Reads one folder. Lines are dated by the timeline: as it is known now what their clocks were worth."""

    def __init__(self, folder: Path, timeline: Timeline | None = None) -> None:
        self._folder = folder
        self._timeline = Timeline() if timeline is None else timeline

    def names(self) -> list[str]:
        """Return the processes and pipelines that have lines of their own."""
        found = {each.name.partition("-") for each in pieces(self._folder)}
        return sorted({part for process, _, pipeline in found for part in (process, pipeline) if part})

    def end(self) -> Positions:
        """Return the positions behind all whole lines."""
        newest = {each.name: each for each in pieces(self._folder)}
        return {name: (piece.number, len(_whole(piece.path))) for name, piece in newest.items()}

    def newest(self, query: Query) -> Page:
        """Return the newest lines, at most `query.limit`; new ones follow the page's positions."""
        page = Page(positions=self.end())
        streams = [
            self._backwards(list(own), page)
            for name, own in groupby(pieces(self._folder), attrgetter("name"))
            if name in page.positions
        ]
        cursor = encode(page.positions)
        for found in self._dated(heapq.merge(*streams, key=attrgetter("order"), reverse=True)):
            if query.takes(found.line):
                page.lines.append((found.line, cursor))
            if len(page.lines) == query.limit:
                break
        page.lines.reverse()
        return page

    def following(self, start: Positions, query: Query) -> Page:
        """Return the lines behind positions, oldest first, at most `query.limit`."""
        grouped = {name: list(own) for name, own in groupby(pieces(self._folder), attrgetter("name"))}
        page = Page(positions={name: place for name, place in start.items() if name in grouped})
        streams = [self._forwards(own, page) for own in grouped.values()]
        for found in self._dated(heapq.merge(*streams, key=attrgetter("order"))):
            page.positions[found.name] = (found.number, found.end)
            if query.takes(found.line):
                page.lines.append((found.line, encode(page.positions)))
            if len(page.lines) == query.limit:
                break
        return page

    def _backwards(self, own: list[Piece], page: Page) -> Iterator[_Found]:
        """Yield the lines of a name up to the page's position, the newest first."""
        number, end = page.positions[own[0].name]
        for piece in reversed(own):
            if piece.number <= number:
                data = _whole(piece.path)
                yield from reversed(list(_lines(piece, data[:end] if piece.number == number else data, page)))

    def _forwards(self, own: list[Piece], page: Page) -> Iterator[_Found]:
        """Yield the lines of a name behind the page's position, which it moves past what cannot be read.

        Resumed only when the line before was taken. Pieces that are shorter, or have a lower number, are new.
        """
        number, end = page.positions.get(own[0].name, (0, 0))
        for piece in own:
            if piece.number >= number or own[-1].number < number:
                data = _whole(piece.path)
                yield from _lines(
                    piece, data, page, end if piece.number == number and end <= len(data) else 0
                )
                page.positions[piece.name] = (piece.number, len(data))

    def _dated(self, found: Iterable[_Found]) -> Iterator[_Found]:
        for each in found:
            yield each._replace(line=dated(each.line, self._timeline))


def dated(line: Line, timeline: Timeline) -> Line:
    """Return a line that can be read with the time and the quality of its clock as known now."""
    written = Clock(line.boot_id, instant(line.time) - line.boottime_ns, line.clock, _LOOSE_NS)
    known = timeline.clock(written, line.boottime_ns)
    if known is written:
        return line
    time = wall_time(line.boottime_ns + known.offset_ns)
    return msgspec.structs.replace(line, time=time, clock=known.quality)


def _whole(path: Path) -> bytes:
    """Return a piece up to its last whole line; nothing of one that has gone."""
    try:
        data = path.read_bytes()
    except OSError:
        return b""
    return data[: data.rfind(b"\n") + 1]


def _lines(piece: Piece, data: bytes, page: Page, begin: int = 0) -> Iterator[_Found]:
    end = begin
    for text in data[begin:].splitlines(keepends=True):
        end += len(text)
        try:
            line = msgspec.json.decode(text, type=Line)
            instant(line.time)
        except (msgspec.MsgspecError, ValueError):
            page.unreadable += 1
            continue
        yield _Found(line, piece.name, piece.number, end)
