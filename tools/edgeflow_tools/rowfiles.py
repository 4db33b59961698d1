"""Recorded rows as files: CSV, and NPY (NumPy's NEP 1), both of which `edgeflow run --input` takes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edgeflow_proto import rows_csv
from edgeflow_proto.rows import Rows
from edgeflow_proto.rows_csv import Naming
from edgeflow_tools.terminal import Failure

CSV, NPY = ".csv", ".npy"
ENDINGS = (CSV, NPY)


def write(blocks: Iterable[Rows], file: Path, naming: Naming) -> int:
    """Write rows to a file whose ending says as what; return how many there were. Raises Failure."""
    counted = _Counted(blocks)
    try:
        if file.suffix == NPY:
            np.save(file, _joined([*counted]))
        else:
            with file.open("w", encoding="utf-8", newline="") as out:
                out.writelines(rows_csv.lines(counted, naming))
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from None
    return counted.count


class _Counted:
    """Blocks as they are given, and how many rows they had."""

    def __init__(self, blocks: Iterable[Rows]) -> None:
        self._blocks = iter(blocks)
        self.count = 0

    def __iter__(self) -> _Counted:
        return self

    def __next__(self) -> Rows:
        rows = next(self._blocks)
        self.count += rows.count
        return rows


def values_of(rows: Rows) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """Return the values of a block, ``(count, *shape)`` of its dtype, in this machine's byte order."""
    dtype = np.dtype(rows.dtype)
    return np.frombuffer(rows.values, dtype.newbyteorder("<")).astype(dtype).reshape(-1, *rows.shape)


def _joined(blocks: list[Rows]) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """Return all values as one array; raises Failure where they are not of one form."""
    forms = {(rows.shape, rows.dtype) for rows in blocks}
    if len(forms) != 1:
        told = " and ".join(f"{dtype} of shape {list(shape)}" for shape, dtype in sorted(forms))
        raise Failure(f"rows of several forms make no array: {told}" if forms else "there are no rows")
    return np.concatenate([values_of(rows) for rows in blocks])
