"""CSV payloads and lines. Source: RFC 4180."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence

import numpy as np

from edgeflow_agent.inputs.decode.base import DecodeError, Samples, narrowed, shaped
from edgeflow_agent.inputs.decode.marks import Marks
from edgeflow_proto.pipeline.kinds.base import Intake
from edgeflow_proto.pipeline.kinds.decoders import Csv

_TRUTH = {"true": 1, "True": 1, "1": 1, "false": 0, "False": 0, "0": 0}


class Table:
    """Rows of text below a header, as samples."""

    def __init__(self, intake: Intake, header: Sequence[str]) -> None:
        """Raises DecodeError (missing_field) where a field is no column."""
        self.marks = Marks(intake)
        self._dtype, self._shape = np.dtype(intake.dtype), intake.row_shape
        names = [name.strip() for name in header]
        wanted = names if intake.shape is not None and intake.fields is None else self.marks.paths
        for name in wanted:
            if name not in names:
                raise DecodeError("missing_field", f"no column '{name}'; there are: {', '.join(names)[:300]}")
        self.columns = [names.index(name) for name in wanted]
        self.width = len(names)
        self._tensor = wanted is names

    def samples(self, rows: Iterable[Sequence[str]]) -> Samples:
        """Return rows of cells as samples; raises DecodeError."""
        cells = [self._cells(row) for row in rows]
        if self._tensor:
            numbers = [number(cell, self._dtype.kind) for row in cells for cell in row]
            return Samples(narrowed(shaped(np.array(numbers, self._wide), self._shape), self._dtype))
        found = self.marks.samples([self._typed(row) for row in cells], self._wide)
        return found._replace(values=narrowed(found.values, self._dtype))

    @property
    def _wide(self) -> np.dtype[np.generic]:
        return np.dtype({"f": "float64", "b": "bool"}.get(self._dtype.kind, "int64"))

    def _cells(self, row: Sequence[str]) -> list[str]:
        if len(row) != self.width:
            raise DecodeError("shape", f"{len(row)} cells where the header has {self.width}")
        return [row[column].strip() for column in self.columns]

    def _typed(self, cells: list[str]) -> list[object]:
        """Return cells with numbers as such; texts that stand for numbers, keys and times as they are."""
        return [number(cell, self._dtype.kind) if bare else cell
                for cell, bare in zip(cells, self.marks.bare, strict=True)]  # fmt: skip


def number(cell: str, kind: str) -> float:
    """Return a cell as a number of a kind of dtype (``f``, ``i``, ``u``, ``b``); raises DecodeError."""
    try:
        if kind == "b":
            return _TRUTH[cell]
        value = float(cell) if kind == "f" else int(cell)
    except (ValueError, KeyError):
        raise DecodeError("type", f"not a number of the input's dtype: {cell[:40]!r}") from None
    if kind == "f":
        if value != value or value in (float("inf"), float("-inf")):
            raise DecodeError("nan", "NaN or infinity")
    elif not -(2**63) <= value < 2**63:
        raise DecodeError("range", f"{cell[:40]} is too large")
    return value


class CsvDecoder:
    """Reads lines, one sample each."""

    def __init__(self, options: Csv, intake: Intake) -> None:
        self._intake, self._separator = intake, options.separator
        self._table = None if options.columns is None else Table(intake, options.columns)

    def decode(self, payload: bytes) -> Samples:
        """Return the samples (see `Decoder.decode`)."""
        try:
            lines = payload.decode().splitlines()
            rows = [row for row in csv.reader(lines, delimiter=self._separator, strict=True) if row]
        except (UnicodeDecodeError, csv.Error) as error:
            raise DecodeError("csv", str(error)) from None
        if self._table is not None:
            return self._table.samples(rows)
        if not rows:
            raise DecodeError("csv", "no header")
        return Table(self._intake, rows[0]).samples(rows[1:])


def decoder(options: Csv, intake: Intake) -> CsvDecoder:
    """Return the decoder of an input; raises ValueError when a stated column is missing."""
    return CsvDecoder(options, intake)
