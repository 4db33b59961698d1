"""Quantities with units, as pipeline files and settings write them.

``5ms``, ``1 kHz``, ``256 rows``: a number, an optional space, a unit. Each type is built
from plain data by `decode`, which msgspec calls for types it does not know.
"""

from __future__ import annotations

import math
import re
from typing import Any

_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([^\W\d]*)\s*")
_TIME = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
_FREQUENCY = {"mHz": 1e-3, "Hz": 1.0, "kHz": 1e3, "MHz": 1e6}
_ROWS = {"row", "rows"}


class Duration(int):
    """A span of time in nanoseconds; written ``5ms``, ``10 s``, ``2h``."""

    @classmethod
    def parse(cls, value: Any) -> Duration:
        """Read a duration; raises ValueError saying what a duration looks like."""
        number, unit = _split(value, "a duration such as 5ms or 10 s")
        if unit not in _TIME or number < 0:
            raise ValueError(f"expected a duration such as 5ms or 10 s, not {value!r}")
        return cls(round(number * _TIME[unit]))

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return self / 1e9


class Frequency(float):
    """Events per second; written ``1 kHz``, ``0.5 Hz``."""

    @classmethod
    def parse(cls, value: Any) -> Frequency:
        """Read a frequency; raises ValueError saying what a frequency looks like."""
        number, unit = _split(value, "a rate such as 100 Hz or 1 kHz")
        if unit not in _FREQUENCY or number <= 0:
            raise ValueError(f"expected a rate such as 100 Hz or 1 kHz, not {value!r}")
        return cls(number * _FREQUENCY[unit])


class Extent:
    """A stretch of rows, by count or by time; written ``256``, ``3 rows`` or ``2s``.

    One of `rows` and `ns` is set. Not a struct, because msgspec would not ask `decode` for one.
    """

    __slots__ = ("ns", "rows")

    def __init__(self, rows: int | None = None, ns: int | None = None) -> None:
        self.rows = rows
        self.ns = ns

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Extent) and (self.rows, self.ns) == (other.rows, other.ns)

    def __hash__(self) -> int:
        return hash((self.rows, self.ns))

    def __repr__(self) -> str:
        return f"Extent(rows={self.rows}, ns={self.ns})"

    @classmethod
    def parse(cls, value: Any) -> Extent:
        """Read an extent; raises ValueError saying what an extent looks like."""
        if isinstance(value, int) and not isinstance(value, bool):
            value = f"{value} rows"
        number, unit = _split(value, "a number of rows or a duration such as 2s")
        if unit in _ROWS and number == int(number) and number >= 1:
            return cls(rows=int(number))
        if unit in _TIME and number > 0:
            return cls(ns=round(number * _TIME[unit]))
        raise ValueError(f"expected a number of rows or a duration such as 2s, not {value!r}")


def _split(value: Any, expected: str) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None or not match[2]:
        hint = ", with its unit" if isinstance(value, (int, float)) and not isinstance(value, bool) else ""
        raise ValueError(f"expected {expected}{hint}, not {value!r}")
    number = float(match[1])
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is too large")
    return number, match[2]


def decode(kind: type, value: Any) -> Any:
    """Build a quantity from plain data (msgspec ``dec_hook``); raises ValueError when it is wrong."""
    parse = getattr(kind, "parse", None)
    if parse is None:
        raise NotImplementedError(f"no reader for {kind}")
    return value if isinstance(value, kind) else parse(value)
