"""The watched folder, with a bundle in it that cannot be copied."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, cast

import pytest

from edgeflow_agent.processes import watch
from edgeflow_agent.processes.claims import Answer
from edgeflow_agent.processes.offers import Trial
from edgeflow_agent.processes.watch import WatchedFolder


class Storage:
    """Has room for `left` bytes."""

    def __init__(self) -> None:
        self.left, self.held = 1 << 20, set[Hashable]()

    def claim(self, key: Hashable, size: int, folder: Path, answer: Answer) -> None:
        self.held.add(key)
        answer("" if size <= self.left else f"{size} bytes are more than there is")

    def release(self, key: Hashable) -> None:
        self.held.discard(key)


class Offers:
    def __init__(self, store: Path) -> None:
        self.store, self.deployments, self.taken = store, dict[str, Any](), list[Trial]()

    def stage(self, name: str) -> Path:
        folder = self.store / f"{name}-{len(self.taken)}"
        folder.mkdir()
        return folder

    def offer(self, trial: Trial) -> None:
        self.taken.append(trial)

    def withdraw(self, name: str, origin: str) -> None:
        self.deployments.pop(name, None)


def test_a_bundle_that_cannot_be_copied_is_said_and_tried_again_and_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SCAN_NS", 0)
    folder, store = tmp_path / "pipelines.d", tmp_path / "store"
    (folder / "a").mkdir(parents=True)
    store.mkdir()
    (folder / "a" / "pipeline.yaml").write_text("edgeflow: 1")
    (folder / "a" / "gone").symlink_to("nowhere")
    (folder / "b.yaml").write_text("edgeflow: 1")
    offers = Offers(store)
    watched = WatchedFolder(folder, cast("Any", offers), cast("Any", Storage()))
    watched.turn()
    assert [trial.name for trial in offers.taken] == ["b"]
    assert "nowhere" in watched.refused["a"] or "gone" in watched.refused["a"]
    (folder / "a" / "nowhere").touch()
    watched.turn()
    assert [trial.name for trial in offers.taken] == ["b", "a"]
    assert watched.refused == {}


def test_a_bundle_there_is_no_room_for_is_said_and_taken_when_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SCAN_NS", 0)
    folder, store = tmp_path / "pipelines.d", tmp_path / "store"
    folder.mkdir()
    store.mkdir()
    (folder / "b.yaml").write_text("edgeflow: 1")
    offers, storage = Offers(store), Storage()
    storage.left = 100
    watched = WatchedFolder(folder, cast("Any", offers), cast("Any", storage))
    for _ in range(2):
        watched.turn()
    assert "more than there is" in watched.refused["b"]
    assert (offers.taken, list(store.iterdir()), storage.held) == ([], [], set())
    storage.left = 1 << 20
    watched.turn()
    assert [trial.name for trial in offers.taken] == ["b"]
    assert (watched.refused, storage.held) == ({}, set())
