"""Figures as people read them."""

from __future__ import annotations

import time

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_SPANS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def amount(value: int) -> str:
    """Return a count with thin spaces between thousands."""
    return f"{value:,}".replace(",", "\u202f")


def size(value: float) -> str:
    """Return bytes in a unit that suits."""
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def ago(moment_ns: int) -> str:
    """Return how long ago a moment (ns since 1970) was, in its largest unit."""
    seconds = max(0, time.time_ns() - moment_ns) // 10**9
    length, unit = next(((length, unit) for length, unit in _SPANS if seconds >= length), (1, "s"))
    return f"{seconds // length} {unit} ago"
