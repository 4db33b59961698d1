"""What samples carry besides numbers: a key, a time, and texts that stand for numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from edgeflow_agent.core.batch import Int64s, Values
from edgeflow_agent.inputs.decode.base import DecodeError, Samples
from edgeflow_proto.pipeline.kinds.base import Intake

MAX_KEY = 63  # bytes; rings keep no longer ones
_UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_LIMIT = 1 << 62
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Marks:
    """Reads samples that are lists of values by field: the columns, then key and time where there are any."""

    def __init__(self, intake: Intake) -> None:
        self._dtype = np.dtype(intake.dtype)
        self._paths = list(intake.paths.values())
        self._codes = [_numbers(intake.codes.get(name)) for name in intake.paths]
        self._key = intake.key_field
        self._clock = intake.clock

    def __bool__(self) -> bool:
        return any(self._codes) or self._key is not None or self._clock is not None

    @property
    def paths(self) -> list[str]:
        """The fields that are read, in order."""
        extra = [self._key] if self._key is not None else []
        return [*self._paths, *extra, *([self._clock.field] if self._clock else [])]

    @property
    def bare(self) -> list[bool]:
        """Which of the fields hold numbers and nothing else."""
        return [not codes for codes in self._codes] + [False] * (len(self.paths) - len(self._codes))

    def leaves(self, number: Any) -> list[tuple[str, Any]]:
        """Return each field with the type of its values."""
        kinds: list[Any] = [str if codes else number for codes in self._codes]
        if self._key is not None:
            kinds.append(str | int)
        if self._clock is not None:
            kinds.append(str if self._clock.unit == "iso" else float)
        return list(zip(self.paths, kinds, strict=True))

    def samples(self, rows: Sequence[Sequence[Any]], dtype: Any = None) -> Samples:
        """Return samples from the values of their fields, in `dtype` (default: the input's own).

        Raises DecodeError.
        """
        columns = list(zip(*rows, strict=True)) or [()] * len(self.paths)
        width = len(self._paths)
        numbers = [_coded(column, codes) for column, codes in zip(columns[:width], self._codes, strict=True)]
        values: Values = np.array(numbers, dtype or self._dtype).reshape(width, len(rows)).T
        rest = iter(columns[width:])
        keys = [str(key) for key in next(rest)] if self._key is not None else None
        return Samples(np.ascontiguousarray(values), keys, self._times(next(rest)) if self._clock else None)

    def _times(self, column: Sequence[Any]) -> Int64s:
        assert self._clock is not None
        return np.array([moment(value, self._clock.unit) for value in column], np.int64)


def moment(value: float | str, unit: str) -> int:
    """Return a time as ns since 1970; raises DecodeError (time)."""
    try:
        found = _since(str(value)) if unit == "iso" else _scaled(float(value), _UNITS[unit])
    except (ValueError, OverflowError) as error:
        raise DecodeError("time", f"not a time: {value!r:.60} ({error})") from None
    if not 0 <= found < _LIMIT:
        raise DecodeError("time", f"not a time of this age: {value!r:.60}")
    return found


def _scaled(number: float, unit: int) -> int:
    return round(number * unit) if math.isfinite(number) else _LIMIT


def _since(text: str) -> int:
    """Return ns since 1970 of a text in RFC 3339; without an offset it is UTC."""
    parsed = datetime.fromisoformat(text)
    since = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000


def _numbers(words: list[str] | None) -> dict[str, int]:
    return {word: number for number, word in enumerate(words or ())}


def _coded(column: Sequence[Any], codes: dict[str, int]) -> Sequence[Any]:
    """Return a column with texts as the numbers they stand for."""
    if not codes:
        return column
    try:
        return [codes[text] for text in column]
    except KeyError as error:
        raise DecodeError("code", f"{error.args[0]!r:.60} is none of {', '.join(codes)[:200]}") from None
