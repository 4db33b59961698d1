"""The host input: this machine's own state, every so often. Source: psutil."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import psutil

from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.inputs.base import Input, InputContext
from edgeflow_proto.pipeline.kinds.inputs import HOST_COLUMNS, Host

DISK = "/"


class HostInput(Input):
    """Takes a row at each multiple of the period after its start; those it comes too late for are counted."""

    def __init__(self, options: Host, context: InputContext) -> None:
        self._feed = context.feed
        self._loop = context.loop
        self._every = int(options.every)
        self._probe = Probe()
        self._columns = [HOST_COLUMNS.index(path) for path in context.intake.paths.values()]
        self._dtype = context.intake.dtype
        self._due = boottime_ns() + self._every
        self._timer = self._loop.after(self._every * 1e-9, self._take)

    def _take(self) -> None:
        now = boottime_ns()
        if now >= self._due:  # timers run on a clock that stands still while the machine sleeps
            row = self._probe.read(now)
            values = np.array([[row[index] for index in self._columns]], self._dtype)
            self._feed.rows(values, np.array([now], np.int64))
            missed = (now - self._due) // self._every
            if missed:
                self._feed.count("input_skipped_total", missed)
            self._due += (1 + missed) * self._every
        self._timer = self._loop.after(max(0.0, (self._due - boottime_ns()) * 1e-9), self._take)

    def close(self) -> None:
        """Take no more."""
        self._timer.cancel()


class Probe:
    """Reads all columns, in the order of `HOST_COLUMNS`; shares and rates are since the reading before."""

    def __init__(self) -> None:
        psutil.cpu_percent()
        self._at = boottime_ns()
        self._network = _network()

    def read(self, now: int) -> tuple[float, ...]:
        """Return the values at CLOCK_BOOTTIME `now`; NaN stands for what this machine cannot tell."""
        network, seconds = _network(), max(1e-9, (now - self._at) * 1e-9)
        rates = [(new - old) / seconds for new, old in zip(network, self._network, strict=True)]
        self._network, self._at = network, now
        memory = _or_nan(lambda: psutil.virtual_memory().percent)
        disk = _or_nan(lambda: psutil.disk_usage(DISK).percent)
        return (psutil.cpu_percent(), memory, disk, temperature(), *rates)


def temperature() -> float:
    """Return the hottest sensor in degrees Celsius, NaN where there is none."""
    sensors = getattr(psutil, "sensors_temperatures", dict)
    try:
        found = [reading.current for readings in sensors().values() for reading in readings]
    except OSError:
        return math.nan
    return max(found, default=math.nan)


def _network() -> tuple[float, float]:
    """Return bytes received and sent since boot by all cards but the loopback; NaN where that is not told."""
    try:
        cards = psutil.net_io_counters(pernic=True)
    except OSError:
        return math.nan, math.nan
    counts = [count for name, count in cards.items() if name != "lo"]
    return sum(count.bytes_recv for count in counts), sum(count.bytes_sent for count in counts)


def _or_nan(read: Callable[[], float]) -> float:
    try:
        return read()
    except OSError:
        return math.nan
