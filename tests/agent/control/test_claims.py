"""Room for bundles, beside a store that takes all of its budget."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.config import Settings, StorageSettings
from edgeflow_agent.control import claims
from edgeflow_agent.control.claims import Claims
from edgeflow_agent.control.storage import Reserved, Storage
from edgeflow_agent.core.board import Board, create
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
    full.storage.claim(1, size, tmp_path / "staging", answers.append)
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
    full.storage.claim(1, headroom(BUDGET) // 2, tmp_path / "staging", answers.append)
    full.turn()
    assert answers == [""]
    full.close()


def test_a_bundle_that_would_take_more_than_half_from_events_is_refused_at_no_cost(
    tmp_path: Path,
) -> None:
    full, answers = Full(tmp_path), list[str]()
    before = {name: journal.limit for name, journal in full.journals.items()}
    full.storage.claim(1, BUDGET // 2 + MB, tmp_path / "staging", answers.append)
    full.turn()
    assert "more than the" in answers[0]
    assert {name: journal.limit for name, journal in full.journals.items()} == before
    full.close()


class Folders:
    """Claims, and folders that take as many bytes as is said."""

    def __init__(self) -> None:
        self.taken, self.answers = dict[str, int](), dict[Hashable, str]()
        self.claims = Claims(lambda folder: self.taken.get(folder.name, 0))

    def claim(self, key: Hashable, size: int, folder: str) -> None:
        self.claims.claim(key, size, Path(folder), lambda why: self.answers.update({key: why}))

    def coming(self, **taken: int) -> int:
        self.taken |= taken
        self.claims.look()
        return self.claims.coming


def test_room_that_is_not_made_in_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Folders()
    asked.claim("a", 10, "x")
    asked.claims.give(fits=False)
    assert asked.answers == {}
    monkeypatch.setattr(claims, "boottime_ns", lambda: 1 << 62)
    asked.claims.give(fits=False)
    assert "not made in time" in asked.answers["a"]
    assert asked.coming() == 0


def test_what_is_stored_of_a_claim_is_not_counted_twice() -> None:
    asked = Folders()
    assert asked.coming(blobs=500) == 0
    asked.claim("a", 100, "blobs")
    asked.claim(7, 50, "put")
    assert asked.coming() == 150
    assert asked.coming(blobs=580) == 70
    asked.claims.give(fits=True)
    asked.claims.release("a")
    assert asked.coming(blobs=600) == 50
    asked.claims.forget(int)
    assert (asked.answers, asked.coming()) == ({"a": "", 7: ""}, 0)


def test_what_is_stored_of_one_bundle_does_not_refuse_another() -> None:
    asked = Folders()
    asked.claim("a", 100, "x")
    assert asked.coming() == 100
    asked.claims.give(fits=True)
    asked.claim("b", 60, "y")
    asked.claim("c", 60, "z")
    assert asked.coming(x=90) == 130  # 10 of them are still to come for "a"
    asked.claims.refuse(80)
    assert asked.answers["c"].startswith("60 bytes are more than the 10 there can be room for now")
    asked.claims.give(fits=True)
    assert asked.answers["b"] == ""


def test_a_claim_takes_the_place_of_the_one_before_under_its_key() -> None:
    asked = Folders()
    for size in (20, 40, 60):
        asked.claim("press", size, "x")
        assert asked.coming() == size
    asked.claims.give(fits=True)
    assert asked.answers == {"press": ""}


def test_bundles_that_came_and_went_on_are_not_counted_while_another_comes() -> None:
    asked = Folders()
    asked.claim("slow", 50, "blobs")
    for number in range(10):
        asked.claim(number, 20, f"put{number}")
        asked.claims.give(fits=True)
        assert asked.coming(**{f"put{number}": 20}) == 50
        assert asked.coming(**{f"put{number}": 0}) == 50  # it has got its place, where it counts itself
        asked.claims.release(number)
    asked.claim("fits", 30, "y")
    asked.claims.refuse(80)
    asked.claims.give(fits=True)
    assert asked.answers["fits"] == ""
    assert asked.coming(blobs=30) == 50


sizes = st.integers(1, 100)


@given(st.lists(st.tuples(st.integers(0, 4), sizes, st.integers(0, 100)), max_size=40))
def test_what_is_coming_is_what_the_open_claims_have_not_written(steps: list[tuple[int, int, int]]) -> None:
    """Each step claims anew under one of five keys, writes some of it, and every third one releases it."""
    asked, left = Folders(), dict[int, int]()
    for place, (key, size, written) in enumerate(steps):
        asked.claim(key, size, f"f{place}")
        left[key] = max(0, size - written)
        assert asked.coming(**{f"f{place}": written}) == sum(left.values())
        if place % 3 == 0:
            asked.claims.release(key)
            del left[key]
    asked.claims.forget(int)
    assert asked.coming() == 0
