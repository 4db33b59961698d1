from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeflow_agent.core.snapshot import MARKS, Snapshots, create, settled


@pytest.fixture
def fd() -> Iterator[int]:
    descriptor = create()
    yield descriptor
    os.close(descriptor)


def after_death(fd: int) -> Snapshots:
    """What the next worker finds."""
    return Snapshots(fd)


def test_there_is_nothing_to_resume_from_at_first(fd: int) -> None:
    assert Snapshots(fd).resume(0) is None
    assert Snapshots(fd).resume(7) is None


def test_a_snapshot_that_nothing_names_is_not_resumed_from(fd: int) -> None:
    Snapshots(fd).write(1, b"one")
    assert after_death(fd).resume(0) is None


def test_the_snapshot_the_journal_names_is_resumed_from(fd: int) -> None:
    snapshots = Snapshots(fd)
    snapshots.write(1, b"one")
    snapshots.write(2, b"two")  # written, but its transaction never happened
    assert after_death(fd).resume(1) == (1, b"one")
    assert after_death(fd).resume(2) == (2, b"two")


def test_the_newer_of_named_and_settled_wins(fd: int) -> None:
    snapshots = Snapshots(fd)
    snapshots.write(4, b"four")
    snapshots.settle(4)
    snapshots.write(5, b"five")
    assert after_death(fd).resume(3) == (4, b"four")
    assert after_death(fd).resume(5) == (5, b"five")
    assert settled(fd) == 4


def test_a_snapshot_cut_off_by_death_harms_only_itself(fd: int) -> None:
    snapshots = Snapshots(fd)
    snapshots.write(6, b"six")
    snapshots.settle(6)
    with pytest.raises(TypeError):
        snapshots.write(7, [1, 2, 3])  # type: ignore[arg-type] # fails with the slot already taken
    assert after_death(fd).resume(7) is None
    assert after_death(fd).resume(6) == (6, b"six")


@given(st.lists(st.tuples(st.integers(0, 400_000), st.booleans()), max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_one_before_stays_whole_however_large_they_grow(sizes: list[tuple[int, bool]]) -> None:
    fd = create()
    snapshots = Snapshots(fd)
    named, before = 0, b""
    for serial, (size, commits) in enumerate(sizes, 1):
        data = bytes([serial]) * size
        snapshots.write(serial, data)
        if named:
            assert after_death(fd).resume(named) == (named, before)
        if not commits:  # no event named it, so it is settled before the next is written
            snapshots.settle(serial)
        named, before = serial, data
        assert after_death(fd).resume(serial) == (serial, data)
    os.close(fd)


def test_the_row_in_hand_and_the_marks_outlive_a_worker_and_growth(fd: int) -> None:
    snapshots = Snapshots(fd)
    assert (snapshots.trying, snapshots.tries) == (-1, 0)
    marks = snapshots.marks()
    assert (len(marks), set(marks)) == (MARKS, {0})
    snapshots.trying, snapshots.tries = 0, 2
    marks[MARKS - 1] = 7 << 40
    snapshots.write(1, bytes(1_000_000))
    marks[0] = 5
    for seen in (snapshots, after_death(fd)):
        assert (seen.trying, seen.tries) == (0, 2)
        assert (seen.marks()[0], seen.marks()[MARKS - 1]) == (5, 7 << 40)
