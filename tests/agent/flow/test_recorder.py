"""What a worker records: the rows asked for, each once, whatever becomes of the worker and the disk."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.control.pipelines import ring_spec
from edgeflow_agent.core import board, shm
from edgeflow_agent.core.board import Board, labelled
from edgeflow_agent.core.ring import Gap, RingReader, RingWriter
from edgeflow_agent.flow import recorder
from edgeflow_agent.flow.recorder import STATE_BYTES, Recorder
from edgeflow_agent.flow.source import Source
from edgeflow_agent.store.journal import JournalError
from edgeflow_agent.store.recording import RecordingReader
from edgeflow_proto.event import ROW_BITS
from edgeflow_proto.rows import Rows
from tests.support.documents import graph_in_memory

BYTES = 16 << 20
GENERATION = 6
BASE = GENERATION << ROW_BITS
STEP_NS = 10**8  # between rows
Stretch = tuple[int, int]


class Bench:
    """One input with its ring, whose rows say which they are, and a recorder that can be killed."""

    def __init__(
        self, folder: Path, record: str = "all", intake: str = "", limit: int = BYTES,
        generation: int = GENERATION,
    ) -> None:  # fmt: skip
        text = (
            f"edgeflow: 1\nname: p\ninputs:\n  a: {{mqtt: 'a/{{m}}', fields: [x, y], rate: 10 Hz, "
            f"record: {record}, {intake}}}\noutputs:\n  o: {{from: a, event: seen}}\n"
        )
        self.folder, self.limit = folder, limit
        self.graph = graph_in_memory(text)
        self.spec = ring_spec(self.graph, "a", generation)
        memory = board.create()
        self.slot = Board(memory).slot(1)
        os.close(memory)
        self.memory = shm.create("ring", self.spec.size)
        self.writer = RingWriter(self.memory, self.spec)
        self.written = 0
        self.start()

    def start(self, position: int = 0) -> None:
        """Start a worker's recorder that resumes at a row."""
        reader = RingReader(self.memory, self.spec, ("x", "y"))
        ready, credit = shm.eventfd(), shm.eventfd()
        self.writer.bind(os.dup(ready), os.dup(credit))
        reader.bind(ready, credit)
        reader.position = position
        reader.poll()
        self.source = Source(0, reader, self.slot)
        self.recorder = Recorder(self.graph, {"a": self.source}, self.slot, "digest", lambda: b"state")
        self.recorder.begin(self.folder, self.limit)

    def stop(self) -> None:
        """Let go of what a worker holds, as its death does."""
        if self.recorder._recording is not None:
            self.recorder._recording.close()
        self.source.reader.close()

    def rows(self, count: int, key: int = 0) -> None:
        """Let rows come, and run them."""
        for part in range(0, count, self.spec.margin):
            numbers = np.arange(self.written, self.written + min(count - part, self.spec.margin))
            values = np.stack([numbers, -numbers], 1).astype(np.float32)
            self.writer.append(values, numbers * STEP_NS, np.full(len(numbers), key, np.uint32))
            self.writer.publish()
            self.written += len(numbers)
        self.source.reader.poll()
        self.source.reader.position = self.written

    def event(self, first: int, last: int) -> None:
        self.recorder.events(("a",), np.array([[BASE + first, BASE + last]]))

    def kill(self, position: int) -> None:
        """Let a worker resume at a row, as the snapshot says that the one before wrote there."""
        wanted = self.recorder.wanted
        self.stop()
        self.start(position)
        self.recorder.resume(wanted)
        self.source.reader.position = self.written

    def close(self) -> None:
        """Let go of what was shared."""
        self.stop()
        self.writer.close()
        os.close(self.memory)

    def counter(self, name: str) -> int:
        return self.slot.counter(labelled(name, input="a")).value

    def blocks(self) -> list[Rows]:
        """Return what is recorded, read from a copy: LMDB opens nothing twice in one process."""
        with TemporaryDirectory() as folder:
            copy = shutil.copytree(self.folder, Path(folder) / "copy")
            try:
                reader = RecordingReader(copy)
            except JournalError:
                return []
            try:
                return list(reader.between())
            finally:
                reader.close()

    def recorded(self) -> list[int]:
        """Return the rows that were recorded, having looked that each has its own values and time."""
        found: list[int] = []
        for block in self.blocks():
            numbers = list(range(block.first - BASE, block.end - BASE))
            values = np.frombuffer(block.values, "<f4").reshape(-1, 2)
            assert values[:, 0].tolist() == numbers == (-values[:, 1]).tolist()
            assert [t // STEP_NS for (t,) in struct.iter_unpack("<q", block.t)] == numbers
            assert block.next["a"] >= block.end
            found += numbers
        return found


Make = Callable[..., Bench]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return what makes benches, below the test's folder, which are closed behind it."""
    with ExitStack() as made:
        yield lambda folder="", *form, **fields: made.enter_context(
            closing(Bench(tmp_path / folder, *form, **fields))
        )


@pytest.fixture
def bench(make: Make) -> Bench:
    return make()


def test_all_rows_are_recorded_once_a_second_and_at_the_end(bench: Bench) -> None:
    bench.rows(30)
    bench.recorder.turn(10**9)
    assert bench.recorded() == list(range(30))
    bench.rows(10)
    bench.recorder.turn(10**9 + 1)
    assert bench.recorded() == list(range(30))
    bench.recorder.turn(2 * 10**9)
    bench.rows(5)
    bench.recorder.end()
    assert bench.recorded() == list(range(45))
    assert (bench.counter("recorded_rows_total"), bench.counter("recording_dropped_total")) == (45, 0)


def test_what_a_row_carries_is_recorded_with_it(make: Make) -> None:
    bench = make(intake="key: m")
    keys = [bench.writer.key(name) for name in ("left", "right")]
    bench.rows(3, keys[1])
    bench.writer.gap(Gap.DISCONNECT)
    bench.rows(2, keys[0])
    bench.recorder.end()
    (block,) = bench.blocks()
    assert [block.keys[i] for (i,) in struct.iter_unpack("<I", block.key)] == ["right"] * 3 + ["left"] * 2
    assert dict(zip(block.keys, block.numbers, strict=True)) == {"left": keys[0], "right": keys[1]}
    assert block.gaps == {3: "disconnect"}
    assert (block.columns, block.shape, block.dtype) == (("x", "y"), (2,), "float32")
    assert (block.digest, block.domain, block.state) == ("digest", "arrival", b"state")


@pytest.mark.parametrize("record", ["all", "{before: 3, after: 5}"])
def test_a_row_that_was_taken_out_is_recorded_as_such_by_whatever_worker(make: Make, record: str) -> None:
    bench = make("", record)
    bench.rows(10)
    bench.kill(4)
    bench.source.reader.position = 4
    bench.recorder.skip(bench.source)
    bench.kill(5)
    bench.event(5, 6)
    bench.recorder.end()
    (block,) = bench.blocks()
    assert {block.first - BASE + place: why for place, why in block.gaps.items()} == {4: "skipped"}
    assert 4 in bench.recorded()


def test_much_is_written_at_once_in_portions_and_with_a_state_now_and_then(make: Make) -> None:
    bench = make(intake="buffer: 1000000", limit=64 << 20)
    bench.recorder.turn(10**9)
    total = 0
    while total * 16 < 3 * STATE_BYTES:
        bench.rows(200_000)
        total += 200_000
        bench.recorder.turn(10**9 + 1)
    bench.recorder.end()
    assert len(bench.recorded()) == total
    states = [block.first for block in bench.blocks() if block.state]
    assert 2 <= len(states) <= 4


def test_of_slow_inputs_a_state_is_told_as_often_by_bytes_on_disk(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "STATE_BYTES", 64 << 10)
    for turn in range(1, 1000):
        bench.rows(1)
        bench.recorder.turn(turn * 10**9)
    told = [block.first - BASE for block in bench.blocks() if block.state]
    taken = sum(file.stat().st_blocks * 512 for file in bench.folder.iterdir())
    assert told[0] == 0
    assert len(told) > taken // (128 << 10)
    assert max(np.diff([*told, 1000])) < 400


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("rows"), st.integers(1, 40)),
            st.tuples(st.just("turn"), st.integers(0, 1)),
            st.tuples(st.just("kill"), st.integers(0, 60)),
        ),
        max_size=30,
    )
)
def test_workers_that_are_killed_record_every_row_once(happened: list[tuple[str, int]]) -> None:
    with TemporaryDirectory() as folder, closing(Bench(Path(folder), intake="buffer: 5000")) as bench:
        now = 10**9
        for what, number in happened:
            if what == "rows":
                bench.rows(number)
            elif what == "turn":
                now += number * 10**9
                bench.recorder.turn(now)
            else:
                bench.kill(max(0, bench.written - number))
        bench.recorder.end()
        assert bench.recorded() == list(range(bench.written))
        assert bench.counter("recording_dropped_total") == 0


def test_rows_of_a_new_ring_are_recorded_from_the_first(make: Make) -> None:
    old = make()
    old.rows(20)
    old.recorder.end()
    new = make(generation=GENERATION + 1)
    new.rows(7)
    new.recorder.end()
    assert [(block.generation, block.count) for block in new.blocks()] == [
        (GENERATION, 20),
        (GENERATION + 1, 7),
    ]


# around events


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("{before: 5, after: 3}", range(45, 64)),
        ("{before: 500ms, after: 300ms}", range(45, 64)),
        ("{before: 510ms, after: 290ms}", range(45, 63)),
        ("{before: 5}", range(45, 61)),
        ("{after: 1 s}", range(50, 71)),
        ("{before: 1000, after: 1000}", range(100)),
        ("{before: 100 s, after: 100 s}", range(100)),
    ],
)
def test_around_an_event_exactly_the_stretch_asked_for_is_recorded(
    make: Make, record: str, expected: range
) -> None:
    bench = make("", record)
    bench.rows(61)
    bench.event(50, 60)
    bench.recorder.committed(1)
    assert bench.recorded() == list(range(expected.start, min(61, expected.stop)))
    bench.rows(39)
    bench.recorder.end()
    assert bench.recorded() == list(expected)
    assert bench.counter("recording_dropped_total") == bench.counter("recording_short_total") == 0


def test_an_event_that_no_row_of_an_input_is_behind_is_where_the_input_had_come_to(make: Make) -> None:
    bench = make("", "{before: 5, after: 3}")
    bench.rows(50)
    bench.recorder.events(("other",), np.array([[3, 3]]))
    bench.rows(5)
    bench.recorder.events(("a",), np.array([[-1, -1]]))
    bench.rows(50)
    bench.recorder.end()
    assert bench.recorded() == list(range(44, 58))


@st.composite
def _happened(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """Return rows that come, events, turns, commits and deaths, in any order."""
    kinds = draw(
        st.lists(st.sampled_from(["rows", "rows", "event", "event", "turn", "commit", "kill"]), max_size=40)
    )
    return [(kind, draw(st.integers(0, 30)), draw(st.integers(0, 30))) for kind in kinds]


def lived_through(bench: Bench, happened: list[tuple[str, int, int]], before: int, after: int) -> set[int]:
    """Let it happen; return the rows around the events, which come in the order of their last rows.

    Rows that were passed by are not gone back to.
    """
    expected: set[int] = set()
    now, newest = 10**9, 0
    for what, one, other in happened:
        if what == "rows":
            bench.rows(one)
        elif what == "event" and bench.written:
            newest = last = max(newest, bench.written - 1 - other)
            bench.event(first := max(0, last - one), last)
            passed = max(bench.recorder._inputs["a"].done, first - before)
            expected |= set(range(passed, last + 1 + after))
        elif what == "turn":
            bench.recorder.turn(now := now + 10**9)
        elif what == "commit":
            bench.recorder.committed(now)
        elif what == "kill":
            bench.kill(max(0, bench.written - one))
    return expected


@given(_happened(), st.integers(1, 40), st.integers(1, 40), st.booleans(), st.booleans())
def test_any_events_have_the_rows_around_them_recorded_once(
    happened: list[tuple[str, int, int]], before: int, after: int, timed: bool, timely: bool
) -> None:
    lead = f"{before * 100}ms" if timed else str(before)
    trail = f"{after * 100}ms" if timely else str(after)
    record = f"{{before: {lead}, after: {trail}}}"
    with TemporaryDirectory() as folder, closing(Bench(Path(folder), record, "buffer: 5000")) as bench:
        expected = lived_through(bench, happened, before, after)
        bench.recorder.end()
        found = bench.recorded()
        assert len(found) == len(set(found))
        assert set(found) == {row for row in expected if row < bench.written}


def test_an_event_that_reaches_back_over_rows_passed_by_is_counted(make: Make) -> None:
    bench = make("", "{before: 5, after: 5}")
    bench.rows(200)
    bench.event(100, 110)
    bench.recorder.committed(1)
    bench.event(95, 112)
    assert bench.counter("recording_short_total") == 1
    bench.kill(200)
    bench.event(96, 115)
    bench.event(100, 116)
    assert bench.counter("recording_short_total") == 2
    bench.recorder.end()
    assert bench.recorded() == list(range(95, 122))


# rings that are too small, disks that are too full


def test_rows_that_are_overwritten_before_they_are_recorded_are_counted(make: Make) -> None:
    bench = make(intake="buffer: 100 rows")
    bench.rows(1000)
    bench.recorder.end()
    found = bench.recorded()
    assert found == list(range(1000 - len(found), 1000))
    assert len(found) >= 100
    assert bench.counter("recorded_rows_total") == len(found)
    assert bench.counter("recording_dropped_total") == 1000 - len(found)


def test_the_beginning_of_a_stretch_that_is_gone_is_told(make: Make) -> None:
    bench = make("", "{before: 10 s, after: 1}", "buffer: 16 rows")
    bench.rows(5000)
    bench.event(4999, 4999)
    assert bench.counter("recording_short_total") == 0
    bench.writer.append(np.zeros((1, 2), np.float32), np.array([5000 * STEP_NS]), 0)
    bench.recorder.end()
    slow = make("other", "{before: 10 s, after: 1}", "buffer: 16 rows")
    slow.source.reader._kept = 50  # as if rows came faster than the ring was made for
    slow.rows(500)
    slow.event(499, 499)
    slow.recorder.end()
    assert slow.counter("recording_short_total") == 1


def test_a_disk_that_refuses_costs_rows_and_nothing_else(make: Make) -> None:
    bench = make(intake="buffer: 100 rows", limit=0)
    for turn in range(20):
        bench.rows(50)
        bench.recorder.turn(turn * 10**9)
    assert bench.slot.counter("recording_refused").value == 2
    assert 0 < bench.counter("recording_dropped_total") <= bench.source.reader.oldest()
    assert bench.recorder.needed(bench.source) == bench.written  # nobody is kept waiting
    assert bench.recorded() == []
    bench.recorder.limit(BYTES)
    bench.recorder.turn(100 * 10**9)
    assert bench.blocks()[-1].state  # rows are missing before
    found = bench.recorded()
    assert found == list(range(1000 - len(found), 1000))
    assert bench.counter("recording_dropped_total") == 1000 - len(found) > 0
    assert bench.slot.counter("recording_refused").value == 0


def test_while_the_disk_refuses_no_more_is_wanted_than_the_ring_has(make: Make) -> None:
    bench = make("", "{before: 1, after: 1}", "buffer: 100 rows", limit=0)
    for turn in range(500):
        bench.rows(10)
        bench.event(bench.written - 5, bench.written - 5)
        bench.recorder.turn(turn * 10**9)
        assert len(bench.recorder.wanted["a"].whole) <= bench.source.reader._kept // 5 + 1
    bench.recorder.limit(BYTES)
    bench.recorder.end()
    found = bench.recorded()
    assert found[-3:] == [4994, 4995, 4996]
    assert bench.counter("recording_dropped_total") == 1500 - len(found)


@pytest.mark.parametrize(
    ("record", "wanted"),
    [("all", 3000), ("{before: 1, after: 1}", 90), ("{before: 1 ms, after: 100 s}", 2950)],
)
def test_what_is_refused_to_the_end_is_counted_once_although_the_worker_is_killed(
    make: Make, record: str, wanted: int
) -> None:
    bench = make("", record, "buffer: 100 rows", limit=0)
    for turn in range(30):
        bench.rows(100)
        bench.event(bench.written - 50, bench.written - 50)
        bench.recorder.turn(turn * 10**12)
        bench.kill(bench.written - 10)
    bench.recorder.end()
    assert (bench.counter("recorded_rows_total"), bench.counter("recording_dropped_total")) == (0, wanted)


def test_where_nothing_waits_any_more_it_is_known_again_that_it_could_be_recorded(make: Make) -> None:
    bench = make("", "{before: 1, after: 1}", "buffer: 100 rows", limit=0)
    bench.rows(10)
    bench.event(5, 5)
    bench.recorder.turn(10**9)
    bench.rows(5000)
    bench.recorder.limit(BYTES)
    bench.recorder.turn(2 * 10**9)
    assert bench.slot.counter("recording_refused").value == 0
    assert (bench.blocks(), bench.counter("recording_dropped_total")) == ([], 3)


@pytest.mark.parametrize("record", ["all", "{before: 1, after: 1}"])
def test_more_than_the_limit_waits_in_the_ring_when_the_recording_may_grow_again(
    make: Make, record: str
) -> None:
    bench = make("", record, "buffer: 400000 rows", limit=0)
    for _ in range(3000):
        bench.rows(100)
        bench.event(bench.written - 50, bench.written - 50)
    bench.recorder.turn(10**9)
    bench.recorder.limit(3 << 20)
    for turn in range(2, 30):
        bench.recorder.turn(turn * 10**9)
    assert bench.slot.counter("recording_refused").value == 0
    bench.recorder.end()
    assert bench.recorded()[-1] == (bench.written - 1 if record == "all" else bench.written - 49)
    assert sum(file.stat().st_blocks * 512 for file in bench.folder.iterdir()) <= 3 << 20


def test_a_folder_that_cannot_be_made_is_tried_again(make: Make, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder is to be")
    bench = make("taken/p")
    bench.rows(10)
    bench.recorder.turn(10**9)
    assert bench.slot.counter("recording_refused").value == 1
    (tmp_path / "taken").unlink()
    bench.recorder.turn(20 * 10**9)
    assert bench.recorded() == list(range(10))


def test_a_writer_that_waits_keeps_what_is_not_recorded_yet(bench: Bench) -> None:
    bench.rows(30)
    assert bench.recorder.needed(bench.source) == 0
    bench.recorder.turn(10**9)
    assert bench.recorder.needed(bench.source) == 30
