"""Recorded files as blocks of rows: csv, npy, wav and jsonl. What cannot be used is counted and left out.

The same reader serves the file input of a device and `edgeflow run`.
"""

from __future__ import annotations

import csv
import warnings
import wave
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgeflow_agent.core.batch import Values
from edgeflow_agent.inputs.decode.base import DecodeError, narrowed
from edgeflow_agent.inputs.decode.json import JsonDecoder
from edgeflow_proto.pipeline.kinds.base import Intake
from edgeflow_proto.pipeline.kinds.decoders import Json

BLOCK_BYTES = 256 << 10
BLOCK_ROWS = 4096
MAX_LINE = 1 << 20
_TRUTH = {"true": 1, "True": 1, "1": 1, "false": 0, "False": 0, "0": 0}


class RecordingError(ValueError):
    """A file cannot be read at all; the message names it and says why."""


class Recording:
    """Rows of one file. Iterate once: blocks ``(n, *row_shape)`` of the intake's dtype, oldest first.

    `rejected` counts lines (csv, jsonl) or rows (npy, wav) that were left out, by reason; `note` is called
    for each lot of them with reason, a text that names the place, and how many. Iterating raises
    RecordingError or OSError.
    """

    def __init__(
        self, path: Path, intake: Intake, note: Callable[[str, str, int], None] | None = None
    ) -> None:
        self.path = path
        self.intake = intake
        self.rejected: Counter[str] = Counter()
        self._note = note

    def __iter__(self) -> Iterator[Values]:
        readers = {"csv": _csv, "npy": _npy, "wav": _wav, "jsonl": _jsonl}
        reader = readers.get(self.path.name.rpartition(".")[2])
        if reader is None:
            raise self.error(f"cannot tell its format; known: {', '.join(readers)}")
        try:
            yield from (block for block in reader(self) if len(block))
        except EOFError as error:
            raise self.error(f"it is cut short: {error}") from None

    def error(self, what: str) -> RecordingError:
        """Return the error that says what is wrong with this file."""
        return RecordingError(f"{self.path.name}: {what}")

    def reject(self, reason: str, where: str, count: int = 1) -> None:
        """Count what is left out."""
        self.rejected[reason] += count
        if self._note is not None:
            self._note(reason, f"{self.path.name}: {where}", count)

    def sound(self, values: Values, where: str) -> Values:
        """Return the rows that are finite and fit the dtype; the others are rejected."""
        try:
            return narrowed(values, self.intake.dtype)
        except DecodeError as error:
            if len(values) == 1 or error.reason == "type":
                self.reject(error.reason, f"{where}: {error.detail}", len(values))
                return values[:0].astype(self.intake.dtype)
        half = len(values) // 2
        return np.concatenate([self.sound(values[:half], where), self.sound(values[half:], where)])


def open_rows(path: Path, intake: Intake, note: Callable[[str, str, int], None] | None = None) -> Recording:
    """Return the rows of a file for an input (see `Recording`)."""
    return Recording(path, intake, note)


# text


def _lines(recording: Recording) -> Iterator[tuple[int, list[bytes]]]:
    """Yield lots of lines with the number of the first; overlong ones are rejected and made blank."""
    number, rest = 1, b""
    with recording.path.open("rb") as file:
        while chunk := file.read(BLOCK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > MAX_LINE:
                lines, rest = [*lines, b""], _rest_of_line(recording, file, number + len(lines))
            yield number, lines
            number += len(lines)
    if rest:
        yield number, [rest]


def _rest_of_line(recording: Recording, file: Any, number: int) -> bytes:
    """Skip to the end of an overlong line; return what was read behind it."""
    recording.reject("size", f"line {number}: more than {MAX_LINE} bytes")
    while chunk := file.read(BLOCK_BYTES):
        _, end, rest = chunk.partition(b"\n")
        if end:
            return bytes(rest)
    return b""


def _jsonl(recording: Recording) -> Iterator[Values]:
    decoder = JsonDecoder(Json(), recording.intake)
    for number, lines in _lines(recording):
        rows = []
        for i, line in enumerate(lines):
            if not line.strip():
                continue
            try:
                rows.append(decoder.decode(line))
            except DecodeError as error:
                recording.reject(error.reason, f"line {number + i}: {error.detail}")
        if rows:
            yield np.concatenate(rows)


def _csv(recording: Recording) -> Iterator[Values]:
    lots = _lines(recording)
    number, lines = next(lots, (1, []))
    if not lines:
        raise recording.error("the file is empty")
    table = _Table(recording, _header(lines[0]))
    yield table.block(number + 1, lines[1:])
    for number, lines in lots:
        yield table.block(number, lines)


def _header(line: bytes) -> list[str]:
    return next(csv.reader([_text(line).removeprefix("\ufeff")]), [])


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")


class _Table:
    """Lines below a header. Good ones are parsed many at once; with a bad one among them, one by one."""

    def __init__(self, recording: Recording, header: list[str]) -> None:
        self._recording = recording
        intake = recording.intake
        self._width = len(header)
        names = [name.strip() for name in header]
        wanted = [*intake.paths.values()] if intake.shape is None or intake.fields else names
        missing = [name for name in wanted if name not in names]
        if missing:
            raise recording.error(f"no column '{missing[0]}'; there are: {', '.join(names)[:300]}")
        self._columns = [names.index(name) for name in wanted]
        if len(wanted) != int(np.prod(intake.row_shape)):
            raise recording.error(f"{len(wanted)} columns are not rows of shape {list(intake.row_shape)}")
        self._kind = np.dtype(intake.dtype).kind
        self._parse_as = np.dtype("float64" if self._kind == "f" else "int64")

    def block(self, number: int, lines: list[bytes]) -> Values:
        values = self._at_once(lines) if self._kind != "b" else None
        if values is None:
            values = self._one_by_one(number, lines)
        last = number + len(lines) - 1
        rows = self._recording.sound(values, f"lines {number} to {last}") if len(values) else values
        return rows.reshape(-1, *self._recording.intake.row_shape)

    def _at_once(self, lines: list[bytes]) -> Values | None:
        commas = self._width - 1
        plain = all(line.count(b",") == commas and b'"' not in line for line in lines)
        if not plain or not lines:
            return None
        try:
            with warnings.catch_warnings(action="error"):  # 3.0 for an integer, in numpy before 2
                return np.loadtxt(
                    [line.decode().rstrip("\r") for line in lines], self._parse_as, comments=None,
                    delimiter=",", usecols=self._columns, ndmin=2,
                )  # fmt: skip
        except (ValueError, Warning):
            return None

    def _one_by_one(self, number: int, lines: list[bytes]) -> Values:
        rows = []
        for i, line in enumerate(lines):
            if line.strip():
                try:
                    rows.append(self._row(_text(line)))
                except DecodeError as error:
                    self._recording.reject(error.reason, f"line {number + i}: {error.detail}")
        dtype = bool if self._kind == "b" else self._parse_as
        return np.array(rows, dtype).reshape(-1, len(self._columns))

    def _row(self, line: str) -> list[float]:
        try:
            cells = next(csv.reader([line]), [])
        except csv.Error as error:
            raise DecodeError("csv", str(error)) from None
        if len(cells) != self._width:
            raise DecodeError("shape", f"{len(cells)} cells where the header has {self._width}")
        return [self._number(cells[column].strip()) for column in self._columns]

    def _number(self, cell: str) -> float:
        try:
            if self._kind == "b":
                return _TRUTH[cell]
            value = float(cell) if self._kind == "f" else int(cell)
        except (ValueError, KeyError):
            raise DecodeError("type", f"not a number of the input's dtype: {cell[:40]!r}") from None
        if self._kind == "f":
            if value != value or value in (float("inf"), float("-inf")):
                raise DecodeError("nan", "NaN or infinity")
        elif not -(2**63) <= value < 2**63:
            raise DecodeError("range", f"{cell[:40]} is too large")
        return value


# arrays


def _npy(recording: Recording) -> Iterator[Values]:
    try:
        rows = np.load(recording.path, mmap_mode="r", allow_pickle=False)
    except (ValueError, SyntaxError) as error:
        raise recording.error(f"not an array in npy format: {error}") from None
    shape = recording.intake.row_shape
    if rows.ndim == 1 and shape == (1,):
        rows = rows.reshape(-1, 1)
    if rows.ndim == 0 or rows.shape[1:] != shape:
        raise recording.error(f"rows of shape {list(rows.shape[1:])}, not {list(shape)}")
    yield from _blocks(recording, rows)


def _blocks(recording: Recording, rows: Values) -> Iterator[Values]:
    if rows.dtype.kind not in "biuf" or (rows.dtype.kind == "b") != (recording.intake.dtype == "bool"):
        raise recording.error(f"{rows.dtype.name} where {recording.intake.dtype} is expected")
    if rows.dtype.kind == "f" and np.dtype(recording.intake.dtype).kind != "f":
        raise recording.error(f"{rows.dtype.name} where {recording.intake.dtype} is expected")
    for start in range(0, len(rows), BLOCK_ROWS):
        block = np.array(rows[start : start + BLOCK_ROWS])
        yield recording.sound(block, f"rows {start} to {start + len(block) - 1}")


def _wav(recording: Recording) -> Iterator[Values]:
    try:
        with wave.open(str(recording.path), "rb") as file:
            _check_wav(recording, file)
            width, channels = file.getsampwidth(), file.getnchannels()
            while data := file.readframes(BLOCK_ROWS):
                whole = len(data) - len(data) % (width * channels)
                samples = _samples(data[:whole], width).reshape(-1, channels)
                yield samples.astype(recording.intake.dtype)
    except wave.Error as error:
        raise recording.error(f"not a PCM wav file: {error}") from None


def _check_wav(recording: Recording, file: wave.Wave_read) -> None:
    intake = recording.intake
    if intake.row_shape != (file.getnchannels(),):
        raise recording.error(
            f"{file.getnchannels()} channels are not rows of shape {list(intake.row_shape)}"
        )
    if np.dtype(intake.dtype).kind != "f":
        raise recording.error(f"its rows are floats in -1..1, not {intake.dtype}")
    if intake.rate is not None and round(intake.rate) != file.getframerate():
        raise recording.error(f"{file.getframerate()} Hz, but the input's rate is {intake.rate:g} Hz")


def _samples(data: bytes, width: int) -> Values:
    """Return PCM samples as float64 in -1..1. Eight bits are unsigned; 24 go in front of a zero byte."""
    if width == 1:
        return (np.frombuffer(data, "u1").astype(np.float64) - 128) / 128
    if width == 3:
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return padded.view("<i4").ravel() / float(1 << 31)
    return np.frombuffer(data, f"<i{width}") / float(1 << (8 * width - 1))
