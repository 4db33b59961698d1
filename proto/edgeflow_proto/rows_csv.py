"""Recorded rows as CSV, which `edgeflow run --input` takes. Source: RFC 4180, with lines that end in LF."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from edgeflow_proto.arrays import CODES, numbers
from edgeflow_proto.event import ROW_BITS, wall_time
from edgeflow_proto.recorded import names
from edgeflow_proto.rows import Rows

CONTENT_TYPE = "text/csv"
_ROW = (1 << ROW_BITS) - 1


class Naming(msgspec.Struct, frozen=True):
    """What an input calls the key of its rows, and the words that numbers of its columns stand for."""

    key: str = "key"
    codes: Mapping[str, Sequence[str]] = {}


def lines(blocks: Iterable[Rows], naming: Naming) -> Iterator[str]:
    """Yield the header and a portion of lines for each block: ring, row, time, key if there is one, values.

    Times are wall time to microseconds. Nothing is yielded of no blocks. Blocks whose columns are not those
    of the one before begin with a header of their own.
    """
    known: list[str] = []
    for rows in blocks:
        header = _header(rows, naming)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([header] if header != known else [])
        known = header
        writer.writerows(_cells(rows, naming))
        yield text.getvalue()


def _header(rows: Rows, naming: Naming) -> list[str]:
    columns = names(rows)
    marks = ["ring", "row", "time", *([naming.key] if rows.keys else [])]
    return [f"_{mark}" if mark in columns else mark for mark in marks] + columns


def _cells(rows: Rows, naming: Naming) -> Iterator[list[Any]]:
    offset = 0 if rows.domain == "payload" else rows.clock.offset_ns
    times, key = numbers(rows.t, "q"), numbers(rows.key, "I")
    columns = [*_columns(rows, naming)]
    for place, cells in enumerate(zip(*columns, strict=True)):
        marks: list[Any] = [rows.generation, (rows.first + place) & _ROW, wall_time(times[place] + offset)]
        yield [*marks, *([rows.keys[key[place]]] if rows.keys else []), *cells]


def _columns(rows: Rows, naming: Naming) -> Iterator[list[Any]]:
    """Yield the cells of each column."""
    values, known = numbers(rows.values, CODES[rows.dtype]), names(rows)
    for place, name in enumerate(known):
        yield [*map(_spelled(rows.dtype, naming.codes.get(name, ())), values[place :: len(known)])]


def _spelled(dtype: str, words: Sequence[str]) -> Callable[[Any], Any]:
    """Return what spells a value: as short as can be read back as the same."""
    if words:
        return lambda value: words[int(value)] if 0 <= value < len(words) else value
    if dtype == "float32":
        return lambda value: f"{value:.9g}"
    return repr
