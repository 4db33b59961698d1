"""When things happened, as known by now: boots with and without a clock."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from edgeflow_proto.event import Block, Clock
from edgeflow_proto.timeline import DRIFT_PPM, MAX_SYNCS, Boot, Sync, Timeline

S = 10**9
HOUR = 3600 * S
TODAY = 1_780_000_000 * S


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
    assert boot.learnt(Sync(S, TODAY - HOUR, 1000, "relay")) is boot
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
