from __future__ import annotations

import pytest

from edgeflow_agent.core.counters import Sample
from edgeflow_agent.web import rates, status, views


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (90061, "1 d 1 h")],
)
def test_time_spans_are_said_in_their_two_largest_units(seconds: float, text: str) -> None:
    assert status.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**40 * 2048, "2048.0 TiB")]
)
def test_sizes_are_said_in_a_unit_that_suits(count: int, text: str) -> None:
    assert status.size(count) == text


def test_a_quantile_is_the_limit_of_its_bucket() -> None:
    def bucket(le: str, count: int) -> Sample:
        return Sample("decision_us_bucket", {"le": le}, count)

    found = [bucket("inf", 0), bucket("1", 0), bucket("4", 1), bucket("2", 98), bucket("8", 1)]
    assert views.quantile(found, "decision_us", 0.5) == 2
    assert views.quantile(found, "decision_us", 0.99) == 4
    assert views.quantile(found, "decision_us", 1.0) == 8
    assert views.quantile([], "decision_us", 0.5) is None
    assert views.quantile([bucket("8", 0), bucket("inf", 3)], "decision_us", 0.5) == 8


def test_rejected_messages_are_shown_by_input_and_reason() -> None:
    found = [
        Sample("input_rejected_total", {"input": "accel", "reason": "json"}, 3),
        Sample("input_rejected_total", {"input": "accel", "reason": "nan"}, 0),
        Sample("input_rejected_total", {"input": "temp", "reason": "size"}, 1),
    ]
    assert status.rejected(found) == {"accel": {"json": 3}, "temp": {"size": 1}}


def test_a_rate_needs_two_looks_and_none_is_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr(rates.time, "monotonic", lambda: now[0])
    seen = rates.Rates()

    def looked(count: int) -> str:
        seen.look("a", count)
        return status.rate(seen.per_second("a"))

    assert looked(100) == "–"
    now[0] = 12.0
    assert looked(150) == "25.0"
    now[0] = 13.0
    assert looked(20) == "–"  # the worker is a new one
