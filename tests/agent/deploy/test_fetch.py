"""Bundles assembled from blobs, against a source that breaks off, lies or has nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgeflow_agent.deploy.fetch import Fetcher
from edgeflow_proto.bundle import MANIFEST_FILE, FileEntry, Manifest, make_manifest, sha256

FILES = {"pipeline.yaml": b"edgeflow: 1\n", "models/m.onnx": os.urandom(10_000), "empty.py": b""}


@dataclass
class Source:
    files: dict[str, bytes]
    breaks: int = 0  # how often to break off half-way
    lie: bool = False
    asked: list[tuple[str, int]] = field(default_factory=list)

    async def fetch(self, digest: str, offset: int) -> AsyncGenerator[bytes, None]:
        self.asked.append((digest, offset))
        data = {sha256(data): data for data in self.files.values()}[digest]
        if self.lie:
            data = bytes(len(data))
        half = offset + (len(data) - offset) // 2
        yield data[offset:half]
        if self.breaks and len(data) > 100:
            self.breaks -= 1
            raise ConnectionError("cut")
        yield data[half:]


def manifest(name: str = "p", files: dict[str, bytes] = FILES) -> Manifest:
    return make_manifest(name, files, {})


@dataclass
class Room:
    """Has room for `left` bytes while it does not `refuse`; `most` is what was had at once."""

    left: int = 1 << 30
    refuse: Callable[[], bool] = bool
    held: int = 0
    most: int = 0

    @contextlib.asynccontextmanager
    async def claim(self, size: int, _: Path) -> AsyncIterator[None]:
        if size > self.left or self.refuse():
            raise OSError(errno.ENOSPC, f"no room for {size} bytes")
        self.held += size
        self.most = max(self.most, self.held)
        try:
            yield
        finally:
            self.held -= size


def stage(store: Path, source: Source, wanted: Manifest, room: Room | None = None) -> Path:
    return asyncio.run(Fetcher(store, (room or Room()).claim).stage(wanted.encode(), wanted, source))


def content(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_a_bundle_is_whole_and_has_its_manifest(tmp_path: Path) -> None:
    folder = stage(tmp_path, Source(FILES), manifest())
    assert content(folder) == {**FILES, MANIFEST_FILE: manifest().encode()}
    assert folder.parent == tmp_path / "staging"
    assert not list((tmp_path / "staging").glob(".*"))


def test_a_blob_is_taken_up_where_it_broke_off(tmp_path: Path) -> None:
    source, digest = Source(FILES, breaks=2), sha256(FILES["models/m.onnx"])
    for _ in range(2):
        with pytest.raises(ConnectionError):
            stage(tmp_path, source, manifest())
    stage(tmp_path, source, manifest())
    assert [offset for asked, offset in source.asked if asked == digest] == [0, 5000, 7500]


def test_what_is_here_already_is_not_fetched_again(tmp_path: Path) -> None:
    first = stage(tmp_path, Source(FILES), manifest())
    shutil.move(first, tmp_path / "bundles" / manifest().digest)
    Fetcher(tmp_path, Room().claim).prune(set())
    changed = FILES | {"pipeline.yaml": b"edgeflow: 1 # new\n"}
    source = Source(changed)
    folder = stage(tmp_path, source, manifest(files=changed))
    assert [digest for digest, _ in source.asked] == [sha256(changed["pipeline.yaml"])]
    assert content(folder)["models/m.onnx"] == FILES["models/m.onnx"]


def test_a_harmed_blob_is_noticed_and_fetched_again(tmp_path: Path) -> None:
    stage(tmp_path, Source(FILES), manifest())
    digest = sha256(FILES["models/m.onnx"])
    (tmp_path / "blobs" / digest).unlink()
    (tmp_path / "blobs" / digest).write_bytes(bytes(10_000))
    source = Source(FILES)
    folder = stage(tmp_path, source, manifest())
    assert [asked for asked, _ in source.asked] == [digest]
    assert content(folder)["models/m.onnx"] == FILES["models/m.onnx"]


def test_a_blob_with_another_digest_is_dropped_and_nothing_staged(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="another digest"):
        stage(
            tmp_path, Source({"pipeline.yaml": b"abc"}, lie=True), manifest(files={"pipeline.yaml": b"abc"})
        )
    assert list((tmp_path / "blobs").iterdir()) == []
    assert list((tmp_path / "staging").iterdir()) == []


@pytest.mark.parametrize("size", [9_999, 20_000])
def test_a_blob_of_another_size_than_announced_is_no_blob(tmp_path: Path, size: int) -> None:
    class Odd(Source):
        async def fetch(self, digest: str, offset: int) -> AsyncGenerator[bytes, None]:
            yield bytes(size)

    files = {"pipeline.yaml": os.urandom(10_000)}
    with pytest.raises(ValueError, match="announced"):
        stage(tmp_path, Odd(files), manifest(files=files))


def test_a_part_longer_than_the_blob_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / f"{sha256(FILES['models/m.onnx'])}.part").write_bytes(bytes(20_000))
    assert content(stage(tmp_path, Source(FILES), manifest()))["models/m.onnx"] == FILES["models/m.onnx"]


def test_where_there_is_no_room_it_is_said_before_anything_is_fetched(tmp_path: Path) -> None:
    room, source = Room(5000), Source(FILES)
    with pytest.raises(OSError, match="no room for"):
        stage(tmp_path, source, manifest(), room)
    assert (source.asked, room.held) == ([], 0)


def test_what_came_already_needs_no_room_and_what_others_left_makes_some(tmp_path: Path) -> None:
    room, other = Room(60_000), tmp_path / "blobs" / f"{'0' * 64}.part"
    other.parent.mkdir()
    other.write_bytes(bytes(10_000))
    data = FILES["models/m.onnx"]
    (tmp_path / "blobs" / f"{sha256(data)}.part").write_bytes(data[:-100])
    room.refuse = other.exists
    assert content(stage(tmp_path, Source(FILES), manifest(), room))["models/m.onnx"] == data
    assert 0 < room.most < 40_000
    assert room.held == 0


def test_blobs_nobody_wants_are_dropped(tmp_path: Path) -> None:
    folder = stage(tmp_path, Source(FILES), manifest())
    keep = sha256(FILES["empty.py"])
    Fetcher(tmp_path, Room().claim).prune({keep})
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [keep]
    assert content(folder)["models/m.onnx"] == FILES["models/m.onnx"]


@pytest.mark.parametrize("names", [("manifest.json/x",), ("a", "a/b"), ("a", "a/b/c"), ("a/b", "a")])
def test_names_that_fit_into_no_folder_are_refused_for_good(tmp_path: Path, names: tuple[str, ...]) -> None:
    wanted = Manifest("p", {name: FileEntry(sha256(b"x"), 1) for name in names})
    with pytest.raises(IsADirectoryError, match="a file and a folder at once"):
        stage(tmp_path, Source({"x": b"x"}), wanted)
    assert list((tmp_path / "staging").iterdir()) == []
