"""What is said of the same rows again, held against a journal that has lost some of it, and is long."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

from edgeflow_proto.event import Clock, event_id
from edgeflow_proto.rows import Rows
from edgeflow_proto.setup import TYPE
from edgeflow_tools.cases import Tolerance
from edgeflow_tools.replay.journalled import Journalled
from edgeflow_tools.replay.player import Replay
from edgeflow_tools.replay.replayed import Against, Journal
from tests.tools.replay.test_replay import BASE, SECOND, TEXT, player, rows

Json = dict[str, Any]


def blocks(count: int = 40, ring: int = 1) -> list[Rows]:
    """Return commits of four rows, every other of which is high, of one boot for each ring."""
    clock = Clock(f"boot-{ring}", 0, "synchronised")
    return [rows(first, [0, 9, 0, 9], {"m": 0}, ring, clock=clock) for first in range(0, count, 4)]


def told(found: Iterable[Rows]) -> list[Json]:
    """Return what a device that ran these rows has in its journal, numbered from 1."""
    return [event.to_json() for made in Replay([player(TEXT)], "d").events(found) for event in made[0]]


def against(
    found: Iterable[Rows], journal: Iterable[Json], dropped: dict[str, int] | None = None, since: int = 0
) -> Against:
    replay = Replay([player(TEXT)], "d", since)
    held = Journal(replay, Journalled(journal, "d"), Tolerance(), dropped)
    for made in replay.events(found):
        held.again(made[0])
    return held.against()


def kinds(outcome: Against) -> dict[str, int]:
    counted = {"open": outcome.open}
    for counts in outcome.counts.values():
        for kind, count in counts.items():
            counted[kind] = counted.get(kind, 0) + count
    return {kind: count for kind, count in counted.items() if count}


def set_up(number: int, ring: int = 1) -> Json:
    data = {"generations": {"a": ring}}
    return {"id": event_id("run", number), "type": TYPE, "pipelinedigest": "d", "data": data}


def numbered(events: list[Json], begin: int) -> list[Json]:
    return [event | {"id": event_id("run", begin + place)} for place, event in enumerate(events)]


def test_what_the_whole_journal_does_not_have_is_gained() -> None:
    events = told(blocks())
    assert kinds(against(blocks(), events)) == {"same": len(events)}
    short = numbered([*events[:9], *events[11:]], 1)
    assert kinds(against(blocks(), short)) == {"same": len(events) - 2, "gained": 2}
    assert kinds(against(blocks(), numbered([*events[:9], events[8], *events[9:]], 1)))["lost"] == 1


def test_before_the_first_event_that_a_journal_still_has_nothing_is_gained() -> None:
    events = told(blocks())
    assert kinds(against(blocks(), events[20:])) == {"same": len(events) - 20, "open": 20}
    begun = [set_up(2000), *numbered(events[20:], 2001)]  # as each segment begins
    assert kinds(against(blocks(), begun)) == {"same": len(events) - 20, "open": 20}
    fresh = [set_up(1, ring=2), *numbered(told(blocks(ring=2)), 2)]  # a journal that was begun later
    assert set(kinds(against([*blocks(), *blocks(ring=2)], fresh))) == {"same", "open"}


def test_where_numbers_are_missing_nothing_is_gained() -> None:
    events = told(blocks(80))
    outcome = kinds(against(blocks(80), [*events[:20], *events[40:]]))
    assert outcome == {"same": len(events) - 20, "open": 20}


def test_what_a_disk_cost_is_not_gained() -> None:
    events = told(blocks())
    short = numbered([*events[:9], *events[11:]], 1)
    assert kinds(against(blocks(), short, {"boot-1": 20 * SECOND})) == {"same": len(events) - 2, "open": 2}
    assert kinds(against(blocks(), short, {"boot-1": 5 * SECOND}))["gained"] == 2


def test_what_a_killed_agent_did_not_get_to_write_is_not_gained() -> None:
    before, after = told(blocks()), told(blocks(ring=2))
    journal = numbered([*before[:-2], *after], 1)
    assert set(kinds(against([*blocks(), *blocks(ring=2)], journal))) == {"same", "open"}


def test_a_device_writes_by_output() -> None:
    events = [event | {"decidedns": str(event["sequence"])[:-1]} for event in told(blocks())]
    by_output = sorted(events, key=lambda event: (event["decidedns"], event["output"]))
    assert kinds(against(blocks(), numbered(by_output, 1))) == {"same": len(events)}


def test_no_more_of_a_journal_is_read_than_there_are_rows_and_no_more_is_kept_than_a_while() -> None:
    event, taken = told(blocks())[0], 0

    def long() -> Iterator[Json]:
        nonlocal taken
        for number in range(1, 100_000):
            taken += 1
            row = BASE + number // 100
            span = {"inputspan": f"a:{row}-{row}", "id": event_id("run", number)}
            yield event | span | {"monotonicns": str(number * SECOND)}

    tracemalloc.start()
    outcome = against(blocks(1000)[200:], long(), since=900 * SECOND)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 90_000 <= taken < 100_000  # of rows 900 to 999, and those before
    assert peak < 32 << 20
    assert outcome.open + sum(counts["lost"] for counts in outcome.counts.values()) > 9_000


def test_behind_the_rows_no_more_is_read_than_what_was_written_at_once() -> None:
    events = told(blocks(400))
    journal = iter(event | {"decidedns": str(1 + place // 10)} for place, event in enumerate(events))
    assert kinds(against(blocks(40), journal)) == {"same": 39}
    assert next(journal)["decidedns"] == "6"


def tail(found: Iterable[Rows], journal: Iterable[Json], since: int | None = None, **bounds: Any) -> int:
    """Return how many events of a journal are told to be of rows that are not recorded."""
    replay = Replay([player(TEXT)], "d", since)
    held = Journal(replay, Journalled(journal, "d"), Tolerance())
    for made in replay.events(found):
        held.again(made[0])
    held.behind(**{"beyond": {}, **bounds})
    outcome = held.against()
    assert outcome.to_json()["not_compared"] == {"not recorded": outcome.unrecorded}
    assert not outcome.differences
    return outcome.unrecorded


def test_events_of_rows_that_are_not_recorded_are_counted() -> None:
    events = numbered([*told(blocks()), *told(blocks(ring=2))], 1)
    first = len(told(blocks()))
    assert tail([*blocks(), *blocks(ring=2)], events) == 0
    killed = [*blocks()[:-1], *blocks(ring=2)]  # what was written last before a kill is not recorded
    assert tail(killed, events) == 4
    assert tail([*blocks(), *blocks(ring=2)[:-1]], events) == 4  # nor before the last one
    assert tail([*blocks()[:3], *blocks()[5:], *blocks(ring=2)], events) == 8
    assert tail(blocks()[:-1], events[:first]) == 4


def test_events_of_rows_that_were_not_asked_for_are_not() -> None:
    events = told(blocks())
    assert tail(blocks(), events, since=20 * SECOND) == 0
    assert tail(blocks()[5:], events, since=20 * SECOND) == 0
    assert tail(blocks()[:5], events, beyond={"a": BASE + 20}, until=20 * SECOND) == 0
    assert tail(blocks()[:5], events, beyond={"a": BASE + 28}) == 8
    assert tail(blocks()[:5], events, until=23 * SECOND) == 4


def test_of_very_many_differences_the_first_are_kept_and_all_are_counted(monkeypatch: Any) -> None:
    monkeypatch.setattr("edgeflow_tools.replay.replayed.MOST", 5)
    outcome = against(blocks(), [])
    assert outcome.open > 5
    events = told(blocks())
    louder = [event | {"severity": "error"} for event in events]
    outcome = against(blocks(), louder)
    assert (len(outcome.differences), outcome.untold) == (5, len(events) - 5)
    assert outcome.to_json()["untold"] == len(events) - 5


def test_what_was_run_with_other_parameters_is_another_versions() -> None:
    found = [*blocks(), *blocks(ring=2)]
    events = told(found)
    replay = Replay([player(TEXT)], "d", otherwise={1})
    held = Journal(replay, Journalled(events, "d", {1}), Tolerance())
    for made in replay.events(found):
        held.again(made[0])
    assert (replay.other, replay.rows) == (40, 40)
    assert len(events) == 79  # the end of the first ring's last alarm came with the second ring's rows
    assert kinds(held.against()) == {"same": 39, "open": 1}
