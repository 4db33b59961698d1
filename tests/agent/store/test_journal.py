from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import struct
from pathlib import Path
from tempfile import TemporaryDirectory

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeflow_agent.store import segment
from edgeflow_agent.store.journal import Damage, Durable, Journal, JournalError, durable_of
from edgeflow_agent.store.journal_reader import JournalReader
from edgeflow_agent.store.retention import Evicted
from edgeflow_proto.event import Block, Clock, Column, decode_block

CLOCK = Clock("boot", 0, "synchronised")
BYTES = 8 << 20


def block(count: int, output: str = "a", start: int = 0) -> Block:
    times = struct.pack(f"<{count}q", *range(start, start + count))
    data = (Column("x", "float32", (), bytes(4 * count)),)
    return Block(output=output, type="t", severity="info", count=count, clock=CLOCK, t=times, data=data)


def taken(folder: Path) -> int:
    """Return what the files of a folder take on disk, as `du` counts it."""
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


def fill(journal: Journal) -> None:
    for _ in range(1000):
        journal.commit([block(4000)])


def test_each_further_segment_begins_with_the_head_and_no_number_is_left_out(tmp_path: Path) -> None:
    heads = iter(range(1000))
    journal = Journal(tmp_path, BYTES, lambda: block(1, "head", next(heads)))
    for _ in range(200):
        journal.commit([block(4000)])
    journal.close()
    reader = JournalReader(tmp_path)
    starts = [segment.number(path) for path in segment.names(tmp_path)]
    assert len(starts) > 2
    found = {first: (count, decode_block(data).output) for first, count, data in reader.read(0, 1 << 30)}
    numbers = [number for first, (count, _) in found.items() for number in range(first, first + count)]
    assert numbers == list(range(starts[0], reader.last + 1))
    assert [found[start] for start in starts if start > 1] == [(1, "head")] * len(starts)


def test_sequence_numbers_follow_each_other_without_a_hole(tmp_path: Path) -> None:
    journal = Journal(tmp_path, BYTES)
    journal.commit([block(3), block(2, "b")], 1)
    journal.commit([block(10)], 2)
    journal.close()
    reader = JournalReader(tmp_path)
    assert (reader.first, reader.last) == (1, 15)
    assert [(first, count) for first, count, _ in reader.read(0)] == [(1, 3), (4, 2), (6, 10)]
    assert decode_block(reader.read(0)[1][2]).output == "b"


@pytest.mark.parametrize(
    ("after", "firsts"),
    [(0, [1, 4, 6]), (2, [1, 4, 6]), (3, [4, 6]), (5, [6]), (14, [6]), (15, []), (99, [])],
)
def test_reading_begins_with_the_block_that_holds_the_next_event(
    tmp_path: Path, after: int, firsts: list[int]
) -> None:
    journal = Journal(tmp_path, BYTES)
    journal.commit([block(3), block(2), block(10)])
    journal.close()
    assert [first for first, _, _ in JournalReader(tmp_path).read(after)] == firsts


def test_a_read_is_bounded_and_never_empty_while_there_is_more(tmp_path: Path) -> None:
    journal = Journal(tmp_path, BYTES)
    journal.commit([block(100) for _ in range(10)])
    journal.close()
    reader = JournalReader(tmp_path)
    assert len(reader.read(0, limit_bytes=1)) == 1
    assert 1 < len(reader.read(0, limit_bytes=4000)) < 10


def test_identity_and_resume_point_survive_reopening(tmp_path: Path) -> None:
    journal = Journal(tmp_path, BYTES)
    first_id = journal.id
    journal.commit([block(1)], 7, Durable("digest", b"state"))
    journal.close()
    again = Journal(tmp_path, BYTES)
    assert (again.id, again.serial, again.next) == (first_id, 7, 2)
    assert again.durable == Durable("digest", b"state")


def test_every_new_journal_has_an_id_of_its_own(tmp_path: Path) -> None:
    assert Journal(tmp_path / "a", BYTES).id != Journal(tmp_path / "b", BYTES).id


def test_a_full_journal_evicts_the_oldest_and_says_what_nobody_else_has(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 4 << 20)
    evicted: list[Evicted] = []
    for _ in range(400):
        found = journal.commit([block(1000)], acked=lambda: 50_500)
        evicted += [found] if found else []
    assert evicted[0].first == 1
    assert [later.first for later in evicted[1:]] == [earlier.last + 1 for earlier in evicted[:-1]]
    assert sum(part.lost for part in evicted) == evicted[-1].last - 50_500
    journal.close()
    reader = JournalReader(tmp_path)
    assert (reader.first, reader.last) == (evicted[-1].last + 1, 400_000)
    assert taken(tmp_path) <= 4 << 20


def test_a_reader_of_what_is_not_a_journal_is_told(tmp_path: Path) -> None:
    with pytest.raises(JournalError):
        JournalReader(tmp_path / "nothing")


def newest(path: Path) -> Path:
    return segment.names(path)[-1]


def test_a_segment_of_another_format_is_set_aside(tmp_path: Path) -> None:
    Journal(tmp_path, BYTES).close()
    with lmdb.open(str(newest(tmp_path)), subdir=False, max_dbs=2) as env, env.begin(write=True) as txn:
        txn.put(b"format", b"99", db=env.open_db(b"meta", txn=txn))
    with pytest.raises(JournalError, match="no journal"):
        JournalReader(tmp_path)
    journal = Journal(tmp_path, BYTES)
    assert [damage.first for damage in journal.damaged] == [1]
    assert (tmp_path / f"{1:020d}.segment.damaged").exists()


def long(path: Path, commits: int = 200) -> Journal:
    """Return a journal of several segments."""
    journal = Journal(path, 16 << 20)
    for serial in range(commits):
        journal.commit([block(4000)], serial)
    assert len(segment.names(path)) > 2
    return journal


def test_segments_follow_each_other_without_a_hole(tmp_path: Path) -> None:
    journal = long(tmp_path)
    journal.close()
    reader = JournalReader(tmp_path)
    blocks = reader.read(0, 1 << 30)
    assert [first for first, _, _ in blocks] == list(range(1, journal.next, 4000))
    for after in (0, 3999, 4000, 100_000, 100_001, journal.next - 2):
        first, count, _ = reader.read(after)[0]
        assert first <= after + 1 < first + count
    assert reader.read(journal.next - 1) == []


def test_a_journal_goes_on_where_a_killed_one_stopped_to_begin_a_segment(tmp_path: Path) -> None:
    journal = long(tmp_path)
    (identity, following, serial) = (journal.id, journal.next, journal.serial)
    journal.close()
    segment.named(tmp_path, following).write_bytes(b"")  # opened, and killed before its first transaction
    again = Journal(tmp_path, BYTES)
    assert (again.id, again.next, again.serial, again.damaged) == (identity, following, serial, [])
    again.commit([block(1)], serial + 1)
    again.close()
    assert JournalReader(tmp_path).last == following


@pytest.mark.parametrize("harm", ["cut off", "overwritten"])
def test_a_damaged_newest_segment_is_set_aside_and_its_numbers_are_not_used_again(
    tmp_path: Path, harm: str
) -> None:
    journal = long(tmp_path)
    (identity, following) = (journal.id, journal.next)
    journal.close()
    victim = newest(tmp_path)
    with victim.open("r+b") as file:
        file.truncate(3 * 4096) if harm == "cut off" else file.write(b"x" * 8192)
    again = Journal(tmp_path, 32 << 20)
    assert again.damaged == [Damage(victim.name, segment.number(victim))]
    assert again.id == identity
    assert again.next > following
    again.commit([block(2)])
    again.close()
    reader = JournalReader(tmp_path)
    assert (reader.first, reader.last) == (1, again.next - 1)
    assert max(first for first, _, _ in reader.read(0, 1 << 30)) == again.next - 2


def test_a_damaged_older_segment_is_left_out_and_the_rest_read(tmp_path: Path) -> None:
    long(tmp_path).close()
    paths = segment.names(tmp_path)
    paths[1].write_bytes(b"x" * 8192)
    reader = JournalReader(tmp_path)
    firsts = [first for first, _, _ in reader.read(0, 1 << 30)]
    gone = range(segment.number(paths[1]), segment.number(paths[2]))
    assert firsts[0] == 1
    assert not [first for first in firsts if first in gone]
    assert segment.number(paths[2]) in firsts


def test_a_reader_lets_go_of_what_retention_removed(tmp_path: Path) -> None:
    long(tmp_path).close()
    reader = JournalReader(tmp_path)
    reader.read(0, 1 << 30)
    for path in segment.names(tmp_path)[:2]:
        segment.remove(path)
    assert reader.first == segment.number(segment.names(tmp_path)[0])
    assert {path for path, _ in reader._open} == set(segment.names(tmp_path))
    links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
             if os.path.islink(f"/proc/self/fd/{fd}")]  # fmt: skip
    assert not [link for link in links if "(deleted)" in link and str(tmp_path) in link]


def test_a_full_disk_keeps_the_copy_of_the_state_that_was_there(tmp_path: Path) -> None:
    journal = Journal(tmp_path, BYTES)
    journal.commit([block(1)], 1, Durable("digest", b"old"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
        journal.commit([block(1)], 2, Durable("digest", bytes(2 << 20)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    journal.close()
    again = Journal(tmp_path, BYTES)
    assert (again.serial, again.durable) == (2, Durable("digest", b"old"))


@pytest.mark.parametrize("acked", [0, 10_000])
def test_a_copy_of_the_state_costs_no_events_but_those_the_relay_has(tmp_path: Path, acked: int) -> None:
    journal = Journal(tmp_path, 9 << 20)
    journal.commit([], 1, Durable("digest", b"old"))
    for serial in range(2, 7):
        journal.commit([block(100_000)], serial, None, lambda: acked)
    large = Durable("digest", bytes(6 << 20))
    assert journal.commit([], 10, large, lambda: acked) is None
    assert (journal.serial, durable_of(tmp_path)) == (10, Durable("digest", b"old"))
    small = Durable("digest", bytes(4 << 20))
    evicted = journal.commit([], 11, small, lambda: 40 * acked)
    assert taken(tmp_path) <= journal.limit
    assert durable_of(tmp_path) == (small if acked else Durable("digest", b"old"))
    assert (evicted.lost, evicted.last < 400_000) == (0, True) if evicted is not None else not acked
    journal.close()


def test_a_full_disk_refuses_a_commit_and_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 64 << 20)
    journal.commit([block(10)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
        with pytest.raises(JournalError):
            fill(journal)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    following = journal.next
    journal.commit([block(5)])
    journal.close()
    reader = JournalReader(tmp_path)
    assert reader.last == following + 4
    assert sum(count for _, count, _ in reader.read(0, 1 << 30)) == reader.last


def _write(path: Path, ready: multiprocessing.synchronize.Event) -> None:
    journal = Journal(path, BYTES)
    ready.set()
    while True:
        journal.commit([block(5)], journal.serial + 1)


def test_what_was_committed_is_there_after_sigkill_and_seen_by_readers_meanwhile(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    writer = context.Process(target=_write, args=(tmp_path, ready))
    writer.start()
    assert ready.wait(30)
    reader = JournalReader(tmp_path)
    while reader.last < 50:
        pass
    seen = reader.last
    os.kill(writer.pid or 0, signal.SIGKILL)
    writer.join()
    assert reader.last >= seen
    assert sum(count for _, count, _ in reader.read(0, 1 << 30)) == reader.last


def test_a_commit_too_large_for_an_empty_journal_leaves_it_as_it_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path, BYTES)
    huge = [block(4_000_000) for _ in range(2)]
    with pytest.raises(JournalError, match=r"may take 8388608 bytes: \d+ more do not go in"):
        journal.commit(huge)
    journal.commit([block(3)])
    journal.close()
    assert JournalReader(tmp_path).last == 3


sizes = st.lists(st.integers(1, 20_000), min_size=1, max_size=40)


@settings(max_examples=15, deadline=None)
@given(sizes, st.integers(2 << 20, 6 << 20), st.integers(0, 100_000))
def test_the_limit_holds_after_every_commit_and_no_number_is_unaccounted_for(
    counts: list[int], limit: int, state: int
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        journal = Journal(folder, limit, lambda: block(1, "head"))
        gone = 0
        for serial, count in enumerate(counts):
            durable = Durable("d", bytes(state)) if serial % 5 == 0 else None
            evicted = journal.commit([block(count)], serial, durable)
            assert taken(folder) <= limit
            if evicted is not None:
                assert (evicted.first, evicted.lost) == (gone + 1, evicted.last - gone)
                gone = evicted.last
        journal.close()
        reader = JournalReader(folder)
        assert (reader.first, reader.last) == (gone + 1, journal.next - 1)
        reader.close()


def test_a_lower_limit_is_kept_at_once_and_what_went_is_told(tmp_path: Path) -> None:
    journal = long(tmp_path)
    assert taken(tmp_path) > 8 << 20
    evicted = journal.trim(2 << 20, lambda: 1000)
    assert taken(tmp_path) <= 2 << 20
    assert evicted is not None
    assert (evicted.first, evicted.data["first"]) == (1, 1001)
    assert journal.commit([block(10)], 7) is None
    journal.close()
    reader = JournalReader(tmp_path)
    assert (reader.first, reader.last) == (evicted.last + 1, journal.next - 1)


def test_while_events_are_held_only_those_the_relay_has_make_room(tmp_path: Path) -> None:
    journal = long(tmp_path)
    starts = [segment.number(path) for path in segment.names(tmp_path)]
    evicted = journal.trim(0, lambda: starts[2] + 5, hold=True)
    assert evicted is not None
    assert (evicted.last, evicted.lost) == (starts[2] - 1, 0)
    following = journal.next
    with pytest.raises(JournalError, match="more do not go in"):
        journal.commit([block(10)], acked=lambda: starts[2] + 5)
    journal.trim(32 << 20)
    journal.commit([block(10)])
    journal.close()
    reader = JournalReader(tmp_path)
    assert (reader.first, reader.last) == (starts[2], following + 9)


def test_what_was_set_aside_goes_before_anything_that_can_be_read(tmp_path: Path) -> None:
    journal = long(tmp_path)
    journal.close()
    newest(tmp_path).write_bytes(bytes(1 << 20))
    again = Journal(tmp_path, taken(tmp_path) + (64 << 10))
    assert [path for path in tmp_path.iterdir() if path.name.endswith(".damaged")]
    again.commit([block(8000)])
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".damaged")]
    again.close()
    assert JournalReader(tmp_path).first == 1


def test_a_segment_whose_name_cannot_be_put_on_disk_shows_nobody_its_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, 1 << 30)

    def refuse(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(segment, "sync", refuse)
    with pytest.raises(JournalError, match="Input/output error"):
        fill(journal)
    monkeypatch.undo()
    following = journal.next
    journal.close()
    assert JournalReader(tmp_path).last == following - 1
    again = Journal(tmp_path, 1 << 30)
    again.commit([block(1)])
    again.close()
    assert JournalReader(tmp_path).last == following


def test_a_reader_takes_an_empty_segment_for_one_that_was_not_begun(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = long(tmp_path)
    journal.close()
    segment.named(tmp_path, journal.next).write_bytes(b"")
    assert JournalReader(tmp_path).last == journal.next - 1
    assert not caplog.records


def lost(evicted: Evicted) -> Block:
    return block(1, f"{evicted.first}-{evicted.last}")


def test_what_goes_is_told_before_it_does_in_the_journal_itself(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 4 << 20, gap=lost)
    evicted = [found for _ in range(200) if (found := journal.commit([block(4000)])) is not None]
    journal.close()
    reader = JournalReader(tmp_path)
    told = [decode_block(data).output for _, _, data in reader.read(0, 1 << 30)]
    assert evicted
    assert f"{evicted[-1].first}-{evicted[-1].last}" in told
    assert reader.first == evicted[-1].last + 1
    reader.close()


def test_what_was_told_to_go_goes_when_the_power_went_before_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, 32 << 20, gap=lost)
    for _ in range(200):
        journal.commit([block(4000)])
    starts = [segment.number(path) for path in segment.names(tmp_path)]

    class PowerCut(BaseException):
        pass

    def cut(_: Path) -> None:
        raise PowerCut

    with monkeypatch.context() as patched:
        patched.setattr(segment, "remove", cut)
        with pytest.raises(PowerCut):
            journal.trim(taken(tmp_path) - 1)
    journal.close()
    again = Journal(tmp_path, 32 << 20, gap=lost)
    assert segment.number(segment.names(tmp_path)[0]) == starts[1]
    again.close()
    reader = JournalReader(tmp_path)
    assert decode_block(reader.read(reader.last - 1)[-1][2]).output == f"1-{starts[1] - 1}"
    reader.close()
