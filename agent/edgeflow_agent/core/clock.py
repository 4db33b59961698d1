"""Clocks. Order and age come from CLOCK_BOOTTIME, which no one sets; wall time is derived from it on output.

Source: clock_gettime(2), adjtimex(2).
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from edgeflow_proto.event import Clock

_TIME_ERROR = 5


class _Timex(ctypes.Structure):
    """The beginning of struct timex, with room for the rest of it on every architecture."""

    _fields_ = (
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long), ("rest", ctypes.c_char * 512),
    )  # fmt: skip


def boottime_ns() -> int:
    """Nanoseconds since boot, suspended time included; never steps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wall_ns() -> int:
    """Nanoseconds since 1970 as the system believes; may step."""
    return time.time_ns()


@cache
def boot_id() -> str:
    """The kernel's random id of this boot (RFC 4122 text form)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@cache
def _adjtimex() -> Callable[[Any], int]:
    function = ctypes.CDLL(None, use_errno=True).adjtimex
    function.argtypes = (ctypes.c_void_p,)
    found: Callable[[Any], int] = function
    return found


def error_ns() -> int | None:
    """How far the wall clock may be off in ns, by the kernel; ``None`` while nothing disciplines it."""
    status = _Timex()
    if _adjtimex()(ctypes.byref(status)) in (-1, _TIME_ERROR):
        return None
    return int(status.maxerror) * 1000


def now() -> Clock:
    """How boot time becomes wall time, as known now."""
    error = error_ns()
    offset = wall_ns() - boottime_ns()
    return Clock(boot_id(), offset, "unsynchronised" if error is None else "synchronised", error)
