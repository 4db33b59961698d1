"""Events of several journals as one sequence, over any pages."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeflow_agent.core.notice import notice
from edgeflow_agent.store.journal import Journal
from edgeflow_agent.store.readers import Journals
from edgeflow_agent.web import feed
from edgeflow_agent.web.feed import Positions, Query
from edgeflow_proto.event import Block, Clock, Event, identity

QUERY = Query("dev")
CLOCK = Clock("boot", 10**18, "synchronised")


class Store:
    """Journals, written to between two looks: one process must not have a journal open twice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journals = Journals(folder)

    def add(self, name: str, *times: int, kind: str = "a") -> None:
        block = Block(
            output="o", type=kind, severity="info", count=len(times), clock=CLOCK,
            t=struct.pack(f"<{len(times)}q", *times),
        )  # fmt: skip
        self.write(name, block)

    def write(self, name: str, block: Block) -> None:
        self.journals.close()
        writer = Journal(self.folder / name, 4 << 20)
        writer.commit([block])
        writer.close()
        self.journals.refresh()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.journals.close()


def read(store: Store, query: Query, start: Positions | None = None) -> list[Event]:
    """Read to the end, each page through the text of its cursor."""
    out: list[Event] = []
    cursor = feed.encode(start or {})
    while True:
        page = feed.page(store.journals, feed.decode(cursor), query)
        out += [event for event, _ in page.events]
        cursor = feed.encode(page.positions)
        if not page.more:
            return out


def test_journals_are_merged_by_time_each_in_its_own_order(store: Store) -> None:
    store.add("a", 1, 4, 5)
    store.add("b", 2, 3, 9)
    store.add("a", 6)
    assert [(event.pipeline, event.t) for event in read(store, QUERY)] == [
        ("a", 1), ("b", 2), ("b", 3), ("a", 4), ("a", 5), ("a", 6), ("b", 9),
    ]  # fmt: skip


def test_pipeline_and_type_choose(store: Store) -> None:
    store.add("a", 1, 2)
    store.add("b", 3)
    store.add("b", 4, 5, kind="b")
    assert [event.t for event in read(store, Query("dev", pipeline="b"))] == [3, 4, 5]
    assert [event.t for event in read(store, Query("dev", type="b", limit=1))] == [4, 5]
    assert read(store, Query("dev", pipeline="nobody")) == []


def test_a_cursor_knows_what_came_late_with_an_earlier_time(store: Store) -> None:
    store.add("a", 10)
    page = feed.page(store.journals, {}, QUERY)
    store.add("b", 3)
    assert [event.t for event in read(store, QUERY, page.positions)] == [3]


def test_an_event_id_is_a_cursor(store: Store) -> None:
    store.add("a", 1, 2, 3)
    second = read(store, QUERY)[1]
    assert [event.t for event in read(store, QUERY, feed.decode(second.id))] == [3]


def test_a_journal_made_anew_is_read_from_its_beginning(store: Store, tmp_path: Path) -> None:
    store.add("a", 1, 2)
    positions = feed.latest(store.journals)
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    store.add("a", 7)
    assert [event.t for event in read(store, QUERY, positions)] == [7]


def test_one_event_is_found_by_its_id(store: Store) -> None:
    store.add("a", 1, 2, 3)
    store.add("a", 4, 5)
    for event in read(store, QUERY):
        journal, sequence = identity(event.id)
        assert feed.find(store.journals, journal, sequence, "dev") == event
    assert feed.find(store.journals, journal, 99, "dev") is None
    assert feed.find(store.journals, "other", 1, "dev") is None


def test_a_block_that_cannot_be_read_is_passed_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add("a", 1)
    with monkeypatch.context() as patch:
        patch.setattr(Block, "encode", lambda self: b"broken")
        store.add("a", 2, 3)
    store.add("a", 4)
    assert [event.sequence for event in read(store, QUERY)] == [1, 4]


def test_a_page_reads_a_bounded_amount_and_says_there_is_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "SCAN_BYTES", 500)
    monkeypatch.setattr(feed, "_READ_BYTES", 100)
    for t in range(20):
        store.add("a", t)
    page = feed.page(store.journals, {}, Query("dev", type="none"))
    assert (page.events, page.more) == ([], True)
    assert read(store, Query("dev", type="none")) == []
    assert len(read(store, QUERY)) == 20


@pytest.mark.parametrize(
    "text", ["x", "a-b", "a-1.", "a-1,b-2", "a-" + "9" * 30, "é-1", ".".join(["a-1"] * 2000)]
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        feed.decode(text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    blocks=st.lists(
        st.tuples(st.sampled_from("abc"), st.lists(st.integers(0, 50), min_size=1, max_size=5)), max_size=12
    ),
    limit=st.integers(1, 7),
)
def test_any_pages_give_every_event_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[str, list[int]]], limit: int
) -> None:
    store = Store(tmp_path_factory.mktemp("feed"))
    for name, times in blocks:
        store.add(name, *times)
    events = read(store, Query("dev", limit=limit))
    store.journals.close()
    assert len({event.id for event in events}) == len(events) == sum(len(times) for _, times in blocks)
    for name in "abc":
        sequences = [event.sequence for event in events if event.pipeline == name]
        assert sequences == sorted(sequences)


def test_the_agents_own_events_are_read_like_any_other(store: Store) -> None:
    store.write("_agent", notice("gap", "warning", {"reason": "reboot"}, CLOCK, 5))
    assert read(store, QUERY)[0].data == {"reason": "reboot"}
