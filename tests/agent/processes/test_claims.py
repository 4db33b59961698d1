"""Room for bundles, beside a store that takes all of its budget."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeflow_agent.config import Settings, StorageSettings
from edgeflow_agent.core.board import Board, create
from edgeflow_agent.processes import claims
from edgeflow_agent.processes.claims import Claims
from edgeflow_agent.processes.storage import Reserved, Storage
from edgeflow_agent.store.budget import headroom
from edgeflow_agent.store.journal import Journal
from edgeflow_proto.pipeline.units import Size
from tests.support.bulk import bulk, taken

MB = 1 << 20
BUDGET = 64 * MB


class Full:
    """Two journals that have grown to their limits, and what looks after them."""

    def __init__(self, store: Path) -> None:
        (store / "journals").mkdir()
        (store / "staging").mkdir()
        board, settings = Board(create()), Settings(storage=StorageSettings(Size(BUDGET), Size(MB)))
        slots = (board.slot(0), board.slot(2))
        self.store = store
        self.storage = Storage(store, settings, Reserved(MB, "_agent", MB), slots, lambda *_: None)
        self.storage.look({"a": False, "b": False})
        self.journals = {
            name: Journal(store / "journals" / name, limits.journal)
            for name, limits in self.storage.limits.items()
        }
        for _ in range(60):
            self.turn()

    def turn(self) -> int:
        """Commit a megabyte to each, then look, as a second does; returns what all takes."""
        for journal in self.journals.values():
            journal.commit([bulk(), bulk()])
        self.storage.look(dict.fromkeys(self.journals, False))
        for name, journal in self.journals.items():
            journal.trim(self.storage.limits[name].journal)
        return taken(self.store)

    def close(self) -> None:
        for journal in self.journals.values():
            journal.close()


def test_the_budget_holds_while_a_bundle_comes_in(tmp_path: Path) -> None:
    full, answers, size = Full(tmp_path), list[str](), 20 * MB
    full.storage.claim(1, size, answers.append)
    assert full.turn() < BUDGET
    assert answers == []  # nobody has given up anything yet
    full.turn()
    assert answers == [""]
    with (tmp_path / "staging" / "model").open("wb", buffering=0) as file:
        for _ in range(20):
            file.write(bytes(MB))
            assert full.turn() <= BUDGET
    full.storage.release(1)
    taken = [full.turn() for _ in range(10)]
    assert BUDGET * 3 // 4 < max(taken) <= BUDGET
    full.close()


def test_a_small_bundle_does_not_wait(tmp_path: Path) -> None:
    full, answers = Full(tmp_path), list[str]()
    full.storage.claim(1, headroom(BUDGET) // 2, answers.append)
    full.turn()
    assert answers == [""]
    full.close()


def test_a_bundle_that_would_take_more_than_half_from_events_is_refused_at_no_cost(
    tmp_path: Path,
) -> None:
    full, answers = Full(tmp_path), list[str]()
    before = {name: journal.limit for name, journal in full.journals.items()}
    full.storage.claim(1, BUDGET // 2 + MB, answers.append)
    full.turn()
    assert "more than the" in answers[0]
    assert {name: journal.limit for name, journal in full.journals.items()} == before
    full.close()


def test_room_that_is_not_made_in_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answers = Claims(), list[str]()
    asked.claim("a", 10, answers.append)
    asked.give(fits=False)
    assert answers == []
    monkeypatch.setattr(claims, "boottime_ns", lambda: 1 << 62)
    asked.give(fits=False)
    assert "not made in time" in answers[0]
    assert asked.coming(0) == 0


def test_what_is_stored_of_a_claim_is_not_counted_twice() -> None:
    asked, answers = Claims(), list[str]()
    assert asked.coming(500) == 0
    asked.claim("a", 100, answers.append)
    asked.claim(7, 50, answers.append)
    assert asked.coming(500) == 150
    assert asked.coming(580) == 70
    asked.give(fits=True)
    asked.release("a")
    assert asked.coming(600) == 50
    asked.forget(int)
    assert (answers, asked.coming(600)) == (["", ""], 0)


def test_what_is_stored_of_one_bundle_does_not_refuse_another() -> None:
    asked, answers = Claims(), dict[str, str]()
    asked.coming(0)
    asked.claim("a", 100, lambda why: answers.update(a=why))
    assert asked.coming(0) == 100
    asked.give(fits=True)
    asked.claim("b", 60, lambda why: answers.update(b=why))
    asked.claim("c", 60, lambda why: answers.update(c=why))
    asked.refuse(80, asked.coming(90))  # 10 of them are still to come for "a"
    assert answers == {"a": "", "c": "60 bytes are more than the 10 there can be room for"}
    asked.give(fits=True)
    assert answers["b"] == ""
