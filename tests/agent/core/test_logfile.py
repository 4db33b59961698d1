from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeflow_agent.core.logfile import MAX_WAITING, MIN_BYTES, LogFile, Piece, pieces
from tests.support.small_disk import fill, remount, small_disk

LINE = b"x" * 999 + b"\n"


def lines(folder: Path, name: str) -> list[bytes]:
    found = [each.path.read_bytes() for each in pieces(folder) if each.name == name]
    return b"".join(found).splitlines()


def numbered(first: int, count: int) -> list[bytes]:
    return [b"%0999d" % number for number in range(first, first + count)]


def test_lines_are_kept_in_pieces_and_those_go_on_after_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    for start in (0, 30):
        file = LogFile(folder, "io", MIN_BYTES)
        for line in numbered(start, 30):
            file.append(line + b"\n")
        assert (file.lost, file.error) == (0, "")
    assert lines(folder, "io") == numbered(0, 60)
    found = pieces(folder)
    assert [(each.name, each.number) for each in found] == [("io", number) for number in range(1, 5)]
    assert all(each.path.stat().st_size <= MIN_BYTES // 256 for each in found)


def test_a_number_that_nobody_could_count_on_from_is_somebody_elses(tmp_path: Path) -> None:
    for number in ("999999999999", "999999999999999999"):
        (tmp_path / f"io.{number}.jsonl").touch()
    file = LogFile(tmp_path, "io", MIN_BYTES)
    for line in numbered(0, 3 * MIN_BYTES // 1000):
        file.append(line + b"\n")
    assert sum(each.allocated for each in pieces(tmp_path)) <= MIN_BYTES
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= MIN_BYTES
    assert lines(tmp_path, "io")[-1] == numbered(3 * MIN_BYTES // 1000 - 1, 1)[0]


def test_the_oldest_lines_of_whoever_writes_most_make_room(tmp_path: Path) -> None:
    quiet, loud = (LogFile(tmp_path, name, MIN_BYTES) for name in ("quiet", "loud"))
    quiet.append(b"once\n")
    for line in numbered(0, 6000):
        loud.append(line + b"\n")
        quiet.append(b"now and then\n") if line.endswith(b"00") else None
    assert sum(each.allocated for each in pieces(tmp_path)) <= MIN_BYTES
    assert lines(tmp_path, "quiet")[0] == b"once"
    kept = lines(tmp_path, "loud")
    assert kept == numbered(6000 - len(kept), len(kept))
    assert len(kept) > 3500  # the share is used


def _write(folder: Path, name: str, count: int) -> None:
    file = LogFile(folder, name, MIN_BYTES)
    for _ in range(count):
        file.append(LINE)


def test_names_that_write_no_more_make_room_as_well(tmp_path: Path) -> None:
    for number in range(300):
        LogFile(tmp_path, f"worker-{number}", MIN_BYTES).append(LINE)
    found: list[Piece] = pieces(tmp_path)
    assert len(found) == 256
    assert found[-1].path.stat().st_size == len(LINE)


def test_a_piece_that_was_removed_or_torn_is_no_trouble(tmp_path: Path) -> None:
    file = LogFile(tmp_path, "io", MIN_BYTES)
    file.append(LINE)
    pieces(tmp_path)[0].path.unlink()
    file.append(b"second\n")
    assert lines(tmp_path, "io") == [b"second"]
    with pieces(tmp_path)[0].path.open("ab") as torn:
        torn.write(b'{"half": "a li')
    LogFile(tmp_path, "io", MIN_BYTES).append(b"third\n")
    assert lines(tmp_path, "io") == [b"second", b'{"half": "a li', b"third"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 1 << 20) as path:
        yield path


def test_a_full_disk_loses_the_oldest_that_wait_and_heals(disk: Path) -> None:
    file = LogFile(disk, "io", MIN_BYTES)
    before = numbered(0, 2)
    for line in before:
        file.append(line + b"\n")
    filler = fill(disk)
    written = numbered(2, MAX_WAITING + 20)
    for line in written:
        file.append(line + b"\n")
    assert file.error == "No space left on device"
    filler.unlink()
    file.append(b"healed\n")
    assert file.error == ""
    kept = lines(disk, "io")
    assert kept[-1] == b"healed"
    fitted = len(before) + len(written) + 1 - file.lost
    assert len(kept) == fitted  # each line is there or counted, none is torn
    assert kept[-MAX_WAITING:-1] == written[-MAX_WAITING + 1 :]


def test_a_disk_that_is_read_only_for_a_while_heals(disk: Path) -> None:
    file = LogFile(disk / "logs", "io", MIN_BYTES)
    remount(disk, "ro")
    file.append(b"first\n")
    assert file.error == "Read-only file system"
    remount(disk, "rw")
    file.append(b"second\n")
    assert lines(disk / "logs", "io") == [b"first", b"second"]
    assert (file.lost, file.error) == (0, "")


def _write(folder: Path, name: str, count: int) -> None:
    file = LogFile(folder, name, MIN_BYTES)
    for _ in range(count):
        file.append(LINE)


def test_the_share_holds_at_every_moment_while_many_write(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 16 << 20) as path:  # whose use can be read off in one go
        context = multiprocessing.get_context("spawn")
        writers = [context.Process(target=_write, args=(path / "logs", f"w{i}", 2000)) for i in range(4)]
        for writer in writers:
            writer.start()
        most = 0
        while any(writer.is_alive() for writer in writers):
            found = os.statvfs(path)
            most = max(most, (found.f_blocks - found.f_bfree) * found.f_frsize)
        for writer in writers:
            writer.join()
            assert writer.exitcode == 0
        assert MIN_BYTES // 2 < most <= MIN_BYTES
        assert {each.name for each in pieces(path / "logs")} == {"w0", "w1", "w2", "w3"}
