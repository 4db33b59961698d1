"""The rules of one stream, without any I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.uplink.session import Batch, Session, backlog


@dataclass
class Memory:
    """A journal in memory: blocks of given counts, numbered from `first`."""

    pipeline: str
    counts: list[int]
    id: str = ""
    first: int = 1
    size: int = 10
    reads: int = field(default=0)

    def __post_init__(self) -> None:
        self.id = self.id or f"id-{self.pipeline}"

    @property
    def bounds(self) -> tuple[int, int]:
        return (self.first, self.first + sum(self.counts) - 1) if self.counts else (0, 0)

    def read(self, after: int, limit_bytes: int) -> list[tuple[int, int, bytes]]:
        self.reads += 1
        out, first = [], self.first
        for count in self.counts:
            if first + count - 1 > after:
                out.append((first, count, b"x" * self.size))
            first += count
        return out[:1]


def drain(session: Session, *sources: Memory) -> list[Batch]:
    out = []
    while (batch := session.next(sources)) is not None:
        out.append(batch)
        session.acknowledge(batch.journal, batch.last)
    return out


def test_blocks_go_as_stored_in_order_and_in_turn_between_journals() -> None:
    a, b = Memory("a", [2, 3, 1]), Memory("b", [1, 1])
    sent = [(batch.pipeline, batch.first, batch.count) for batch in drain(Session({}), a, b)]
    assert sent == [("a", 1, 2), ("b", 1, 1), ("a", 3, 3), ("b", 2, 1), ("a", 6, 1)]


def test_what_is_in_flight_is_bounded_by_number_and_by_bytes() -> None:
    many = Memory("a", [1] * 50)
    session = Session({}, max_batches=4, max_bytes=1000)
    assert len([batch for _ in range(10) if (batch := session.next([many]))]) == 4
    session.acknowledge(many.id, 3)
    assert session.in_flight == 1
    large = Memory("b", [1] * 5, size=600)
    session = Session({}, max_batches=16, max_bytes=1000)
    assert [session.next([large]) is not None for _ in range(3)] == [True, True, False]


def test_a_block_larger_than_the_window_goes_alone() -> None:
    huge = Memory("a", [1, 1], size=5000)
    session = Session({}, max_bytes=1000)
    assert session.next([huge]) is not None
    assert session.next([huge]) is None
    assert session.bytes_in_flight == 5000
    session.acknowledge(huge.id, 1)
    assert session.bytes_in_flight == 0
    assert session.next([huge]) is not None


def test_a_new_stream_goes_on_after_what_was_acknowledged() -> None:
    journal = Memory("a", [5, 5])
    session = Session({journal.id: 5})
    assert session.acknowledge(journal.id, 3) is False
    batch = session.next([journal])
    assert batch is not None
    assert (batch.first, batch.last) == (6, 10)


def test_an_acknowledgement_within_a_block_sends_that_block_again_whole() -> None:
    journal = Memory("a", [5, 5])
    batch = Session({journal.id: 7}).next([journal])
    assert batch is not None
    assert batch.first == 6


def test_a_journal_put_back_to_an_older_state_sends_nothing_until_it_is_a_new_one() -> None:
    journal = Memory("a", [5])
    session = Session({})
    session.acknowledge(journal.id, 9)
    assert session.conflict(journal)
    journal.counts.append(10)  # new events under numbers the relay knows as others
    session.acknowledge(journal.id, 20)
    assert session.next([journal]) is None
    journal.id = "another"
    assert session.next([journal]) is not None


def test_a_journal_put_back_is_in_conflict_however_far_it_grows() -> None:
    journal = Memory("a", [5])
    session = Session({journal.id: 3})
    session.acknowledge(journal.id, 9)
    assert session.conflict(journal)
    journal.counts.append(10)
    assert session.conflict(journal)
    assert session.next([journal]) is None
    assert session.stored(journal.id) == 3  # what was acknowledged before it was put back
    again = Session({journal.id: 9}, {journal.id: 3})
    assert again.next([journal]) is None
    assert again.stored(journal.id) == 3


def test_a_late_acknowledgement_of_an_unknown_journal_is_remembered_and_harms_nothing() -> None:
    session = Session({})
    assert session.acknowledge("unheard-of", 7)
    assert session.acked("unheard-of") == 7
    assert session.next([Memory("a", [1])]) is not None


def test_backlog_counts_what_is_held_and_not_acknowledged() -> None:
    assert backlog((0, 0), 0) == 0
    assert backlog((1, 10), 4) == 6
    assert backlog((5, 10), 2) == 6
    assert backlog((1, 10), 12) == 0


@given(
    journals=st.lists(st.lists(st.integers(1, 5), max_size=12), min_size=1, max_size=4),
    breaks=st.lists(st.integers(0, 8), max_size=6),
)
def test_over_any_breaks_every_event_arrives_in_order_and_unacknowledged_ones_again(
    journals: list[list[int]], breaks: list[int]
) -> None:
    sources = [Memory(f"p{i}", counts) for i, counts in enumerate(journals)]
    acked: dict[str, int] = {}
    received: dict[str, list[int]] = {source.id: [] for source in sources}
    for count in [*breaks, 10_000]:
        session = Session(acked, max_batches=3)
        for turn in range(count):
            batch = session.next(sources)
            if batch is None:
                break
            received[batch.journal] += range(batch.first, batch.last + 1)
            if turn % 2 or count == 10_000:
                session.acknowledge(batch.journal, batch.last)
                acked[batch.journal] = batch.last
    for source in sources:
        first_time = list(dict.fromkeys(received[source.id]))
        assert first_time == list(range(1, source.bounds[1] + 1))
