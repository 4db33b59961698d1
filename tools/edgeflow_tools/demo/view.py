"""A demo while it runs, on standard error: live on a terminal, else a line now and then."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edgeflow_tools.demo.observed import DEVICE, MIRROR, RELAY, Event, Observed
from edgeflow_tools.demo.outcome import Device, Latency, latencies
from edgeflow_tools.sim.bearing import Run
from edgeflow_tools.sim.vibration import RATE

LINE_S = 5.0
RATE_S = 2.0  # over how long rates are taken
EVENTS = 8
_SCORE = "score.mean"
_PLACES = {DEVICE: "on the device", RELAY: "at the relay", MIRROR: "on the mirror"}
_STYLES = {"info": "", "warning": "yellow", "error": "red", "critical": "bold red"}


class View:
    """Shows how it goes; used as a context. `links` are addresses to open, by name."""

    def __init__(self, console: Console, links: dict[str, str], run: Run) -> None:
        self._console, self._links, self._run = console, links, run
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._due = time.monotonic() + LINE_S
        self._past: deque[tuple[float, int, int]] = deque()  # time, samples, inferences

    def __enter__(self) -> View:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, observed: Observed, device: Device) -> None:
        """Show what is known now."""
        facts = dict(self._facts(observed, device))
        if self._live is not None:
            self._live.update(self._table(facts, observed), refresh=True)
        elif time.monotonic() >= self._due:
            self._due += LINE_S
            self._console.print("; ".join(facts.values()), soft_wrap=True, highlight=False)

    def _facts(self, observed: Observed, device: Device) -> Iterator[tuple[str, str]]:
        inferences = sum(device.inferences.values())
        sent, inferred = self._rates(observed.sent, inferences)
        yield "sensor", f"{observed.sent:,} samples sent, {sent:,.0f}/s; {device.received:,} received"
        yield "models", f"{inferences:,} inferences, {inferred:,.1f}/s"
        seen = (f"{len(observed.arrivals[place]):,} {where}" for place, where in _PLACES.items())
        yield "events", f"{', '.join(seen)}; {device.backlog:,} wait for the relay"
        found = latencies(observed)
        yield "latency", "sensor to " + ", ".join(f"{name} {spoken(found[name])}" for name in found)
        yield "bearing", self._bearing(observed)

    def _rates(self, sent: int, inferences: int) -> tuple[float, float]:
        now = time.monotonic()
        self._past.append((now, sent, inferences))
        while now - self._past[0][0] > RATE_S:
            self._past.popleft()
        since, sent_then, inferences_then = self._past[0]
        seconds = max(now - since, 1e-3)
        return (sent - sent_then) / seconds, (inferences - inferences_then) / seconds

    def _bearing(self, observed: Observed) -> str:
        done = max(0, observed.sent - 1) % self._run.samples - self._run.fault_at
        state = f"damaged {done / RATE:.0f} s ago" if done > 0 else f"damage begins in {-done / RATE:.0f} s"
        scores = [event.data[_SCORE] for event in _events(observed) if _SCORE in event.data]
        return f"{state}; score {scores[-1]:.2f}" if scores else state

    def _table(self, facts: dict[str, str], observed: Observed) -> Group:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold")
        for name, text in (self._links | facts).items():
            table.add_row(name, text)
        newest = _events(observed)[-EVENTS:]
        lines = [Text(_line(event), _STYLES.get(event.severity, ""), no_wrap=True) for event in newest]
        return Group(table, Text(), *lines, Text("\nCtrl-C ends it", "dim"))


def spoken(latency: Latency) -> str:
    """Return a latency's p50 and p99."""
    return "–" if latency.p50 is None else f"{latency.p50:.1f} / {latency.p99:.1f} ms"


def _events(observed: Observed) -> list[Event]:
    return list(observed.events.values())


def _line(event: Event) -> str:
    data = " ".join(
        f"{name}={value:.2f}" if isinstance(value, float) else f"{name}={value}"
        for name, value in event.data.items()
    )
    return f"{event.time[11:23]}  {event.type:<18} {event.subject:<8} {data}"
