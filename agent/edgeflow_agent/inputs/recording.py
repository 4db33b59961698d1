"""Recorded files as blocks of rows. What cannot be used is counted and left out.

The same reader serves the file input of a device and `edgeflow run`.
"""

from __future__ import annotations

import csv
import warnings
import wave
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgeflow_agent.core.batch import Values
from edgeflow_agent.inputs.decode.base import DecodeError, Samples, decoder_of, narrowed
from edgeflow_agent.inputs.decode.csv import Table
from edgeflow_agent.inputs.decode.marks import Marks
from edgeflow_agent.inputs.decode.raw import RawDecoder
from edgeflow_proto.pipeline.kinds.base import Intake
from edgeflow_proto.pipeline.kinds.decoders import Json, Senml

BLOCK_BYTES = 256 << 10
BLOCK_ROWS = 4096
MAX_LINE = 1 << 20


class RecordingError(ValueError):
    """A file cannot be read at all; the message names it and says why."""


class Recording:
    """Rows of one file or folder. Iterate once: blocks of samples of the intake's dtype, oldest first.

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

    def __iter__(self) -> Iterator[Samples]:
        reader = _folder if self.path.is_dir() else _READERS.get(self.path.name.rpartition(".")[2])
        if reader is None:
            raise self.error(f"cannot tell its format; known: {', '.join(_READERS)}")
        marked = bool(Marks(self.intake))
        if marked and reader not in (_csv, _jsonl, _npz):
            raise self.error("its rows carry no key, time or text")
        try:
            yield from (block for block in reader(self) if len(block.values))
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


def columns_of(path: Path) -> list[str]:
    """Return the names a csv file's first line gives its columns, or those of a jsonl file's first object.

    Of other formats, and of what is neither, none. Raises OSError.
    """
    ending = path.name.rpartition(".")[2]
    if ending not in ("csv", "jsonl") or path.is_dir():
        return []
    with path.open("rb") as file:
        line = file.readline(MAX_LINE)
    try:
        if ending == "csv":
            return [name.strip() for name in _header(line.rstrip(b"\n"))]
        return [*msgspec.json.decode(line, type=dict[str, Any])]
    except (DecodeError, msgspec.DecodeError, UnicodeDecodeError):
        return []


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


def _jsonl(recording: Recording) -> Iterator[Samples]:
    stated = recording.intake.decode
    decoder = decoder_of(stated if isinstance(stated, Senml) else Json(), recording.intake)
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
            yield _joined(rows)


def _joined(parts: list[Samples]) -> Samples:
    """Return samples of several payloads as one."""
    keys = None if parts[0].keys is None else [key for part in parts for key in part.keys or ()]
    times = [part.times for part in parts if part.times is not None]
    values = np.concatenate([part.values for part in parts])
    return Samples(values, keys, np.concatenate(times) if times else None)


def _csv(recording: Recording) -> Iterator[Samples]:
    lots = _lines(recording)
    number, lines = next(lots, (1, []))
    if not lines:
        raise recording.error("the file is empty")
    try:
        table = _Lines(recording, Table(recording.intake, _header(lines[0])))
    except DecodeError as error:
        raise recording.error(error.detail) from None
    yield table.block(number + 1, lines[1:])
    for number, lines in lots:
        yield table.block(number, lines)


def _header(line: bytes) -> list[str]:
    return _cells(_text(line).removeprefix("\ufeff"))


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")


class _Lines:
    """Lines below a header. Good ones are parsed many at once; with a bad one among them, one by one."""

    def __init__(self, recording: Recording, table: Table) -> None:
        self._recording, self._table = recording, table
        intake = recording.intake
        size = int(np.prod(intake.row_shape))
        if len(table.columns) != size and not table.marks:
            raise recording.error(
                f"{len(table.columns)} columns are not rows of shape {list(intake.row_shape)}"
            )
        kind = np.dtype(intake.dtype).kind
        self._plain = kind != "b" and not table.marks
        self._parse_as = np.dtype("float64" if kind == "f" else "int64")

    def block(self, number: int, lines: list[bytes]) -> Samples:
        values = self._at_once(lines) if self._plain else None
        if values is None:
            return self._one_by_one(number, lines)
        last = number + len(lines) - 1
        rows = self._recording.sound(values, f"lines {number} to {last}") if len(values) else values
        return Samples(rows.reshape(-1, *self._recording.intake.row_shape))

    def _at_once(self, lines: list[bytes]) -> Values | None:
        commas = self._table.width - 1
        plain = all(line.count(b",") == commas and b'"' not in line for line in lines)
        if not plain or not lines:
            return None
        try:
            with warnings.catch_warnings(action="error"):  # 3.0 for an integer, in numpy before 2
                return np.loadtxt(
                    [line.decode().rstrip("\r") for line in lines], self._parse_as, comments=None,
                    delimiter=",", usecols=self._table.columns, ndmin=2,
                )  # fmt: skip
        except (ValueError, Warning):
            return None

    def _one_by_one(self, number: int, lines: list[bytes]) -> Samples:
        rows = []
        for i, line in enumerate(lines):
            if line.strip():
                try:
                    rows.append(self._table.samples([_cells(_text(line))]))
                except DecodeError as error:
                    self._recording.reject(error.reason, f"line {number + i}: {error.detail}")
        intake = self._recording.intake
        return _joined(rows) if rows else Samples(np.empty((0, *intake.row_shape), intake.dtype))


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error as error:
        raise DecodeError("csv", str(error)) from None


# arrays


def _npy(recording: Recording) -> Iterator[Samples]:
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


def _npz(recording: Recording) -> Iterator[Samples]:
    """Yield an array for each field side by side; key and time are arrays of their own."""
    marks = Marks(recording.intake)
    try:
        with np.load(recording.path, allow_pickle=False) as arrays:
            missing = [path for path in marks.paths if path not in arrays]
            if missing:
                raise recording.error(f"no array '{missing[0]}'; there are: {', '.join(arrays)[:300]}")
            columns = [arrays[path] for path in marks.paths]
    except (ValueError, SyntaxError, zipfile.BadZipFile) as error:
        raise recording.error(f"not arrays in npz format: {error}") from None
    if len({len(column) for column in columns}) > 1 or any(column.ndim != 1 for column in columns):
        raise recording.error("its arrays are not of one length and one axis")
    if not marks:
        yield from _blocks(recording, np.stack(columns, axis=1))
        return
    for start in range(0, len(columns[0]), BLOCK_ROWS):
        cells = zip(*[column[start : start + BLOCK_ROWS].tolist() for column in columns], strict=True)
        yield marks.samples([*cells])


def _folder(recording: Recording) -> Iterator[Samples]:
    """Yield the packed rows of each file of a folder, in the order of their names."""
    decoder = RawDecoder(recording.intake)
    for path in sorted(path for path in recording.path.iterdir() if path.is_file()):
        try:
            yield decoder.decode(path.read_bytes())
        except DecodeError as error:
            recording.reject(error.reason, f"{path.name}: {error.detail}")


def _blocks(recording: Recording, rows: Values) -> Iterator[Samples]:
    if rows.dtype.kind not in "biuf" or (rows.dtype.kind == "b") != (recording.intake.dtype == "bool"):
        raise recording.error(f"{rows.dtype.name} where {recording.intake.dtype} is expected")
    if rows.dtype.kind == "f" and np.dtype(recording.intake.dtype).kind != "f":
        raise recording.error(f"{rows.dtype.name} where {recording.intake.dtype} is expected")
    for start in range(0, len(rows), BLOCK_ROWS):
        block = np.array(rows[start : start + BLOCK_ROWS])
        yield Samples(recording.sound(block, f"rows {start} to {start + len(block) - 1}"))


def _wav(recording: Recording) -> Iterator[Samples]:
    try:
        with wave.open(str(recording.path), "rb") as file:
            _check_wav(recording, file)
            width, channels = file.getsampwidth(), file.getnchannels()
            while data := file.readframes(BLOCK_ROWS):
                whole = len(data) - len(data) % (width * channels)
                samples = _samples(data[:whole], width, recording.intake.dtype)
                yield Samples(samples.reshape(-1, channels))
    except wave.Error as error:
        raise recording.error(f"not a PCM wav file: {error}") from None


def _check_wav(recording: Recording, file: wave.Wave_read) -> None:
    intake = recording.intake
    if intake.row_shape != (file.getnchannels(),):
        raise recording.error(
            f"{file.getnchannels()} channels are not rows of shape {list(intake.row_shape)}"
        )
    width = file.getsampwidth()
    if np.dtype(intake.dtype).kind != "f" and (intake.dtype, width) != ("int16", 2):
        raise recording.error(f"its {8 * width}-bit samples are floats in -1..1, not {intake.dtype}")
    if intake.rate is not None and round(intake.rate) != file.getframerate():
        raise recording.error(f"{file.getframerate()} Hz, but the input's rate is {intake.rate:g} Hz")


def _samples(data: bytes, width: int, dtype: str) -> Values:
    """Return PCM samples as they are (int16), or else in -1..1."""
    if dtype == "int16":
        return np.frombuffer(data, "<i2").astype(np.int16)
    return _between_ones(data, width).astype(dtype)


def _between_ones(data: bytes, width: int) -> Values:
    """Return PCM samples as float64 in -1..1. Eight bits are unsigned; 24 go in front of a zero byte."""
    if width == 1:
        return (np.frombuffer(data, "u1").astype(np.float64) - 128) / 128
    if width == 3:
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return padded.view("<i4").ravel() / float(1 << 31)
    return np.frombuffer(data, f"<i{width}") / float(1 << (8 * width - 1))


_READERS: dict[str, Callable[[Recording], Iterator[Samples]]] = {
    "csv": _csv, "npy": _npy, "npz": _npz, "wav": _wav, "jsonl": _jsonl,
}  # fmt: skip
