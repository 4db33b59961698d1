"""Journals and recordings of which the disk lost pages: what can be read is, and what cannot is told."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import lmdb
import pytest

from edgeflow_agent.store import journal as journals
from edgeflow_agent.store import segment
from edgeflow_agent.store.journal import Damage, Journal, JournalError, LimitError
from edgeflow_agent.store.journal_reader import MAX_OPEN, JournalReader
from edgeflow_agent.store.recording import Recording, RecordingReader
from edgeflow_agent.store.retention import Evicted, evict, leave_out
from edgeflow_agent.store.segment import Segment
from edgeflow_proto.event import ROW_BITS, Block, Clock, decode_block
from edgeflow_proto.rows import Rows

CLOCK = Clock("boot", 0, "synchronised")
MB = 1 << 20
PAGE = 4096


def block(count: int, output: str = "a") -> Block:
    t = struct.pack(f"<{count}q", *range(count))
    return Block(output=output, type="t", severity="info", count=count, clock=CLOCK, t=t)


def head() -> Block:
    return block(1, "head")


def gap(evicted: Evicted) -> Block:
    return block(1, f"{evicted.first}-{evicted.last}")


def long(folder: Path, commits: int = 1000) -> Journal:
    """Write several segments, of many small blocks, so that their trees have many pages."""
    journal = Journal(folder, 64 * MB, head, gap)
    for serial in range(commits):
        journal.commit([block(4000), *[block(1) for _ in range(40)]], serial)
    return journal


def lose(path: Path) -> None:
    """Lose every page but the first two."""
    with path.open("r+b") as file:
        size = path.stat().st_size
        for page in range(2, size // PAGE):
            file.seek(page * PAGE)
            file.write(bytes(PAGE))


def firsts(reader: JournalReader) -> list[int]:
    return [first for first, _, _ in reader.read(0, 1 << 30)]


def test_a_lost_page_of_an_older_segment_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    long(tmp_path).close()
    paths = segment.names(tmp_path)
    lose(paths[1])
    reader = JournalReader(tmp_path)
    found = firsts(reader)
    assert found[0] == 1
    assert found[-1] == reader.last
    assert not [n for n in found if segment.number(paths[1]) <= n < segment.number(paths[2])]
    assert reader.damaged == [paths[1].name]
    assert leave_out(tmp_path, paths[2].name) is None  # that one is sound
    assert leave_out(tmp_path, paths[-1].name) is None  # its writer's
    assert leave_out(tmp_path, "../../state") is None
    assert leave_out(tmp_path, paths[1].name) == (segment.number(paths[1]), segment.number(paths[2]) - 1)
    assert firsts(reader) == found
    assert reader.damaged == []
    reader.close()


def test_what_went_with_a_damaged_segment_is_not_told_to_be_lost_again(tmp_path: Path) -> None:
    journal = long(tmp_path)
    paths = segment.names(tmp_path)
    damaged = segment.number(paths[2]) - segment.number(paths[1])
    lose(paths[1])
    assert leave_out(tmp_path, paths[1].name) is not None
    keep = sum(map(segment.taken, paths[3:])) + (200 << 10)
    evicted = journal.trim(keep)
    assert evicted is not None
    assert (evicted.first, evicted.last) == (1, segment.number(paths[3]) - 1)
    assert evicted.count == evicted.lost == evicted.last - damaged
    journal.close()


def test_a_page_lost_while_it_is_written_to_costs_what_was_in_that_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = long(tmp_path)
    victim, following = segment.names(tmp_path)[-1], journal.next

    def failing(self: Segment, *_: object) -> None:
        self.close()
        raise lmdb.CorruptedError("as a page that is none is found")

    with monkeypatch.context() as patched:
        patched.setattr(Segment, "append", failing)
        with pytest.raises(JournalError):
            journal.commit([block(1)], 500)
    lose(victim)
    journal.commit([block(1, "behind")], 500)
    assert journal.damaged == [Damage(victim.name, segment.number(victim))]
    assert (journal.serial, journal.next) == (500, following + 2)  # and a head
    journal.close()
    reader = JournalReader(tmp_path)
    last = [decode_block(data).output for first, _, data in reader.read(following - 1)]
    assert last == ["head", "behind"]
    reader.close()


def test_a_disk_that_cannot_be_read_now_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long(tmp_path, 3).close()

    def failing(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", failing)
        with pytest.raises(JournalError, match="Input/output error"):
            Journal(tmp_path, 64 * MB)
    again = Journal(tmp_path, 64 * MB)
    assert again.damaged == []
    again.close()


def test_a_reader_keeps_few_of_many_segments_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "SEGMENT_BYTES", 1 << 16)
    journal = long(tmp_path, 5 * MAX_OPEN)
    following = journal.next
    journal.close()
    assert len(segment.names(tmp_path)) > 2 * MAX_OPEN
    reader = JournalReader(tmp_path)
    for _ in range(2):
        found = reader.read(0, 1 << 30)
        assert sum(count for _, count, _ in found) == following - 1
        assert len(reader._open) == MAX_OPEN
    reader.close()


def test_segments_are_checked_ahead_the_newest_first_each_once(tmp_path: Path) -> None:
    long(tmp_path).close()
    paths = segment.names(tmp_path)
    lose(paths[1])
    reader = JournalReader(tmp_path)
    looks = 0
    for _ in range(2 * len(paths)):
        looks += reader.look_ahead()
    assert looks == len(paths) - 2  # but the newest, which was opened, and the lost one
    assert reader.damaged == [paths[1].name]
    reader.close()


def test_what_else_lies_there_is_nobody_s_segment(tmp_path: Path) -> None:
    long(tmp_path, 3).close()
    (tmp_path / "._00000000000000000001.segment").write_bytes(b"as some systems leave it")
    (tmp_path / "copy.segment").write_bytes(b"")
    again = Journal(tmp_path, 64 * MB)
    assert again.damaged == []
    again.close()
    reader = JournalReader(tmp_path)
    assert (reader.first, reader.last) == (1, again.next - 1)
    reader.close()


# what goes, and what is told of it


def test_events_whose_gap_could_not_be_told_do_not_go_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = long(tmp_path)
    whole, real = journal.bytes, Segment.append

    def refusing(self: Segment, *_: object) -> None:
        self.close()
        raise lmdb.DiskError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Segment, "append", refusing)
        assert journal.trim(whole - MB) is None
    assert Segment.append is real
    assert journal.trim(64 * MB) is None  # there is room again
    journal.commit([block(1)], 1000)
    journal.close()
    again = Journal(tmp_path, 64 * MB)
    again.close()
    reader = JournalReader(tmp_path)
    assert reader.first == 1
    reader.close()


@pytest.mark.parametrize(("limit", "events"), [(MB, 60_000), (3 * MB, 200_000), (8 * MB, 600_000)])
def test_a_commit_goes_in_where_the_limit_has_room_for_it_and_nothing_else(
    tmp_path: Path, limit: int, events: int
) -> None:
    journal = Journal(tmp_path, limit, head, gap)
    for _ in range(4):
        journal.commit([block(4000) for _ in range(events // 4000)])
        assert journal.bytes <= limit
    journal.close()


def test_without_a_word_of_the_relay_it_is_as_it_was_when_last_heard(tmp_path: Path) -> None:
    journal = long(tmp_path)
    known = journal.next - 1
    journal.commit([block(1)], acked=lambda: known)
    journal.commit([block(1)])
    journal.close()
    again = Journal(tmp_path, 64 * MB, head, gap)
    evicted = again.trim(again.bytes - 1)
    assert evicted is not None
    assert (evicted.acked, evicted.lost) == (known, 0)
    again.close()


def test_what_nobody_writes_to_any_more_is_told_before_it_goes(tmp_path: Path) -> None:
    journal = long(tmp_path)
    known = journal.next - 1
    journal.commit([block(1)], acked=lambda: known)
    journal.close()
    paths, told = segment.names(tmp_path), list[Evicted]()

    def tell(evicted: Evicted) -> None:
        assert segment.names(tmp_path) == paths  # all of it is there yet
        told.append(evicted)

    evict(tmp_path, segment.taken_below(tmp_path) - 1, None, tell)
    assert [(each.first, each.lost) for each in told] == [(segment.number(paths[0]), 0)]
    assert segment.names(tmp_path) == paths[1:]
    evict(tmp_path / "none", 0, 0, tell)
    assert len(told) == 1


# recordings


def rows(first: int) -> Rows:
    base = (1 << ROW_BITS) + first
    return Rows(
        input="a", first=base, count=10, clock=CLOCK, t=bytes(80), shape=(3,), dtype="float32",
        values=bytes(120), next={"a": base + 10},
    )  # fmt: skip


def test_a_damaged_recording_goes_on_in_a_new_segment(tmp_path: Path) -> None:
    recording = Recording(tmp_path, 64 * MB)
    for first in range(0, 5000, 10):
        recording.write([rows(first)])
    recording.close()
    lose(segment.names(tmp_path)[-1])
    again = Recording(tmp_path, 64 * MB)
    assert (len(again.damaged), again.next) == (1, {})
    again.write([rows(5000)])
    again.close()
    reader = RecordingReader(tmp_path)
    assert [each.first - (1 << ROW_BITS) for each in reader.between()] == [5000]
    reader.close()


def test_a_limit_that_holds_no_commit_is_kept_as_far_as_it_can_be(tmp_path: Path) -> None:
    journal = long(tmp_path)
    evicted = journal.trim(50_000)
    assert evicted is not None
    assert len(segment.names(tmp_path)) == 1
    with pytest.raises(LimitError):
        journal.commit([block(10)])
    journal.trim(MB)
    journal.commit([block(10)])
    journal.close()


# what the disk refuses at the worst moment


def refuse(patched: pytest.MonkeyPatch, name: str) -> None:
    def refusing(*_: object) -> None:
        raise OSError(28, "No space left on device")

    patched.setattr(segment, name, refusing)


def test_a_segment_that_could_not_be_begun_puts_the_one_that_is_written_to_into_no_danger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = long(tmp_path, 300)
    active = journal._active.path
    left = segment.named(tmp_path, journal.next)
    left.write_bytes(b"")  # as a disk leaves it that refuses to let go of it as well
    journal.trim(0, lambda: journal.next - 1, hold=True)
    assert active.exists()
    journal.trim(MB)
    assert journal._active.path.exists()
    journal.trim(64 * MB)
    journal.commit([block(1)], 77)
    known = (journal.id, journal.next, 77)
    journal.close()
    again = Journal(tmp_path, 64 * MB)
    assert (again.id, again.next, again.serial) == known
    again.close()
    with monkeypatch.context() as patched:
        refuse(patched, "sync")
        again = Journal(tmp_path, 64 * MB)
        monkeypatch.setattr(journals, "SEGMENT_BYTES", 1)
        with pytest.raises(JournalError):
            again.commit([block(1)])
    assert segment.names(tmp_path)[-1] == again._active.path  # nothing is left of what was refused
    again.close()


def test_numbers_that_went_with_a_damaged_segment_are_not_given_again_where_no_other_could_be_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = long(tmp_path)
    given, identity = journal.next, journal.id
    journal.close()
    victim = segment.names(tmp_path)[-1]
    lose(victim)
    with monkeypatch.context() as patched:
        refuse(patched, "create")
        with pytest.raises(JournalError):
            Journal(tmp_path, 64 * MB)
    again = Journal(tmp_path, 64 * MB)
    assert again.id == identity
    assert again.next > given
    assert again.damaged == [Damage(victim.name, segment.number(victim))]
    again.close()
    later = Journal(tmp_path, 64 * MB)
    assert later.damaged == []
    later.close()


def test_a_journal_whose_newest_segment_was_lost_goes_on_when_the_disk_takes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = long(tmp_path)
    victim, following = segment.names(tmp_path)[-1], journal.next
    lose(victim)
    journal._active.close()
    with monkeypatch.context() as patched:
        refuse(patched, "create")
        for _ in range(2):
            with pytest.raises(JournalError):
                journal.commit([block(1)])
    journal.commit([block(1)])
    assert journal.damaged == [Damage(victim.name, segment.number(victim))]
    assert journal.next == following + 2
    journal.close()


def test_a_segment_that_cannot_be_renamed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long(tmp_path).close()
    paths = segment.names(tmp_path)
    lose(paths[0])

    def refusing(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refusing)
        assert leave_out(tmp_path, paths[0].name) is None
    assert leave_out(tmp_path, paths[0].name) is not None


def test_a_value_with_a_bad_bit_is_damage(tmp_path: Path) -> None:
    long(tmp_path).close()
    path = segment.names(tmp_path)[-1]
    with lmdb.open(str(path), subdir=False, max_dbs=2) as env, env.begin(write=True) as txn:
        txn.put(b"format", b"\xb2", db=env.open_db(b"meta", txn))
    (tmp_path / "state").write_bytes(b"\x92\xa1\xff\xc0")
    again = Journal(tmp_path, 64 * MB)
    assert ([each.segment for each in again.damaged], again.durable) == ([path.name], None)
    again.close()


def test_a_hole_among_what_the_relay_has_hides_no_loss() -> None:
    evicted = Evicted(1, 1100, 1010, missing=900, beyond=0)
    assert (evicted.count, evicted.lost) == (200, 90)
    evicted = Evicted(1, 1100, 50, missing=900, beyond=900)
    assert (evicted.count, evicted.lost) == (200, 150)
    assert evicted.behind(Evicted(1, 10, 0, 2, 1)) == Evicted(1, 1100, 50, 902, 901)
