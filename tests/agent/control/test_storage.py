"""What pipelines that are gone have left makes room for those that are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from edgeflow_agent.config import Settings, StorageSettings
from edgeflow_agent.control.storage import Reserved, Storage
from edgeflow_agent.core.board import Board, create, labelled
from edgeflow_agent.store import budget, segment
from edgeflow_agent.store.budget import LEAST_ROWS, Limits, Pot
from edgeflow_agent.store.journal import Durable, Journal
from edgeflow_agent.store.readers import Journals, Unreadable
from edgeflow_agent.store.retention import evict
from edgeflow_proto.pipeline.units import Size
from tests.support.bulk import bulk, taken

MB = 1 << 20
BUDGET = 16 * MB  # of which 9 are for pipelines
NAMES = [f"pump-{n}" for n in range(20)]


class Device:
    """Journals of pipelines below a small budget, one of which runs at a time."""

    def __init__(self, store: Path) -> None:
        (store / "journals").mkdir()
        self.store, self._board = store, Board(create())
        settings = Settings(storage=StorageSettings(Size(BUDGET), Size(MB)))
        self.told: list[dict[str, Any]] = []
        slots = (self._board.slot(0), self._board.slot(2))
        self.storage = Storage(store, settings, Reserved(MB, "_agent", MB), slots, self._tell)

    def _tell(self, name: str, _severity: str, data: Mapping[str, Any]) -> None:
        self.told += [dict(data)] if name == "gap" else []

    def journal(self, name: str) -> Path:
        return self.store / "journals" / name

    def ack(self, name: str, sequence: int) -> None:
        self._board.slot(2).counter(labelled("uplink_acked", pipeline=name)).set(sequence)

    def evicted(self, name: str) -> int:
        return self._board.slot(0).counter(labelled("events_evicted_total", pipeline=name)).value

    def looks(self, running: Mapping[str, bool], resting: Mapping[str, bool] | None = None) -> None:
        for _ in range(len(NAMES)):
            self.storage.look(running, resting or {})

    def run(self, name: str, commits: int, *, acks: bool = False) -> tuple[int, int]:
        """Run a pipeline for some time; return how many events it had, and how many its worker let go."""
        self.storage.look({name: False})
        self.storage.begin(name)
        for _ in range(3):
            self.storage.look({name: False})
        journal, gone = Journal(self.journal(name), self.storage.limit(name).journal), 0
        for _ in range(commits):
            evicted = journal.commit([bulk(500)], 1, Durable("d", b"state"))
            gone += evicted.count if evicted is not None else 0
            if acks:
                self.ack(name, journal.next - 1)
            self.storage.look({name: False})
            evicted = journal.trim(self.storage.limit(name).journal)
            gone += evicted.count if evicted is not None else 0
            assert taken(self.store) <= BUDGET
        journal.close()
        return journal.next - 1, gone

    def left(self, name: str) -> int:
        found = Journals(self.store / "journals")
        found.refresh()
        known = found.get(name)
        first, last = known.bounds if known is not None else (1, 0)
        found.close()
        return last - first + 1


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path)
    yield device
    assert taken(tmp_path) <= BUDGET


def test_what_the_relay_has_of_pipelines_that_are_gone_keeps_no_new_one_from_storing(device: Device) -> None:
    for name in NAMES:
        device.run(name, 60, acks=True)
    assert device.told == []
    assert device.storage.limit(NAMES[-1]).journal > 2 * MB
    assert not device.journal(NAMES[0]).exists()


def test_without_a_relay_the_oldest_goes_and_each_event_is_accounted_for(device: Device) -> None:
    written = {name: device.run(name, 60) for name in NAMES}
    device.looks({})
    for name, (count, gone) in written.items():
        lost = sum(gap["last"] - gap["first"] + 1 for gap in device.told if gap["pipeline"] == name)
        assert lost == device.evicted(name)
        assert count == gone + lost + device.left(name)
    assert device.told


def test_a_pipeline_that_was_here_before_begins_anew_and_who_reads_follows(device: Device) -> None:
    device.run(NAMES[0], 60, acks=True)
    known = Journals(device.store / "journals")
    assert known.refresh()
    before = known.get(NAMES[0])
    assert before is not None
    device.storage.begin(NAMES[0])
    evict(device.journal(NAMES[0]), 0, before.bounds[1], device.told.append, end=before.bounds[1] + 1)
    with pytest.raises(Unreadable):
        _ = before.bounds
    with pytest.raises(Unreadable):
        before.read(0)
    assert device.run(NAMES[0], 1)[0] == 500
    assert known.refresh()
    after = known.get(NAMES[0])
    assert after is not None
    assert after.id != before.id
    assert after.bounds == (1, 500)
    known.close()


def test_a_pipeline_whose_worker_is_away_keeps_its_newest_segment(device: Device) -> None:
    device.run("press", 20, acks=True)
    newest = segment.names(device.journal("press"))[-1]
    device.storage.limits = {}
    for name in NAMES:
        device.looks({name: True}, {"press": False})
    assert newest.exists()


def test_what_nobody_records_any_more_goes_entirely(device: Device) -> None:
    recording = Journal(device.store / "recordings" / "press", 4 * MB)
    recording.commit([bulk(2000)])
    recording.close()
    device.looks({"press": False})
    assert (device.store / "recordings" / "press").exists()  # while there is room for it
    for _ in range(3):
        device.run("other", 200)
    assert not (device.store / "recordings" / "press").exists()
    gone = device._board.slot(0).counter(labelled("recording_evicted_total", pipeline="press"))
    assert gone.value == 2000


def held(room: int) -> Any:
    return lambda *_: Pot(room, hold=True)


def test_what_the_relay_does_not_have_is_held_where_others_fill_the_disk(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, _ = device.run("press", 20)
    monkeypatch.setattr("edgeflow_agent.control.storage.pot", held(0))
    device.looks({})
    assert device.left("press") == count
    device.ack("press", count)
    device.looks({})
    assert not device.journal("press").exists()
    assert device.told == []


def test_what_the_relay_had_of_a_journal_before_says_nothing_of_this_one(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, _ = device.run("press", 20)
    device.ack("press", count + 1)
    monkeypatch.setattr("edgeflow_agent.control.storage.pot", lambda *_: Pot(0))
    device.looks({})
    assert not device.journal("press").exists()
    assert device.told == [
        {"pipeline": "press", "reason": "evicted", "first": 1, "last": count, "events_lost": count}
    ]


def test_who_records_is_told_how_much_that_may_take(device: Device) -> None:
    device.looks({"press": True, **dict.fromkeys(NAMES[:2], False)})
    told = device._board.slot(0).read()[labelled("recording_limit_bytes", pipeline="press")]
    assert told == device.storage.limit("press").recording >= LEAST_ROWS


def test_a_limit_rises_by_as_much_as_there_is() -> None:
    found = {"gone": budget.Store(unacked=8 * MB, written=False), "new": budget.Store()}
    target = {"gone": Limits(5 * MB), "new": Limits(4 * MB)}
    assert budget.granted({"gone": Limits(8 * MB)}, target, found, 9 * MB)["new"] == Limits(MB)
