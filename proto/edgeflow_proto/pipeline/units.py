"""Quantities with units, as pipeline files and settings write them.

``5ms``, ``1 kHz``, ``256 rows``: a number, an optional space, a unit. Each type is built
from plain data by `decode`, which msgspec calls for types it does not know.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from edgeflow_proto.pipeline.problem import shown

_QUANTITY = re.compile(r"([-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?) *([^\W\d]+)")
_LONGEST = 40  # characters; none needs more
_TIME = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
_FREQUENCY = {"mHz": 1e-3, "Hz": 1.0, "kHz": 1e3, "MHz": 1e6}
_ROWS = {"row": 1, "rows": 1}
_SIZE = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}  # fmt: skip


_LONGEST_NS = (1 << 63) - 1  # what fits the int64 times of rows: 292 years
_MOST_ROWS = 10**12
_RATES = (1e-6, 1e9)


def _written(units: dict[str, Any], example: str) -> dict[str, Any]:
    """Return the JSON Schema of a quantity in these units."""
    number = r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?"
    return {"type": "string", "pattern": rf"^\s*{number} *({'|'.join(units)})\s*$", "examples": [example]}


class Duration(int):
    """A span of time in nanoseconds; written ``5ms``, ``10 s``, ``2h``."""

    written: ClassVar[dict[str, Any]] = _written(_TIME, "5ms")

    @classmethod
    def parse(cls, value: Any) -> Duration:
        """Read a duration; raises ValueError saying what a duration looks like."""
        expected = "a duration such as 5ms or 10 s"
        ns = _amount(value, _TIME, expected)
        if ns is None or ns < 0:
            raise _unexpected(value, expected)
        if ns > _LONGEST_NS:
            raise ValueError(f"{value} is too long")
        return cls(round(ns))

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return self / 1e9


class Frequency(float):
    """Events per second; written ``1 kHz``, ``0.5 Hz``."""

    written: ClassVar[dict[str, Any]] = _written(_FREQUENCY, "100 Hz")

    @classmethod
    def parse(cls, value: Any) -> Frequency:
        """Read a frequency; raises ValueError saying what a frequency looks like."""
        expected = "a rate such as 100 Hz or 1 kHz"
        hertz = _amount(value, _FREQUENCY, expected)
        if hertz is None or hertz <= 0:
            raise _unexpected(value, expected)
        if not _RATES[0] <= hertz <= _RATES[1]:
            raise ValueError(f"{value} is out of range: {_RATES[0]:g} to {_RATES[1]:g} Hz")
        return cls(hertz)


class Size(int):
    """An amount of data in bytes; written ``10 MB``, ``512 KiB``."""

    written: ClassVar[dict[str, Any]] = _written(_SIZE, "10 MB")

    @classmethod
    def parse(cls, value: Any) -> Size:
        """Read a size; raises ValueError saying what a size looks like."""
        expected = "a size such as 10 MB or 512 KiB"
        size = _amount(value, _SIZE, expected)
        if size is None or size < 0:
            raise _unexpected(value, expected)
        if size >= 1 << 63:
            raise ValueError(f"{value} is too large")
        return cls(round(size))


class Extent:
    """A stretch of rows, by count or by time; written ``256``, ``3 rows`` or ``2s``.

    One of `rows` and `ns` is set. Not a struct, because msgspec would not ask `decode` for one.
    """

    __slots__ = ("ns", "rows")
    written: ClassVar[dict[str, Any]] = {
        "anyOf": [{"type": "integer", "minimum": 1}, _written(_ROWS | _TIME, "256 rows")]
    }

    def __init__(self, rows: int | None = None, ns: int | None = None) -> None:
        self.rows = rows
        self.ns = ns

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Extent) and (self.rows, self.ns) == (other.rows, other.ns)

    def __hash__(self) -> int:
        return hash((self.rows, self.ns))

    def __repr__(self) -> str:
        return f"Extent(rows={self.rows}, ns={self.ns})"

    def count(self, rate: float) -> int:
        """Return how many rows it is where rows come at `rate` a second, at least one."""
        return self.rows or max(1, round((self.ns or 0) * 1e-9 * rate))

    @classmethod
    def parse(cls, value: Any) -> Extent:
        """Read an extent; raises ValueError saying what an extent looks like."""
        expected = "a number of rows or a duration such as 2s"
        given = value
        if isinstance(value, int) and not isinstance(value, bool):
            value = f"{value} rows"
        rows = _amount(value, _ROWS, expected)
        if rows is None:
            ns = Duration.parse(value) if _amount(value, _TIME, expected) else 0
            if ns < 1:
                raise _unexpected(value, expected)
            return cls(ns=int(ns))
        if not 1 <= rows <= _MOST_ROWS or rows != int(rows):
            raise ValueError(f"expected 1 to {_MOST_ROWS:g} whole rows, not {shown(given)}")
        return cls(rows=int(rows))


def _amount(value: Any, units: dict[str, Any], expected: str) -> float | None:
    """Return a quantity in the units' base, or ``None`` when it is of other units."""
    fits = isinstance(value, str) and len(value) <= _LONGEST
    match = _QUANTITY.fullmatch(value.strip()) if fits else None
    if match is None:
        raise _unexpected(value, expected)
    if match[2] not in units:
        return None
    number = int(match[1]) if match[1].lstrip("+-").isdecimal() else float(match[1])
    result: float = number * units[match[2]]  # exact, where it is whole
    return result


def _unexpected(value: Any, expected: str) -> ValueError:
    bare = isinstance(value, int | float) and not isinstance(value, bool)
    return ValueError(f"expected {expected}{', with its unit' if bare else ''}, not {shown(value)}")


def spelled(value: Duration | Frequency | Size | Extent) -> str:
    """Return a quantity as files write it, in its largest unit that leaves a whole number, if one does."""
    if isinstance(value, Extent):
        rows = f"{value.rows} {'row' if value.rows == 1 else 'rows'}"
        return spelled(Duration(value.ns)) if value.ns is not None else rows
    if isinstance(value, Frequency):
        unit = next((unit for unit in reversed(_FREQUENCY) if value >= _FREQUENCY[unit]), "mHz")
        return f"{value / _FREQUENCY[unit]:.12g} {unit}"
    units = _TIME if isinstance(value, Duration) else _SIZE
    whole = [unit for unit, size in units.items() if value % size == 0 and (value >= size or unit == "s")]
    unit = max(whole or ["B"], key=units.__getitem__)
    return f"{value // units[unit]} {unit}"


def decode(kind: type, value: Any) -> Any:
    """Build a quantity from plain data (msgspec ``dec_hook``); raises ValueError when it is wrong."""
    parse = getattr(kind, "parse", None)
    if parse is None:
        raise NotImplementedError(f"no reader for {kind}")
    return value if isinstance(value, kind) else parse(value)
