"""What came of a demo: counts, latencies, and whether all is as it should be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec

from edgeflow_tools.demo.observed import DEVICE, MIRROR, PLACES, RELAY, Event, Observed, now_ns
from edgeflow_tools.sim.bearing import PER_MESSAGE, Run
from edgeflow_tools.sim.vibration import RATE
from edgeflow_tools.terminal import counted

PIPELINE = "bearing-watch"
FOUND = "bearing.anomaly"
ENDED = "ended before the damage could be found"
DUE_S = 3.0  # by when damage should have been found


class Latency(msgspec.Struct, frozen=True):
    """From the sensor's publish of the last sample behind an event, in ms; ``None`` without any event."""

    p50: float | None
    p99: float | None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The closing summary. `problems` says what is not as it should be, one line each."""

    broker: str
    seconds: float
    first_event: float | None  # seconds after the start of it all
    sent: int
    received: int
    lost: int
    inferences: dict[str, int]  # by pipeline
    events: dict[str, int]  # by place
    repeats: int  # deliveries beyond the first: the mirror delivers at least once
    latency_ms: dict[str, Latency]
    fault_at: float  # seconds after the sensor's start
    found_at: float | None
    ended_early: bool  # before the damage could be found
    problems: list[str]

    @property
    def well(self) -> bool:
        """Whether all is as it should be."""
        return not self.problems


class Device(msgspec.Struct, frozen=True):
    """The device's own counts."""

    received: int = 0
    inferences: dict[str, int] = {}
    backlog: int = 0


def judge(observed: Observed, device: Device, run: Run, broker: str, death: str = "") -> Outcome:
    """Put together what was seen; `death` says which part came to a bad end, if one did."""
    events = list(observed.events.values())
    alarms = sorted(event.last_row or 0 for event in events if event.type == FOUND)
    counts = {place: len(observed.seen(place)) for place in PLACES}
    found = next((row for row in alarms if row >= run.fault_at), None)
    early = found is None and observed.sent < run.fault_at + DUE_S * RATE
    problems = [death] if death else []
    return Outcome(
        broker=broker, seconds=_since(observed, now_ns()), first_event=_first_event(observed),
        sent=observed.sent, received=device.received, lost=observed.sent - device.received,
        inferences=device.inferences, events=counts, repeats=observed.twice,
        latency_ms=latencies(observed), fault_at=run.fault_at / RATE,
        found_at=None if found is None else (found + 1) / RATE,
        ended_early=early, problems=[*problems, *_problems(observed, device, run, alarms)],
    )  # fmt: skip


def _since(observed: Observed, at: int) -> float:
    return round((at - observed.started) / 1e9, 1)


def _first_event(observed: Observed) -> float | None:
    """Return when the first event that a pipeline decided on was on the device."""
    seen = observed.seen(DEVICE)
    ids = (event.id for event in list(observed.events.values()) if not event.type.startswith("edgeflow."))
    return min((_since(observed, seen[id_]) for id_ in ids), default=None)


def _problems(observed: Observed, device: Device, run: Run, alarms: Sequence[int]) -> Iterator[str]:
    if observed.sent != device.received:
        yield f"{observed.sent - device.received:,} of {observed.sent:,} samples were lost"
    seen = [observed.seen(place).keys() for place in PLACES]
    for place, here in zip(PLACES, seen, strict=True):
        if missing := len(set().union(*seen) - here):
            yield f"{counted(missing, 'event is', 'events are')} missing at the {place}"
    early = [row for row in alarms if row % run.samples < run.fault_at]
    if early:
        yield (
            f"{counted(len(early), 'alarm', 'alarms')} before the damage, "
            f"the first after {early[0] / RATE:.1f} s"
        )
    if not alarms and observed.sent >= run.fault_at + DUE_S * RATE:
        yield "the damage was not found"
    elif not alarms and run.seconds is not None:
        yield ENDED


def latencies(observed: Observed) -> dict[str, Latency]:
    """Return the latencies to decision, to the device's journal and to the mirror."""
    known = [(e, start) for e in list(observed.events.values()) if (start := _start(e, observed))]
    out = {"decision": _latency([int(event.decidedns) - start for event, start in known])}
    for name, place in (("journal", DEVICE), ("relay", RELAY), ("mirror", MIRROR)):
        seen = observed.seen(place)
        out[name] = _latency([seen[event.id] - start for event, start in known if event.id in seen])
    return out


def _start(event: Event, observed: Observed) -> int | None:
    """Return when the sensor published the last sample behind an event; ``None`` when it was another's."""
    row = event.last_row
    if row is None or event.pipeline != PIPELINE:
        return None
    message = row // PER_MESSAGE
    return observed.published[message] if message < len(observed.published) else None


def _latency(ns: list[int]) -> Latency:
    return Latency(quantile(ns, 0.5), quantile(ns, 0.99))


def quantile(ns: list[int], share: float) -> float | None:
    """Return the smallest value that at least this share does not exceed, in ms; ``None`` for none at all."""
    if not ns:
        return None
    ordered = sorted(ns)
    return round(ordered[math.ceil(share * len(ordered)) - 1] / 1e6, 2)
