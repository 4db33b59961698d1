from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.inputs.topics import Pattern, disjoint, joined, overlap

LEVEL = st.sampled_from(["a", "b", "", "$sys"])
TOPICS = st.lists(LEVEL, min_size=1, max_size=4).map("/".join)
WILD = st.lists(st.sampled_from(["a", "b", "", "$sys", "+"]), min_size=1, max_size=4)
FILTERS = st.tuples(WILD, st.booleans()).map(lambda pair: "/".join([*pair[0], *(["#"] if pair[1] else [])]))


@pytest.mark.parametrize(
    ("pattern", "topic", "captured"),
    [
        ("plant/accel", "plant/accel", {}),
        ("plant/accel", "plant/accel/x", None),
        ("plant/{m}/accel", "plant/press-7/accel", {"m": "press-7"}),
        ("plant/{m}/accel", "plant//accel", {"m": ""}),
        ("plant/{m}/accel", "plant/a/b/accel", None),
        ("{site}/+/{m}", "s/x/y", {"site": "s", "m": "y"}),
        ("plant/#", "plant", {}),
        ("plant/#", "plant/a/b", {}),
        ("plant/#", "plants", None),
        ("#", "any/thing", {}),
        ("#", "$SYS/uptime", None),
        ("+/uptime", "$SYS/uptime", None),
        ("$SYS/#", "$SYS/uptime", {}),
        ("a.b/+", "axb/c", None),
        ("{m}", "line\nbreak", {"m": "line\nbreak"}),
    ],
)
def test_a_pattern_matches_as_the_standard_says(
    pattern: str, topic: str, captured: dict[str, str] | None
) -> None:
    assert Pattern(pattern).match(topic) == captured


@given(FILTERS, FILTERS, TOPICS)
def test_filters_that_match_one_topic_overlap(one: str, other: str, topic: str) -> None:
    if Pattern(one).match(topic) is not None and Pattern(other).match(topic) is not None:
        assert overlap(one, other)
        assert overlap(other, one)
        assert Pattern(joined(one, other)).match(topic) is not None


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("a/b", "a/b", "a/b"),
        ("a/+", "a/b", "a/+"),
        ("a/#", "a", "a/#"),
        ("a/+/c", "a/b/+", "a/+/+"),
        ("a/b/#", "a/+/c", "a/+/#"),
        ("a", "a/b", None),
        ("a/+", "a", None),
        ("#", "$SYS/x", None),
        ("$SYS/#", "$SYS/x", "$SYS/#"),
    ],
)
def test_overlapping_filters_are_joined_by_the_narrowest_that_covers_both(
    one: str, other: str, both: str | None
) -> None:
    assert overlap(one, other) == (both is not None)
    if both is not None:
        assert joined(one, other) == joined(other, one) == both


@given(st.lists(st.tuples(FILTERS, st.sampled_from([0, 1])), max_size=6), TOPICS)
def test_a_topic_is_matched_by_one_filter_at_most_and_at_the_highest_qos(
    filters: list[tuple[str, int]], topic: str
) -> None:
    found = [qos for name, qos in disjoint(filters).items() if Pattern(name).match(topic) is not None]
    asked = [qos for name, qos in filters if Pattern(name).match(topic) is not None]
    assert len(found) <= 1
    if asked:
        assert found[0] >= max(asked)


def test_filters_that_do_not_overlap_stay_as_they_are() -> None:
    filters = {"a/b": 0, "a/c": 1, "b/#": 0}
    assert disjoint([*filters.items()]) == filters
