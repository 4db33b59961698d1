"""The file output: a line per row, appended to a csv or jsonl file below the device's ``files/<pipeline>/``.

Lines are whole. What a full disk cuts short is taken back and counted, and writing goes on when there is
room; a line that a power cut left unfinished is ended before the next one.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterable
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
        self._rows: list[EffectRow] = []
        self._columns: list[str] = []
        self._fd = -1

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
            try:
                self._write(rows, offset)
                self._account.done(len(rows))
            except OSError as error:
                self._account.dropped("disk", f"{self._path.name}: {error}", len(rows))
                self._close()
        self._account.turn(now)

    def _write(self, rows: list[EffectRow], offset: int) -> None:
        columns = ["time", "key", *rows[0].data]
        gone = self._fd >= 0 and os.fstat(self._fd).st_nlink == 0  # someone took the file away
        if self._fd < 0 or gone or (self._csv and columns != self._columns):
            self._open(columns)
        records = ({"time": wall_time(row.t + offset), "key": row.key, **row.data} for row in rows)
        self._append(self._lines(records) if self._csv else b"".join(map(_json_line, records)))

    def _lines(self, records: Iterable[dict[str, Any]]) -> bytes:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, extrasaction="ignore", lineterminator="\n")
        writer.writerows({name: _cell(value) for name, value in record.items()} for record in records)
        return text.getvalue().encode()

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
        header = ",".join(columns).encode() + b"\n"
        if self._csv and not _begins_with(self._path, header):
            self._path.rename(_free_name(self._path))
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        size = os.fstat(self._fd).st_size
        if self._csv and not size:
            self._append(header)
        elif size and os.pread(self._fd, 1, size - 1) != b"\n":
            self._append(b"\n")
        self._columns = columns

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


def _free_name(path: Path) -> Path:
    count = 1
    while (free := path.with_name(f"{path.stem}.{count}{path.suffix}")).exists():
        count += 1
    return free


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def _json_line(record: dict[str, Any]) -> bytes:
    return msgspec.json.encode(record) + b"\n"
