"""The file output: a line per row, appended to a csv or jsonl file below the device's ``files/<pipeline>/``.

Lines are whole. What a full disk cuts short is taken back and counted, and writing goes on when there is
room; a line that a power cut left unfinished is ended before the next one.

A file that is full is put aside under the next number, so that names never change their meaning: the lowest
number is the oldest. A crash between putting aside and removing leaves one file too many until the next time.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgeflow_agent.core import clock
from edgeflow_agent.core.messages import EffectRow
from edgeflow_agent.outputs.base import Output, OutputContext
from edgeflow_proto.event import wall_time
from edgeflow_proto.pipeline.kinds.outputs import File


class FileOutput(Output):
    """Gathers the rows of a turn and writes them together."""

    def __init__(self, options: File, context: OutputContext) -> None:
        self._account = context.account
        self._path = context.folder / options.path
        self._csv = options.path.endswith(".csv")
        self._largest, self._keep = options.rotate, options.keep
        self._rows: list[EffectRow] = []
        self._columns: list[str] = []
        self._begin = 0  # bytes before the first row
        self._fd = -1

    @property
    def _size(self) -> int:
        return os.fstat(self._fd).st_size  # not counted along: others may cut the file short

    @property
    def idle(self) -> bool:  # type: ignore[override]
        """Whether nothing waits to be carried out."""
        return not self._rows

    def carry_out(self, row: EffectRow) -> None:
        """Keep a row for the end of the turn."""
        self._rows.append(row)

    def turn(self, now: int) -> None:
        """Write the rows of this turn."""
        rows, self._rows = self._rows, []
        if rows:
            offset = clock.now().offset_ns
            written = 0
            try:
                for count in self._write(rows, offset):
                    written += count
            except OSError as error:
                self._account.dropped("disk", f"{self._path.name}: {error}", len(rows) - written)
                self._close()
            self._account.done(written)
        self._account.turn(now)

    def _write(self, rows: list[EffectRow], offset: int) -> Iterator[int]:
        """Append rows, as many at once as fit into a file; yields how many, raises OSError."""
        columns = ["time", "key", *rows[0].data]
        gone = self._fd >= 0 and os.fstat(self._fd).st_nlink == 0  # someone took the file away
        if self._fd < 0 or gone or (self._csv and columns != self._columns):
            self._open(columns)
        records = ({"time": wall_time(row.t + offset), "key": row.key, **row.data} for row in rows)
        lines = [_csv_line(record.values()) if self._csv else _json_line(record) for record in records]
        while lines:
            count = _fitting(lines, self._largest - self._size)
            if count == 0 and self._size > self._begin:
                self._put_aside()
                self._open(columns)
                count = _fitting(lines, self._largest - self._size)
            count = max(1, count)  # a line that fits into no file has one for itself
            self._append(b"".join(lines[:count]))
            yield count
            del lines[:count]

    def _append(self, data: bytes) -> None:
        """Append all of it or nothing; raises OSError."""
        before = os.fstat(self._fd).st_size
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, before)
            raise

    def _open(self, columns: list[str]) -> None:
        """Open the file at its end; a csv file of other columns is put aside. Raises OSError."""
        self._close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        header = _csv_line(columns)
        if self._csv and not _begins_with(self._path, header):
            self._put_aside()
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._columns = columns
        self._begin = len(header) if self._csv else 0
        size = self._size
        if self._csv and not size:
            self._append(header)
        elif size and os.pread(self._fd, 1, size - 1) != b"\n":
            self._append(b"\n")

    def _put_aside(self) -> None:
        """Give the file the next number, and remove the oldest beyond what is kept; raises OSError."""
        aside = _numbered(self._path)
        self._path.rename(self._path.with_name(_name(self._path, max(aside, default=0) + 1)))
        for number in sorted(aside)[: max(0, len(aside) + 1 - self._keep)]:
            aside[number].unlink()
            self._account.removed(aside[number].name)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        """Write what is left, and close."""
        self.turn(clock.boottime_ns())
        self._close()


def _begins_with(path: Path, header: bytes) -> bool:
    """Say whether a file is new, empty, or begins with that line."""
    try:
        with path.open("rb") as file:
            first = file.read(len(header))
    except FileNotFoundError:
        return True
    return first in (b"", header)


def _numbered(path: Path) -> dict[int, Path]:
    """Return the files put aside, by number."""
    name = re.compile(re.escape(path.stem) + r"\.([1-9][0-9]{0,9})" + re.escape(path.suffix))
    found = ((name.fullmatch(other.name), other) for other in path.parent.iterdir())
    return {int(match[1]): other for match, other in found if match is not None}


def _name(path: Path, number: int) -> str:
    return f"{path.stem}.{number}{path.suffix}"


def _fitting(lines: Sequence[bytes], room: int) -> int:
    """Return how many of the first lines take no more than `room` bytes."""
    for count, line in enumerate(lines):
        room -= len(line)
        if room < 0:
            return count
    return len(lines)


def _csv_line(values: Iterable[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(map(_cell, values))
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def _json_line(record: dict[str, Any]) -> bytes:
    return msgspec.json.encode(record) + b"\n"
