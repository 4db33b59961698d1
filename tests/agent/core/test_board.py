from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from edgeflow_agent.core.board import BUCKETS, ENTRIES, OVERFLOW, SLOTS, Board, Histogram, create, labelled
from edgeflow_agent.core.clock import boottime_ns


@pytest.fixture
def fd() -> Iterator[int]:
    descriptor = create()
    yield descriptor
    os.close(descriptor)


def test_others_read_what_the_owner_counts(fd: int) -> None:
    own, other = Board(fd).slot(SLOTS - 1), Board(fd).slot(SLOTS - 1)
    own.counter("rows_total").add(3)
    own.counter("rows_total").add()
    own.counter("connected").set(-1)
    assert other.read() == {"rows_total": 4, "connected": -1}
    assert Board(fd).slot(0).read() == {}


def test_a_restarted_process_counts_on(fd: int) -> None:
    Board(fd).slot(3).counter("a").add(5)
    slot = Board(fd).slot(3)
    assert slot.counter("a").value == 5
    slot.counter("b").add(1)
    assert slot.read() == {"a": 5, "b": 1}


def test_a_slot_handed_out_again_is_empty(fd: int) -> None:
    slot = Board(fd).slot(3)
    slot.counter("a").add(5)
    slot.beat()
    slot.clear()
    assert (slot.read(), slot.beaten, slot.counter("a").value) == ({}, 0, 0)


def test_a_beat_is_now(fd: int) -> None:
    slot = Board(fd).slot(1)
    before = boottime_ns()
    slot.beat()
    assert before <= Board(fd).slot(1).beaten <= boottime_ns()


def test_the_longest_names_of_inputs_fit_and_longer_ones_share_their_beginning(fd: int) -> None:
    slot = Board(fd).slot(0)
    name = labelled("input_rejected_total", pipeline="p" * 63, input="i" * 63, reason="unknown_field")
    slot.counter(name).add()
    assert slot.read() == {name: 1}
    for _ in range(2):
        slot = Board(fd).slot(0)
        slot.counter("ö" * 200).add()
        slot.counter("ö" * 200).add()
    assert slot.read() == {name: 1, "ö" * 123: 4}


def test_a_full_slot_says_so(fd: int) -> None:
    slot = Board(fd).slot(0)
    for index in range(ENTRIES + 20):
        slot.counter(f"c{index}").add()
    counts = slot.read()
    assert len(counts) == ENTRIES
    assert counts[OVERFLOW] == 21
    assert Board(fd).slot(1).read() == {}


def test_a_histogram_counts_in_buckets_that_double(fd: int) -> None:
    slot = Board(fd).slot(0)
    histogram = Histogram(slot, "decision")
    for us, count in ((0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (5, 10), (10**9, 1)):
        histogram.record(us * 1000, count)
    histogram.record(-5)
    counts = slot.read()
    wanted = {1: 3, 2: 1, 4: 2, 8: 10, float("inf"): 1}
    for limit in BUCKETS:
        assert counts[f'decision_us_bucket{{le="{limit:g}"}}'] == wanted.get(limit, 0), limit
    assert counts["decision_us_sum"] == 1 + 2 + 3 + 4 + 50 + 10**9


def test_labels_are_escaped() -> None:
    assert labelled("a", b='x"y\\z\n', c="d") == 'a{b="x\\"y\\\\z\\n",c="d"}'


def test_what_nobody_counts_takes_no_memory(fd: int) -> None:
    slot = Board(fd).slot(SLOTS - 1)
    slot.counter("a").add()
    slot.clear()
    assert os.fstat(fd).st_blocks * 512 <= 16 << 10
