"""When things happened, as known by now: boots with and without a clock."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from edgeflow_proto.event import Block, Clock
from edgeflow_proto.timeline import DENIALS, DRIFT_PPM, MAX_SYNCS, Boot, Sync, Timeline, following

S = 10**9
HOUR = 3600 * S
TODAY = 1_780_000_000 * S
YEARS = 10 * 365 * 24 * HOUR


def written(boot: str, offset: int = 0, quality: str = "unsynchronised") -> Clock:
    return Clock(boot, offset, quality)  # type: ignore[arg-type]


def test_what_was_known_when_it_was_written_stands() -> None:
    clock = Clock("a", TODAY, "synchronised", 1000)
    boots = [Boot("a", syncs=(Sync(0, TODAY + HOUR, 1, "relay"),))]
    assert Timeline(boots).clock(clock, 5 * S) is clock


def test_a_boot_that_nobody_remembers_stands_as_written() -> None:
    clock = written("lost", 12)
    assert Timeline([Boot("a")]).clock(clock, 5) is clock


def test_a_boot_in_1970_is_dated_by_its_reading_and_drift_counts() -> None:
    timeline = Timeline([Boot("a", syncs=(Sync(HOUR, TODAY, 5_000_000, "synchronised"),))])
    early = timeline.clock(written("a", 3 * S), 100 * S)
    assert (early.offset_ns, early.quality) == (TODAY, "corrected")
    assert early.uncertainty_ns == 5_000_000 + (HOUR - 100 * S) * DRIFT_PPM // 10**6


def test_a_clock_that_a_reading_agrees_with_is_left_as_it_is() -> None:
    timeline = Timeline([Boot("a", syncs=(Sync(S, TODAY, 4_000_000, "relay"),))])
    assert timeline.clock(written("a", TODAY - 1_000_000), S) == Clock(
        "a", TODAY - 1_000_000, "relay", 5_000_000
    )


def test_the_nearest_reading_counts_where_there_are_several() -> None:
    syncs = (Sync(S, TODAY, 1000, "synchronised"), Sync(HOUR, TODAY + 7, 1000, "synchronised"))
    timeline = Timeline([Boot("a", syncs=syncs)])
    assert timeline.clock(written("a"), 2 * S).offset_ns == TODAY
    assert timeline.clock(written("a"), HOUR - S).offset_ns == TODAY + 7


def test_boots_without_a_clock_lie_between_what_came_before_and_after() -> None:
    boots = [
        Boot("known", seen_ns=HOUR, syncs=(Sync(S, TODAY, 0, "synchronised"),)),
        Boot("first", floor_ns=TODAY + HOUR, seen_ns=2 * HOUR),
        Boot("second", floor_ns=TODAY + 3 * HOUR, seen_ns=HOUR),
        Boot("again", seen_ns=S, syncs=(Sync(S, TODAY + 10 * HOUR, 0, "relay"),)),
    ]
    clock = Timeline(boots).clock(written("first"), HOUR)
    # No earlier than an hour behind the floor, no later than the rest of it and all of the next one before
    # the boot whose time is known.
    earliest, latest = TODAY + 2 * HOUR, TODAY + 8 * HOUR
    assert clock.quality == "corrected"
    assert clock.uncertainty_ns is not None
    middle = HOUR + clock.offset_ns
    assert abs(middle - (earliest + latest) // 2) <= S
    assert middle - clock.uncertainty_ns <= earliest
    assert latest <= middle + clock.uncertainty_ns


def test_what_was_written_after_a_boot_was_last_seen_is_no_later_than_the_next_boot() -> None:
    boots = [Boot("a", TODAY, 0), Boot("b", TODAY, syncs=(Sync(0, TODAY + HOUR, 0, "relay"),))]
    clock = Timeline(boots).clock(written("a"), 60 * S)
    assert clock.uncertainty_ns is not None
    assert 60 * S + clock.offset_ns + clock.uncertainty_ns <= TODAY + HOUR + S


def test_a_clock_nobody_vouches_for_is_kept_where_it_can_be_right() -> None:
    boots = [Boot("a", floor_ns=TODAY, seen_ns=HOUR)]
    right = written("a", TODAY + HOUR)
    assert Timeline(boots).clock(right, S) is right
    assert Timeline(boots).clock(written("a", 0), S) == Clock("a", TODAY, "unsynchronised")


def test_a_new_reading_is_kept_when_it_says_something_new() -> None:
    boot = Boot("a").learnt(Sync(S, TODAY, 1000, "synchronised"))
    assert boot.learnt(Sync(2 * S, TODAY + 100, 1000, "synchronised")) is boot
    assert len(boot.learnt(Sync(2 * S, TODAY + 10**9, 1000, "synchronised")).syncs) == 2
    assert len(boot.learnt(Sync(2 * HOUR, TODAY, 1000, "synchronised")).syncs) == 2
    assert boot.learnt(Sync(2 * S, TODAY + 10**9, 1000, "relay")) is boot  # the kernel knows better


def test_the_relay_is_not_believed_when_it_says_what_has_passed() -> None:
    boot = Boot("a", floor_ns=TODAY)
    assert not boot.learnt(Sync(S, TODAY - HOUR, 1000, "relay")).syncs
    assert boot.learnt(Sync(S, TODAY + HOUR, 1000, "relay")).syncs


def test_readings_do_not_grow_without_end_and_the_first_one_stays() -> None:
    boot = Boot("a")
    for hour in range(100):
        boot = boot.learnt(Sync(2 * hour * HOUR, TODAY + hour, 1000, "synchronised"))
    assert len(boot.syncs) == MAX_SYNCS
    assert (boot.syncs[0].boottime_ns, boot.syncs[-1].boottime_ns) == (0, 198 * HOUR)


def test_a_block_is_dated_and_all_else_of_it_stays() -> None:
    block = Block(
        output="o", type="t", severity="info", count=1, clock=written("a"), t=struct.pack("<q", 5 * S)
    )
    timeline = Timeline().learnt("a", Sync(S, TODAY, 0, "relay"))
    dated = timeline.dated(block)
    assert (dated.clock.offset_ns, dated.clock.quality) == (TODAY, "corrected")
    assert dated.t == block.t
    assert Timeline().dated(block) is block


def ran(boot: Boot, how_long: int = 8 * HOUR) -> Boot:
    return Boot(boot.id, boot.floor_ns, how_long, boot.syncs, boot.denials, boot.denied_ns)


def wall(boots: Sequence[Boot], clock: Clock, t: int) -> int:
    return t + Timeline(boots).clock(clock, t).offset_ns


def test_the_newest_reading_is_believed_however_certain_the_ones_before_were() -> None:
    boot = Boot("a").learnt(Sync(10 * S, TODAY + YEARS, 1000, "synchronised"))
    boot = ran(boot.learnt(Sync(70 * S, TODAY, 10_000_000, "synchronised")))
    for t in (5 * S, 20 * S, 300 * S, 3 * HOUR):
        clock = Timeline([boot]).clock(written("a"), t)
        assert (clock.offset_ns, clock.quality) == (TODAY, "corrected")
    assert TODAY < boot.ended_ns <= TODAY + 8 * HOUR


def test_what_was_written_by_a_clock_that_the_kernel_corrected_later_is_corrected() -> None:
    boot = Boot("a").learnt(Sync(10 * S, TODAY + YEARS, 1000, "synchronised"))
    wrong = Clock("a", TODAY + YEARS, "synchronised", 1000)
    assert Timeline([boot]).clock(wrong, 20 * S) is wrong
    boot = boot.learnt(Sync(70 * S, TODAY, 1000, "synchronised"))
    assert Timeline([boot]).clock(wrong, 20 * S).offset_ns == TODAY
    right = Clock("a", TODAY, "synchronised", 1000)
    assert Timeline([boot]).clock(right, 80 * S) is right


def test_one_wrong_reading_among_many_costs_none_of_the_others() -> None:
    boot = Boot("a")
    for hour in range(100):
        wrong = YEARS if hour in (0, 50) else 0
        boot = boot.learnt(Sync(2 * hour * HOUR, TODAY + wrong, 1000, "synchronised"))
    assert len(boot.syncs) == MAX_SYNCS
    assert [sync.boottime_ns for sync in boot.syncs[:2]] == [2 * HOUR, 2 * 93 * HOUR]
    assert {sync.offset_ns for sync in boot.syncs} == {TODAY}


def nightly(first: Boot, count: int) -> list[Boot]:
    """Return a boot, and those of the days behind it, to each of which the relay says the time once."""
    boots = [first]
    for day in range(1, count + 1):
        boot = following(boots, f"day{day}")
        boots.append(ran(boot.learnt(Sync(600 * S, TODAY + 24 * day * HOUR, 10**7, "relay"))))
    return boots


def test_a_relay_that_was_ten_years_ahead_once_is_believed_again_and_all_days_are_right() -> None:
    boots = nightly(ran(Boot("day0").learnt(Sync(10 * S, TODAY + YEARS, 10**7, "relay"))), 6)
    assert [len(boot.syncs) for boot in boots] == [1, *[0] * (DENIALS - 1), *[1] * (7 - DENIALS)]
    for day, boot in enumerate(boots):
        for t in (0, 60 * S, 8 * HOUR):
            wrong = abs(wall(boots, written(boot.id), t) - (TODAY + 24 * day * HOUR + t))
            assert wrong <= (S + 10 * HOUR if day >= DENIALS else YEARS * 6)
    assert boots[-1].floor_ns < TODAY + 6 * 24 * HOUR


def test_days_between_a_wrong_one_and_the_first_right_one_lie_where_they_can() -> None:
    before = ran(Boot("before").learnt(Sync(0, TODAY - 24 * HOUR, 0, "synchronised")))
    wrong = ran(following([before], "day0").learnt(Sync(10 * S, TODAY + YEARS, 10**7, "relay")))
    boots = [before, *nightly(wrong, 6)]
    for day, boot in enumerate(boots[1:]):
        clock = Timeline(boots).clock(written(boot.id), HOUR)
        assert clock.quality == "corrected"
        assert clock.uncertainty_ns is not None
        assert abs(HOUR + clock.offset_ns - (TODAY + (24 * day + 1) * HOUR)) <= clock.uncertainty_ns
        assert clock.uncertainty_ns < 5 * 24 * HOUR


def test_what_a_boot_wrote_as_synchronised_does_not_stand_against_a_later_boot() -> None:
    wrong = ran(Boot("a").learnt(Sync(S, TODAY + YEARS, 1000, "synchronised")))
    later = Boot("b").learnt(Sync(S, TODAY + 24 * HOUR, 1000, "synchronised"))
    clock = Clock("a", TODAY + YEARS, "synchronised", 1000)
    assert Timeline([wrong]).clock(clock, HOUR) is clock
    assert HOUR + Timeline([wrong, later]).clock(clock, HOUR).offset_ns < TODAY + 24 * HOUR
    early = Clock("a", TODAY, "synchronised", 1000)  # before the clock went wrong
    assert Timeline([wrong, later]).clock(early, S // 2) is early


def test_a_relay_whose_own_time_begins_anew_is_not_believed() -> None:
    boot = Boot("a", floor_ns=TODAY)
    for again in range(10):  # it stands in 1970 each time
        boot = boot.learnt(Sync(again * HOUR, -again * HOUR + 60 * S * (10 - again), 1000, "relay"))
    assert not boot.syncs
    for _ in range(DENIALS - 1):  # it is set at last
        assert not boot.syncs
        boot = boot.learnt(Sync(11 * HOUR, TODAY - HOUR, 1000, "relay"))
    assert boot.syncs


spans = st.integers(0, 10 * HOUR)


@given(spans, spans, spans, spans, spans, st.integers(-(10**7), 10**7))
def test_corrected_times_are_right_within_what_is_stated(
    before: int, first: int, off: int, second: int, at: int, error: int
) -> None:
    """Two boots without a clock between two with one; the truth is known here."""
    start = TODAY + before + S  # of the first one, wall time
    again = start + first + off + second + S
    boots = [
        Boot("before", seen_ns=before, syncs=(Sync(0, TODAY, 0, "synchronised"),)),
        Boot("first", floor_ns=TODAY + before, seen_ns=first),
        Boot("second", floor_ns=TODAY + before + first, seen_ns=second),
        Boot("again", syncs=(Sync(S, again + error, abs(error), "relay"),)),
    ]
    t = min(at, first)
    clock = Timeline(boots).clock(written("first", 7), t)
    assert clock.uncertainty_ns is not None
    assert abs(t + clock.offset_ns - (start + t)) <= clock.uncertainty_ns


@given(st.lists(st.tuples(st.integers(1, 48), st.booleans()), min_size=2, max_size=12), st.integers(0, 11))
def test_one_wrong_reading_of_any_boot_is_healed_by_the_next_boot_that_is_dated(
    days: list[tuple[int, bool]], wrong: int
) -> None:
    """Boots of an hour, so many hours apart, dated by the kernel or not; the truth is known here."""
    boots, starts, start = list[Boot](), list[int](), TODAY
    for place, (hours, dated) in enumerate([*days, (1, True)]):
        start += (hours + 1) * HOUR
        starts.append(start)
        boot = following(boots, f"b{place}")
        if place == wrong or dated:
            error = YEARS if place == wrong and place < len(days) else 0
            boot = boot.learnt(Sync(0, start + error, 1000, "synchronised"))
        boots.append(ran(boot, HOUR))
    for boot, start in zip(boots, starts, strict=True):
        clock = Timeline(boots).clock(written(boot.id), 0)
        assert clock.quality == "unsynchronised" or clock.uncertainty_ns is not None
        if clock.uncertainty_ns is not None:
            assert abs(clock.offset_ns - start) <= clock.uncertainty_ns
