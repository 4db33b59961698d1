"""Clocks. Order and age come from CLOCK_BOOTTIME, which no one sets; wall time is derived from it on output.

Source: clock_gettime(2), adjtimex(2).
"""

from __future__ import annotations

import ctypes
import time
from functools import cache
from pathlib import Path

from edgeflow_proto.event import Clock, ClockQuality

_TIME_ERROR = 5
_STATUS_SPACE = 512  # larger than struct timex on every architecture


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


def quality() -> ClockQuality:
    """Whether the kernel holds the wall clock for synchronised."""
    libc = ctypes.CDLL(None, use_errno=True)
    state = libc.adjtimex(ctypes.create_string_buffer(_STATUS_SPACE))
    return "unsynchronised" if state in (-1, _TIME_ERROR) else "synchronised"


def now() -> Clock:
    """How boot time becomes wall time, as known now."""
    return Clock(boot_id(), wall_ns() - boottime_ns(), quality())
