"""How bytes are divided: never more than there are, and by worth when it is tight."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.store.budget import (
    AHEAD,
    GROWTH,
    LEAST,
    LEAST_ROWS,
    Limits,
    Pot,
    Store,
    fair,
    granted,
    most,
    pot,
    split,
    targets,
)

MB = 1 << 20
sizes = st.integers(0, 200 * MB)
stores = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.builds(Store, sizes, sizes, sizes, st.booleans(), st.booleans()),
    min_size=1,
)


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 10**9)), st.integers(0, 10**9))
def test_a_fair_share_is_what_is_wanted_or_as_much_as_anybody_gets(wanted: dict[str, int], room: int) -> None:
    given_ = fair(wanted, room)
    assert sum(given_.values()) <= room
    most = max(given_.values(), default=0)
    for name, amount in wanted.items():
        assert given_[name] <= amount
        assert given_[name] == amount or given_[name] >= most - 1 - len(wanted)
    if sum(wanted.values()) > room and wanted:
        assert sum(given_.values()) > room - len(wanted)


@given(stores, st.integers(0, 1000 * MB))
def test_limits_are_never_above_the_room(found: dict[str, Store], room: int) -> None:
    limits = targets(found, room)
    assert limits.keys() == found.keys()
    assert sum(limit.total for limit in limits.values()) <= room


@given(stores, st.integers(64 * MB, 4000 * MB))
def test_what_the_relay_has_goes_first_then_recordings(found: dict[str, Store], room: int) -> None:
    limits = targets(found, room)
    short_of_events = [n for n, s in found.items() if limits[n].journal < s.unacked]
    short_of_rows = [n for n, s in found.items() if limits[n].recording < s.recorded]
    kept_acked = [n for n, s in found.items() if limits[n].journal > s.unacked + 9 * MB]
    if short_of_events:
        assert not any(limits[n].recording for n in found)
    if short_of_events or short_of_rows:
        assert not kept_acked


def test_a_busy_pipeline_pushes_out_nothing_of_a_quiet_one() -> None:
    found = {"busy": Store(0, 500 * MB), "quiet": Store(0, 10 * MB)}
    limits = targets(found, 100 * MB)
    assert limits["quiet"].journal >= 10 * MB
    assert limits["busy"].journal >= 70 * MB


def test_each_journal_has_the_least_it_needs() -> None:
    limits = targets({str(n): Store(0, 100 * MB) for n in range(10)}, 20 * MB)
    assert all(limit.journal >= LEAST for limit in limits.values())


QUIET = Store(0, 50_000)  # a segment that holds hardly anything


def test_a_device_that_is_almost_empty_has_room_to_record() -> None:
    for room, others in ((9 * MB, 1), (25 * MB, 2), (900 * MB, 200)):
        limits = targets(
            {**{str(n): QUIET for n in range(others)}, "press": QUIET._replace(records=True)}, room
        )
        assert limits["press"].recording >= LEAST_ROWS


def test_what_is_recorded_does_not_go_for_a_pipeline_that_has_nothing_yet() -> None:
    found = {"a": QUIET, "press": QUIET._replace(records=True, recorded=20 * MB)}
    assert targets(found, 25 * MB)["press"].recording >= 20 * MB
    assert targets({**found, "new": Store()}, 25 * MB)["press"].recording >= 20 * MB


@given(stores, st.integers(64 * MB, 4000 * MB))
def test_nobody_has_room_to_grow_while_something_recorded_has_no_room(
    found: dict[str, Store], room: int
) -> None:
    limits = targets(found, room)
    share = room // (AHEAD * max(1, sum(store.written for store in found.values())))
    if any(limits[name].recording < store.recorded for name, store in found.items()):
        for name, store in found.items():
            next_ = min(GROWTH, max(LEAST, share, store.unacked // 2)) if store.written else 0
            assert limits[name].journal <= store.unacked + next_
            assert limits[name].recording <= store.recorded


def test_events_grow_at_the_cost_of_what_is_recorded() -> None:
    found = {"press": Store(0, 14 * MB, 40 * MB, records=True)}
    assert targets(found, 50 * MB) == {"press": Limits(21 * MB, 29 * MB)}


def test_a_burst_of_events_has_room_beside_rows_that_take_all_of_it() -> None:
    found = {"press": QUIET._replace(recorded=900 * MB, records=True), "other": QUIET}
    assert all(limit.journal > GROWTH for limit in targets(found, 900 * MB).values())


def test_who_never_writes_again_has_no_room_to_grow() -> None:
    gone = Store(3 * MB, 2 * MB, 4 * MB, written=False)
    limits = targets({"gone": gone, "here": QUIET}, 900 * MB)
    assert limits["gone"] == Limits(5 * MB, 4 * MB)
    assert sum(limit.total for limit in limits.values()) == 900 * MB


def test_bundles_need_not_leave_room_for_journals_that_nobody_writes() -> None:
    here = [Store(), Store()]
    gone = [Store(written=False)] * 10
    assert most(64 * MB, 0, [*here, *gone], 900 * MB, 0) == most(64 * MB, 0, here, 900 * MB, 0)


def test_a_limit_rises_only_by_what_others_have_given_up() -> None:
    before = {"a": Limits(80 * MB), "b": Limits(10 * MB)}
    found = {"a": Store(80 * MB), "b": Store(0, 10 * MB)}
    target = {"a": Limits(40 * MB), "b": Limits(60 * MB)}
    first = granted(before, target, found, 100 * MB)
    assert first == {"a": Limits(40 * MB), "b": Limits(20 * MB)}  # what nobody has
    second = granted(first, target, found | {"a": Store(40 * MB)}, 100 * MB)
    assert second == target


@given(stores, st.integers(0, 1000 * MB), st.integers(0, 1000 * MB))
def test_what_is_taken_and_what_is_granted_never_exceeds_the_room_by_more_than_was_taken(
    found: dict[str, Store], before_room: int, room: int
) -> None:
    before = targets(found, before_room)
    limits = granted(before, targets(found, room), found, room)
    could_be = sum(max(limit.total, found[name].total) for name, limit in limits.items())
    assert could_be <= max(room, sum(store.total for store in found.values()))


def test_after_a_start_everyone_gets_what_it_had_and_the_rest() -> None:
    found = {"a": Store(0, 40 * MB), "b": Store(30 * MB, 5 * MB)}
    target = targets(found, 100 * MB)
    assert sum(limit.total for limit in target.values()) > 99 * MB
    assert granted({}, target, found, 100 * MB) == target


def test_where_others_fill_the_disk_what_is_stored_makes_room() -> None:
    found = [Store(30 * MB, 10 * MB), Store(0, 0, 10 * MB)]
    assert pot(100 * MB, 10 * MB, found, free=500 * MB, floor=20 * MB) == Pot(90 * MB)
    assert pot(100 * MB, 10 * MB, found, free=5 * MB, floor=20 * MB) == Pot(35 * MB, hold=True)


def test_events_that_nobody_else_has_are_held_where_others_fill_the_disk() -> None:
    found = [Store(30 * MB, 10 * MB), Store(0, 0, 10 * MB)]
    assert pot(100 * MB, 10 * MB, found, free=0, floor=90 * MB) == Pot(10 * MB, hold=True)
    assert pot(15 * MB, 10 * MB, found, free=0, floor=90 * MB) == Pot(5 * MB, hold=True)


def test_whole_segments_are_acknowledged() -> None:
    segments = [(1, 10), (101, 20), (201, 30)]
    assert split(segments, 0) == (0, 60)
    assert split(segments, 100) == (10, 50)
    assert split(segments, 150) == (10, 50)
    assert split(segments, 500) == (30, 30)  # the newest one is being written to
    assert split([], 5) == (0, 0)
