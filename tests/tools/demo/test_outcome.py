"""The closing summary: what it counts, and what it takes amiss."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from edgeflow_tools.demo.observed import DEVICE, MIRROR, PLACES, RELAY, Observed
from edgeflow_tools.demo.outcome import Device, Outcome, judge, quantile
from edgeflow_tools.sim.bearing import Run

RUN = Run(seed=1, seconds=10.0, life=10.0)  # damaged at sample 4000
GENERATION = 3 << 40


def event(number: int, row: int, kind: str = "bearing.anomaly", pipeline: str = "bearing-watch") -> bytes:
    """Return an event decided 2 ms after the message that carries `row` was published."""
    return json.dumps({
        "id": f"j-{number}", "source": f"/devices/demo/pipelines/{pipeline}", "type": kind, "data": {},
        "time": "2026-01-01T00:00:00Z", "inputspan": f"accel:{GENERATION + row - 511}-{GENERATION + row}",
        "decidedns": str(row // 100 * 100_000_000 + 2_000_000),
    }).encode()  # fmt: skip


def observed(rows: Sequence[int], places: Sequence[str] = PLACES) -> Observed:
    """Return what is seen when 100 messages are sent and alarms have these last rows."""
    out = Observed(published=[message * 100_000_000 for message in range(100)], sent=10_000)
    for number, row in enumerate(rows):
        for place in places:
            out.take(place, event(number, row))
    return out


def judged(seen: Observed, received: int = 10_000) -> Outcome:
    return judge(seen, Device(received, {"bearing-watch": 149}), RUN, "mosquitto")


def test_all_is_well() -> None:
    outcome = judged(observed([4927]))
    assert outcome.well
    assert (outcome.sent, outcome.received, outcome.lost) == (10_000, 10_000, 0)
    assert outcome.events == {"device": 1, "relay": 1, "mirror": 1}
    assert (outcome.fault_at, outcome.found_at) == (4.0, 4.928)


@pytest.mark.parametrize(
    ("seen", "received", "problem"),
    [
        (observed([4927]), 9_900, "100 of 10,000 samples were lost"),
        (observed([4927], [DEVICE, RELAY]), 10_000, "1 event is missing at the mirror"),
        (observed([4927], [RELAY, MIRROR]), 10_000, "1 event is missing at the device"),
        (observed([3999, 4927]), 10_000, "1 alarm before the damage, the first after 4.0 s"),
        (observed([]), 10_000, "the damage was not found"),
    ],
)
def test_what_is_not_well_is_said(seen: Observed, received: int, problem: str) -> None:
    outcome = judged(seen, received)
    assert problem in outcome.problems
    assert not outcome.well


def test_damage_that_has_hardly_begun_need_not_be_found() -> None:
    seen = observed([])
    seen.sent = 6_000
    endless = judge(seen, Device(6_000), Run(seed=1, seconds=None, life=10.0), "mosquitto")
    assert (endless.well, endless.ended_early) == (True, True)
    assert judged(seen, 6_000).problems == ["ended before the damage could be found"]


def test_a_part_that_died_is_the_first_of_the_problems() -> None:
    outcome = judge(observed([4927]), Device(10_000), RUN, "mosquitto", "relay ended with code -9")
    assert outcome.problems == ["relay ended with code -9"]


def test_damage_of_a_later_bearing_is_no_early_alarm_and_one_before_it_is() -> None:
    assert judged(observed([4927, 14_927])).well
    assert judged(observed([4927, 12_000])).problems == ["1 alarm before the damage, the first after 12.0 s"]


def test_an_event_delivered_twice_counts_once_and_is_told() -> None:
    seen = observed([4927])
    seen.take(MIRROR, event(0, 4927))
    outcome = judged(seen)
    assert (outcome.events[MIRROR], outcome.repeats, outcome.well) == (1, 1, True)


def test_latency_begins_when_the_message_with_the_last_sample_was_published() -> None:
    seen = observed([4927, 5503])
    seen.arrivals[DEVICE] = {"j-0": 4_900_000_000 + 5_000_000, "j-1": 5_500_000_000 + 9_000_000}
    seen.take(DEVICE, event(7, 100, "host.state", "host-watch"))
    latency = judged(seen).latency_ms
    assert (latency["decision"].p50, latency["decision"].p99) == (2.0, 2.0)
    assert (latency["journal"].p50, latency["journal"].p99) == (5.0, 9.0)


def test_quantiles_are_values_that_occurred() -> None:
    values = [number * 1_000_000 for number in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99)) == (50.0, 99.0)
    assert quantile([7_000_000], 0.99) == 7.0
    assert quantile([], 0.5) is None
