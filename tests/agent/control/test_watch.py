"""The watched folder, with a bundle in it that cannot be copied."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import pytest

from edgeflow_agent.control import watch
from edgeflow_agent.control.claims import Answer
from edgeflow_agent.control.offers import Trial
from edgeflow_agent.control.watch import WatchedFolder
from edgeflow_agent.core.background import Background
from edgeflow_agent.core.reactor import Reactor
from edgeflow_proto.bundle import MAX_BYTES, MAX_FILES


class Storage:
    """Has room for `left` bytes."""

    def __init__(self) -> None:
        self.left, self.held, self.asked = 1 << 20, set[Hashable](), list[int]()

    def never(self, size: int) -> str:
        return ""

    def claim(self, key: Hashable, size: int, folder: Path, answer: Answer) -> None:
        self.held.add(key)
        self.asked.append(size)
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


class Watched:
    """A watched folder, and the loop it is looked at in."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder, self.store = tmp_path / "pipelines.d", tmp_path / "store"
        self.folder.mkdir()
        self.store.mkdir()
        self.loop, self.offers, self.storage = Reactor(), Offers(self.store), Storage()
        parts: Any = (self.offers, self.storage, Background(self.loop))
        self.watch = WatchedFolder(self.folder, *parts)

    def lay(self, name: str, **files: bytes) -> Path:
        """Lay a bundle, or more files into it."""
        (self.folder / name).mkdir(exist_ok=True)
        for stem, data in {"pipeline": b"edgeflow: 1", **files}.items():
            (self.folder / name / f"{stem}.yaml").write_bytes(data)
        return self.folder / name

    @property
    def taken(self) -> list[str]:
        return [trial.name for trial in self.offers.taken]

    @property
    def refused(self) -> dict[str, str]:
        return self.watch.refused

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30

        def turn() -> None:
            self.watch.turn()
            if condition() or time.monotonic() > deadline:
                self.loop.stop()

        self.loop.run(turn, 0.01)
        assert condition()


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr(watch, "SCAN_NS", 0)
    monkeypatch.setattr(watch, "REST_NS", 0)
    return Watched(tmp_path)


def content(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_a_bundle_that_cannot_be_copied_is_said_and_tried_again_and_holds_up_no_other(
    watched: Watched,
) -> None:
    (watched.lay("a") / "gone").symlink_to("nowhere")
    (watched.folder / "b.yaml").write_text("edgeflow: 1")
    watched.until(lambda: watched.taken == ["b"])
    assert "nowhere" in watched.refused["a"] or "gone" in watched.refused["a"]
    (watched.folder / "a" / "nowhere").touch()
    watched.until(lambda: watched.taken == ["b", "a"])
    assert watched.refused == {}


def test_a_bundle_there_is_no_room_for_is_said_and_taken_when_there_is(watched: Watched) -> None:
    (watched.folder / "b.yaml").write_text("edgeflow: 1")
    watched.storage.left = 100
    for _ in range(2):
        watched.watch.turn()
    assert "more than there is" in watched.refused["b"]
    assert (watched.taken, list(watched.store.iterdir()), watched.storage.held) == ([], [], set())
    watched.storage.left = 1 << 20
    watched.until(lambda: watched.taken == ["b"])
    assert (watched.refused, watched.storage.held) == ({}, set())
    assert content(watched.offers.taken[0].staging) == {"pipeline.yaml": b"edgeflow: 1"}


def test_what_has_no_room_is_not_tried_at_each_scan_unless_it_changes(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "REST_NS", 1 << 62)
    (watched.folder / "b.yaml").write_text("edgeflow: 1")
    watched.storage.left = 100
    watched.until(lambda: "b" in watched.refused)
    watched.storage.left = 1 << 20
    for _ in range(5):
        watched.watch.turn()
    assert watched.taken == []
    (watched.folder / "b.yaml").write_text("edgeflow: 1\n")
    watched.until(lambda: watched.taken == ["b"])


def test_the_loop_goes_on_while_a_bundle_is_copied(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, enough, fdatasync = threading.Event(), threading.Event(), os.fdatasync

    def slow(fd: int) -> None:
        begun.set()
        assert enough.wait(30)
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    watched.lay("a")
    watched.until(begun.is_set)
    watched.lay("a", more=b"what comes meanwhile is copied afterwards")
    for _ in range(3):
        watched.watch.turn()
    assert (watched.taken, watched.storage.held) == ([], {"a"})
    enough.set()
    watched.until(lambda: watched.taken == ["a", "a"])
    assert [len(content(trial.staging)) for trial in watched.offers.taken] == [1, 2]


def test_links_to_folders_are_followed_by_claim_copy_and_watch(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "models" / "deep").mkdir(parents=True)
    (tmp_path / "models" / "deep" / "m.onnx").write_bytes(bytes(100_000))
    (watched.lay("a") / "models").symlink_to(tmp_path / "models")
    watched.until(lambda: watched.taken == ["a"])
    found = content(watched.offers.taken[0].staging)
    assert found == {"pipeline.yaml": b"edgeflow: 1", "models/deep/m.onnx": bytes(100_000)}
    assert watched.storage.asked[0] > 100_000
    (tmp_path / "models" / "deep" / "m.onnx").write_bytes(b"another")
    watched.until(lambda: watched.taken == ["a", "a"])


def test_what_is_no_bundle_is_refused_before_room_is_made(watched: Watched) -> None:
    (watched.lay("circle") / "again").symlink_to(watched.folder / "circle")
    os.mkfifo(watched.lay("fifo") / "pipe")
    for number in range(MAX_FILES):
        (watched.lay("many") / f"{number}").touch()
    with (watched.lay("large") / "model.bin").open("wb") as file:
        file.truncate(MAX_BYTES)
    watched.watch.turn()
    assert "a link to a folder that it lies in" in watched.refused["circle"]
    assert "neither a file nor a folder" in watched.refused["fifo"]
    most = f"a bundle holds at most {MAX_FILES} files and {MAX_BYTES >> 20} MiB"
    assert most in watched.refused["many"]
    assert most in watched.refused["large"]
    assert (watched.storage.asked, list(watched.store.iterdir())) == ([], [])


def test_hidden_files_and_caches_are_no_part_of_a_bundle(watched: Watched) -> None:
    path = watched.lay("a")
    for name in (".git", "__pycache__"):
        (path / name).mkdir()
        (path / name / "x").write_bytes(b"x")
    watched.until(lambda: watched.taken == ["a"])
    assert set(content(watched.offers.taken[0].staging)) == {"pipeline.yaml"}


def test_a_file_that_grows_while_it_is_copied_is_tried_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fdatasync, grown = watched.lay("a", model=bytes(10)), os.fdatasync, list[int]()

    def growing(fd: int) -> None:
        if not grown:
            grown.append(fd)
            (path / "pipeline.yaml").write_bytes(bytes(100))
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", growing)
    watched.until(lambda: watched.taken == ["a"])
    assert content(watched.offers.taken[0].staging)["pipeline.yaml"] == bytes(100)
