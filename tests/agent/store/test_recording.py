"""Recordings: what was written is found again, however much there is and whatever happened to the disk."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.store import recording as recordings
from edgeflow_agent.store import segment
from edgeflow_agent.store.journal import JournalError
from edgeflow_agent.store.recording import Portion, Recording, RecordingReader
from edgeflow_agent.store.segment import Marks
from edgeflow_proto.event import ROW_BITS, Clock
from edgeflow_proto.rows import Course, Hole, Rows, within
from edgeflow_proto.timeline import Boot, Sync, Timeline

BYTES = 64 << 20
CLOCK = Clock("boot", 10**18, "synchronised")
SECOND = 10**9


def rows(first: int, count: int, name: str = "a", width: int = 2, **more: object) -> Rows:
    """Return rows whose values are their numbers."""
    numbers = range(first, first + count)
    values = struct.pack(
        f"<{count * width}i", *(number & 0xFFFFFF for number in numbers for _ in range(width))
    )
    times = struct.pack(f"<{count}q", *numbers)
    given = {"next": {name: first + count}, "written_ns": first + count, "clock": CLOCK, **more}
    return Rows(
        input=name, first=first, count=count, t=times, shape=(width,), dtype="int32",
        values=values, **given,
    )  # type: ignore[arg-type]  # fmt: skip


def numbers(blocks: Iterable[Rows]) -> list[int]:
    """Return the numbers of rows, having looked that each one's values and time are its own."""
    found = []
    for block in blocks:
        mine = list(range(block.first, block.end))
        assert list(struct.unpack(f"<{block.count}q", block.t)) == mine
        width = block.shape[0]
        assert list(struct.unpack(f"<{block.count * width}i", block.values))[::width] == [
            number & 0xFFFFFF for number in mine
        ]
        found += mine
    return found


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordingReader]:
    """Four segments or so: two inputs that take turns, one of them slow, with holes and a second ring."""
    folder = tmp_path_factory.mktemp("large")
    recording = Recording(folder, BYTES)
    fast, slow = 0, 0
    for turn in range(60):
        base = (turn // 40) << ROW_BITS
        if turn == 40:
            fast = slow = 0
        fast += 500 if turn == 20 else 0  # a hole
        following = {"a": base | fast + 4000, "b": base + (1 << ROW_BITS) | slow + 2 * (turn % 2)}
        both = {"next": following, "written_ns": turn * SECOND}
        blocks = [rows(base | fast, 4000, width=32, **both)]
        if turn % 2:
            blocks.append(rows(base + (1 << ROW_BITS) | slow, 2, "b", **both))
            slow += 2
        recording.write(blocks)
        fast += 4000
    recording.close()
    reader = RecordingReader(folder)
    yield reader
    reader.close()


def test_it_has_several_segments(large: RecordingReader) -> None:
    assert len(segment.names(large._path)) >= 4
    assert large.next.keys() == {"a", "b"}


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (0, 0, range(1)),
        (3999, 4001, range(3999, 4002)),
        (79_990, 80_509, [*range(79_990, 80_000), *range(80_500, 80_510)]),  # over the hole
        (80_000, 80_499, []),
        (100_000, 108_000, range(100_000, 108_001)),
        (160_499, 160_600, [160_499]),  # the end of the first ring
        (1 << ROW_BITS | 0, 1 << ROW_BITS | 5, range(1 << ROW_BITS, (1 << ROW_BITS) + 6)),
        (1 << ROW_BITS | 79_999, 1 << ROW_BITS | 90_000, [1 << ROW_BITS | 79_999]),
        (1 << ROW_BITS | 80_000, 1 << ROW_BITS | 90_000, []),
        (5 << ROW_BITS, 5 << ROW_BITS, []),
    ],
)
def test_rows_are_found_by_their_numbers(
    large: RecordingReader, first: int, last: int, expected: Iterable[int]
) -> None:
    assert numbers(large.rows("a", first, last)) == list(expected)


def test_rows_of_a_slow_input_are_found_among_those_of_a_fast_one(large: RecordingReader) -> None:
    base = 1 << ROW_BITS
    assert numbers(large.rows("b", base | 7, base | 9)) == [base | 7, base | 8, base | 9]
    assert numbers(large.rows("b", base, base | 38)) == list(range(base, base + 39))
    assert numbers(large.rows("never", 0, 1 << 62)) == []


def test_little_is_read_to_find_a_row(large: RecordingReader, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read = large._read
    monkeypatch.setattr(large, "_read", lambda *asked: reads.append(asked) or read(*asked))
    assert numbers(large.rows("a", 1 << ROW_BITS | 60_000, 1 << ROW_BITS | 60_000)) != []
    assert len(reads) < 25


def test_of_a_slow_input_among_a_fast_one_few_others_are_taken_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording, base = Recording(tmp_path, BYTES), 1 << ROW_BITS
    for hour in range(5):
        following = {"a": (hour + 1) * 6000, "b": base + hour + 1}
        block = rows(base + hour, 1, "b", next=following)
        fast = [rows(hour * 6000 + i * 10, 10, width=64, next=following) for i in range(600)]
        recording.write([block, *fast])
    recording.close()
    reader, taken = RecordingReader(tmp_path), list[bytes]()
    real = recordings.decode_rows
    monkeypatch.setattr(recordings, "decode_rows", lambda data: taken.append(data) or real(data))
    parts = list(reader.look("b", base + 1, base + 3))
    assert numbers(recordings.blocks(parts)) == [base + 1, base + 2, base + 3]
    assert len(taken) < 40
    portions = [part.bytes for part in parts if isinstance(part, Portion)]
    assert 3 << 20 < sum(portions) < 6 << 20
    assert max(portions) < 2 << 20  # others are served in between
    reader.close()


@pytest.mark.parametrize("before", [(), (1,)])
def test_rows_of_rings_whose_generations_sank_are_found(tmp_path: Path, before: tuple[int, ...]) -> None:
    recording = Recording(tmp_path, BYTES)
    for generation in (*before, 3_000_000, 1_000_000):
        base = generation << ROW_BITS
        for turn in range(5):
            first = base + turn * 100
            recording.write([rows(first, 100, next={"a": first + 100})])
    recording.close()
    reader = RecordingReader(tmp_path)
    for generation in (*before, 3_000_000, 1_000_000)[bool(before) * 2 :]:
        base = generation << ROW_BITS
        assert numbers(reader.rows("a", base + 150, base + 249)) == [*range(base + 150, base + 250)]
    reader.close()


def test_a_damaged_block_is_told_whatever_input_is_looked_for(tmp_path: Path) -> None:
    recording = Recording(tmp_path, BYTES)
    recording.write([rows(turn * 100, 100) for turn in range(9)])
    recording.close()
    spoil(segment.names(tmp_path)[0], 301)
    reader = RecordingReader(tmp_path)
    assert numbers(reader.rows("a", 250, 450)) == [*range(250, 300), *range(400, 451)]
    assert reader.damaged == {301}
    reader.close()


def test_all_of_it_comes_in_its_order_and_holes_are_told(large: RecordingReader) -> None:
    course = Course()
    found, holes = [], []
    for block in large.between():
        holes += [hole] if (hole := course.take(block)) else []
        found.append(block)
    assert sum(block.count for block in found if block.input == "a") == 60 * 4000
    assert [block.written_ns for block in found] == sorted(block.written_ns for block in found)
    base = 1 << ROW_BITS
    assert holes == [Hole("a", 80_500, 500), Hole("a", base, 0), Hole("b", base << 1, 0)]


def test_a_stretch_of_time_is_found(large: RecordingReader) -> None:
    start = CLOCK.offset_ns + 30 * SECOND
    found = list(large.between(start, start + 3 * SECOND))
    assert [block.written_ns // SECOND for block in found] == [30, 31, 31, 32, 33, 33]
    assert list(large.between(CLOCK.offset_ns + 1000 * SECOND)) == []
    assert list(large.between(end_ns=0)) == []


def test_times_are_those_known_when_it_is_read(tmp_path: Path) -> None:
    recording = Recording(tmp_path, BYTES)
    unknown = Clock("boot", 0, "unsynchronised")
    recording.write([rows(0, 5, clock=unknown, written_ns=SECOND)])
    recording.close()
    later = Timeline([Boot("boot", syncs=(Sync(2 * SECOND, 10**18, 1000, "synchronised"),))])
    reader = RecordingReader(tmp_path, later)
    assert numbers(reader.between(10**18, 10**18 + 2 * SECOND)) == [0, 1, 2, 3, 4]
    reader.close()


def test_the_newest_state_before_a_moment_is_found(tmp_path: Path) -> None:
    recording = Recording(tmp_path, BYTES)
    for turn in range(100):
        state = {"state": b"%d" % turn} if turn % 15 == 10 else {}
        recording.write([rows(turn * 4000, 4000, width=32, written_ns=turn * SECOND, **state)])
    recording.close()
    assert len(segment.names(tmp_path)) >= 4
    reader = RecordingReader(tmp_path)
    found = [next(reader.following(CLOCK.offset_ns + second * SECOND)) for second in (5, 11, 40, 41, 1000)]
    assert [each.state for each in found] == [b"", b"10", b"25", b"40", b"85"]
    written = [each.written_ns // SECOND for each in reader.following(CLOCK.offset_ns + 41 * SECOND)]
    assert written == [*range(40, 100)]
    reader.close()


def test_a_recording_without_states_is_not_read_to_its_end_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = Recording(tmp_path, 64 << 20)
    for turn in range(100):
        recording.write([rows(turn * 4000, 4000, width=32, written_ns=turn * SECOND)])
    recording.close()
    reader, read = RecordingReader(tmp_path), list[int]()
    real = segment.Segment.read

    def counting(self: segment.Segment, after: int, limit: int) -> list[segment.Found]:
        found = real(self, after, limit)
        read.append(sum(len(data) for _, _, data in found))
        return found

    monkeypatch.setattr(segment.Segment, "read", counting)
    assert next(reader.following(CLOCK.offset_ns + 90 * SECOND)).written_ns == 90 * SECOND
    assert sum(read) < segment.taken_below(tmp_path) * 2 // 3
    reader.close()


def many(folder: Path, count: int) -> None:
    """Record a hundred rows each second, each hundred in a segment of its own."""
    for i in range(count):
        block, first = rows(i * 100, 100, written_ns=i * SECOND), 1 + i * 100
        segment.create(segment.named(folder, first), "j", [(first, block.encode())], Marks(first + 100))


def test_of_many_segments_each_is_looked_at_once_and_others_are_served_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(tmp_path, 150)
    reader, listed, opened = RecordingReader(tmp_path), list[Path](), list[Path]()
    real, made = segment.files, segment.Segment.__init__
    monkeypatch.setattr(segment, "files", lambda path: listed.append(path) or real(path))

    def opening(self: segment.Segment, path: Path, **how: bool) -> None:
        opened.append(path)
        made(self, path, **how)

    monkeypatch.setattr(segment.Segment, "__init__", opening)
    start = CLOCK.offset_ns + 140 * SECOND
    parts = list(reader.follow(start))
    assert numbers(recordings.blocks(parts)) == [*range(14_000, 15_000)]
    assert sum(isinstance(part, Portion) for part in parts) >= 150
    assert len(listed) < 10
    opened.clear()
    assert numbers(reader.following(start)) == [*range(14_000, 15_000)]  # it is known by now
    assert len(opened) < 150 + 20  # what may hold a state before that is looked through
    assert numbers(reader.between(start)) == [*range(14_000, 15_000)]
    reader.close()


def test_segments_that_go_while_others_are_looked_at_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    many(tmp_path, 10)
    reader = RecordingReader(tmp_path)
    parts = reader.follow()
    next(parts)
    for each in segment.names(tmp_path)[:3]:
        segment.remove(each)
    assert numbers(recordings.blocks(parts)) == [*range(300, 1000)]
    assert caplog.records == []
    reader.close()


def test_rows_written_after_the_times_of_segments_were_taken_are_found(tmp_path: Path) -> None:
    recording = Recording(tmp_path, BYTES)
    recording.write([rows(0, 10, written_ns=SECOND)])
    recording.close()
    reader = RecordingReader(tmp_path)
    for second in range(2, 40):
        reader._reader.close()  # in one process nothing is open twice
        recording = Recording(tmp_path, BYTES)
        recording.write([rows(second * 4000, 4000, width=32, written_ns=second * SECOND)])
        recording.close()
        found = reader.following(CLOCK.offset_ns + second * SECOND)
        assert numbers(found) == [*range(second * 4000, (second + 1) * 4000)]
    assert len(segment.names(tmp_path)) > 1
    reader.close()


def test_a_clock_that_was_set_back_for_a_while_hides_no_rows(tmp_path: Path) -> None:
    year = 365 * 86400 * SECOND
    right = Clock("boot", 1790 * 10**15, "unsynchronised")
    wrong = Clock("boot", right.offset_ns - 10 * year, "unsynchronised")
    recording = Recording(tmp_path, BYTES)
    for turn in range(90):
        clock = wrong if 30 <= turn < 60 else right
        state = {"state": b"%d" % turn} if turn % 15 == 10 else {}
        recording.write([rows(turn * 4000, 4000, width=32, written_ns=turn * SECOND, clock=clock, **state)])
    recording.close()
    assert len(segment.names(tmp_path)) >= 4
    reader = RecordingReader(tmp_path)
    for turn, clock in [(turn, wrong if 30 <= turn < 60 else right) for turn in range(90)]:
        at = clock.offset_ns + turn * SECOND
        assert [block.first for block in reader.between(at, at)] == [turn * 4000]
        led = [block.first // 4000 for block in reader.following(at, at)]
        assert led == [*range((turn - 11) // 15 * 15 + 10 if turn > 10 else turn, turn + 1)]
    reader.close()


def test_who_goes_on_knows_how_far_each_input_had_come(tmp_path: Path) -> None:
    recording = Recording(tmp_path, BYTES)
    assert recording.next == {}
    recording.write([rows(0, 10, next={"a": 10, "b": 3}), rows(0, 3, "b", next={"a": 10, "b": 3})])
    recording.close()
    assert Recording(tmp_path, BYTES).next == {"a": 10, "b": 3}


def test_the_oldest_go_to_make_room_and_are_counted(tmp_path: Path) -> None:
    recording = Recording(tmp_path, 4 << 20)
    gone = sum(recording.write([rows(turn * 1000, 1000, width=64)]) for turn in range(60))
    assert gone > 0
    assert recording.bytes <= 4 << 20
    assert sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()) <= 4 << 20
    gone += recording.trim(2 << 20)
    assert recording.bytes <= 2 << 20
    recording.close()
    reader = RecordingReader(tmp_path)
    assert numbers(reader.between()) == list(range(gone, 60_000))
    assert numbers(reader.rows("a", 0, 1 << 62)) == list(range(gone, 60_000))
    reader.close()


def test_what_does_not_go_in_is_refused_and_nothing_of_it_is_there(tmp_path: Path) -> None:
    recording = Recording(tmp_path, 1 << 20)
    with pytest.raises(JournalError):
        recording.write([rows(0, 10_000, width=64)])
    assert recording.write([rows(0, 10)]) == 0
    recording.close()
    reader = RecordingReader(tmp_path)
    assert numbers(reader.between()) == list(range(10))
    reader.close()


def spoil(path: Path, number: int) -> None:
    """Overwrite a block with what cannot be one."""
    with lmdb.open(str(path), subdir=False, max_dbs=2) as env, env.begin(write=True) as txn:
        txn.put(number.to_bytes(8, "big"), b"\xff damaged", db=env.open_db(b"blocks", txn=txn))


def test_damaged_blocks_are_left_out_and_counted(tmp_path: Path) -> None:
    recording = Recording(tmp_path, BYTES)
    for turn in range(9):
        recording.write([rows(turn * 100, 100)])
    recording.close()
    for number in (301, 401):
        spoil(segment.names(tmp_path)[0], number)
    reader = RecordingReader(tmp_path)
    whole = [*range(300), *range(500, 900)]
    assert numbers(reader.between()) == whole
    assert reader.damaged == {301, 401}
    for first, last in ((0, 899), (250, 550), (310, 380), (600, 650), (899, 899)):
        assert numbers(reader.rows("a", first, last)) == [n for n in whole if first <= n <= last]
    assert reader.damaged == {301, 401}  # each once, however often it was come across
    reader.close()


def test_a_damaged_segment_is_set_aside_and_the_rest_goes_on(tmp_path: Path) -> None:
    recording = Recording(tmp_path, BYTES)
    for turn in range(20):
        recording.write([rows(turn * 4000, 4000, width=64)])
    recording.close()
    newest = segment.names(tmp_path)[-1]
    newest.write_bytes(b"not LMDB" * 1000)
    again = Recording(tmp_path, BYTES)
    assert [damage.segment for damage in again.damaged] == [newest.name]
    last = again.next["a"]
    assert 0 < last < 80_000
    again.write([rows(last, 10)])
    again.close()
    reader = RecordingReader(tmp_path)
    assert numbers(reader.between()) == list(range(last + 10))
    assert numbers(reader.rows("a", last - 5, last + 5)) == list(range(last - 5, last + 6))
    reader.close()


def test_where_nothing_was_recorded_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="nothing"):
        RecordingReader(tmp_path / "nothing")


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(1, 50)), max_size=25), st.data()
)
def test_any_stretch_of_any_recording_is_found(
    turns: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    following = {"a": 0, "b": 1 << ROW_BITS}
    there: dict[str, list[int]] = {"a": [], "b": []}
    with TemporaryDirectory() as folder:
        recording = Recording(Path(folder), BYTES)
        for name, missing, count in turns:
            first = following[name] + missing
            following[name] = first + count
            there[name] += range(first, first + count)
            recording.write([rows(first, count, name, next=dict(following))])
        recording.close()
        reader = RecordingReader(Path(folder))
        name = data.draw(st.sampled_from("ab"))
        base = 0 if name == "a" else 1 << ROW_BITS
        first = base + data.draw(st.integers(0, 2000))
        last = first + data.draw(st.integers(0, 500))
        assert numbers(reader.rows(name, first, last)) == [n for n in there[name] if first <= n <= last]
        reader.close()


@given(st.integers(0, 20), st.integers(-5, 30), st.integers(-5, 30))
def test_a_part_of_a_block_holds_the_rows_asked_for_and_their_marks(
    count: int, first: int, last: int
) -> None:
    block = rows(
        3, count + 1, keys=("k", "l"), numbers=(0, 1), key=struct.pack(f"<{count + 1}I", *[1] * (count + 1))
    )
    found = within(block, first, last)
    expected = [n for n in range(3, 4 + count) if first <= n <= last]
    assert ([] if found is None else numbers([found])) == expected
    assert found is None or len(found.key) == 4 * found.count
