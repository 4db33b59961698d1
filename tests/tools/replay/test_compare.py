"""Events of two runs held against each other."""

from __future__ import annotations

from typing import Any

import pytest

from edgeflow_tools.cases import Tolerance
from edgeflow_tools.replay.compare import Comparison, Said, said
from tests.support.traced import decided, journal

SECOND = 10**9


def event(seconds: float, value: float = 1.0, **changes: Any) -> Said:
    known: dict[str, Any] = {
        "output": "raised", "subject": "left", "boot": "b", "when": round(seconds * SECOND),
        "time": f"2026-01-01T00:00:{seconds:09.6f}Z", "severity": "warning", "span": "accel:0-9",
        "data": {"value": value},
    }  # fmt: skip
    return Said(**(known | changes))


def compared(
    before: list[Said], after: list[Said], near: float = 0, *, spans: bool = True
) -> tuple[int, list[str]]:
    """Return how many are the same, and the kinds of differences with what differs."""
    comparison = Comparison(Tolerance(), round(near * SECOND), spans=spans)
    for one in before:
        comparison.before(one)
    for other in after:
        comparison.after(other)
    found = [each.difference for each in comparison.settled()]
    return comparison.same.total(), [": ".join([each.kind, *each.what]) for each in found]


def test_what_is_compared_is_taken_from_any_event() -> None:
    (raised,) = journal(decided())
    found = said(raised)
    assert (found.output, found.subject, found.when, found.boot) == ("raised", "press-7", SECOND, "boot-1")
    carried = said(raised | {"clockquality": "payload", "time": "1970-01-01T00:00:05.000001Z"})
    assert carried.when == 5 * SECOND + 1000


def test_equal_events_are_the_same_in_whatever_order_they_come() -> None:
    events = [event(1), event(2), event(2, output="score"), event(2, subject="right")]
    assert compared(events, events[::-1]) == (4, [])
    assert compared([event(1, 1.0)], [event(1, 1.00001)]) == (1, [])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {"value": 2.0}}, "changed: value is 2, expected 1; ±0.000101 is allowed"),
        ({"data": {}}, "changed: value is missing"),
        ({"severity": "error"}, "changed: severity is error, expected warning"),
        ({"span": "accel:1-9"}, "changed: its rows are accel:1-9, expected accel:0-9"),
    ],
)
def test_what_differs_is_said(changes: dict[str, Any], words: str) -> None:
    assert compared([event(1)], [event(1, **changes)]) == (0, [words])


def test_rows_are_not_held_against_a_candidate() -> None:
    assert compared([event(1)], [event(1, span="accel:5-9")], spans=False) == (1, [])


def test_what_one_side_alone_has_is_lost_or_gained_in_the_order_of_time() -> None:
    assert compared([event(1), event(3)], [event(2), event(3)]) == (1, ["lost", "gained"])
    assert compared([event(1)], [event(1, boot="other")]) == (0, ["lost", "gained"])


def test_events_near_each_other_are_pairs_once_equal_times_are() -> None:
    assert compared([event(1)], [event(1.2)], 1) == (0, ["changed: it is +0.200 s away"])
    assert compared([event(1), event(1.2)], [event(1.2)], 1) == (1, ["lost"])
    assert compared([event(1), event(5)], [event(2.5), event(4.9)], 1) == (
        0, ["lost", "gained", "changed: it is -0.100 s away"],
    )  # fmt: skip


def test_what_is_old_is_settled_once_and_what_may_find_its_equal_waits() -> None:
    comparison = Comparison(Tolerance(), SECOND, spans=True)
    comparison.before(event(1))
    comparison.before(event(2), sure=False)
    comparison.age = 7
    comparison.before(event(3))
    comparison.after(event(2.5))
    (first, second) = comparison.settled(6)
    assert (first.difference.kind, first.sure, first.age) == ("lost", True, 0)
    assert (second.difference.kind, second.sure, second.age) == ("changed", False, 7)
    comparison.after(event(3))
    assert comparison.settled() == []
    assert comparison.same == {"raised": 1}
