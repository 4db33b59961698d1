from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.core import shm
from edgeflow_agent.core.layout import KEY_BYTES, RingSpec
from edgeflow_agent.core.ring import KEY_MASK, Gap, KeyLimitError, RingReader, RingWriter
from edgeflow_proto.event import ROW_BITS

PATIENCE_S = 60.0


def spec(capacity: int = 100, **fields: object) -> RingSpec:
    defaults: dict[str, object] = {"shape": (3,), "dtype": "float32", "generation": 5, "max_keys": 4}
    return RingSpec("p", "in", capacity=capacity, **(defaults | fields))  # type: ignore[arg-type]


@dataclass
class Ring:
    """A ring with one writer and one reader, and what was written."""

    spec: RingSpec
    fd: int = field(init=False)
    written: int = 0

    def __post_init__(self) -> None:
        self.fd = shm.create("ring", self.spec.size)
        self.writer = RingWriter(self.fd, self.spec)
        self.reader = RingReader(self.fd, self.spec, ("x", "y", "z"))
        self.bind()

    def bind(self) -> None:
        ready, credit = shm.eventfd(), shm.eventfd() if self.spec.lossless else None
        self.writer.bind(os.dup(ready), None if credit is None else os.dup(credit))
        self.reader.bind(ready, credit)

    def write(self, count: int, key: int = 0) -> None:
        """Append rows that say which they are."""
        row = np.arange(self.written, self.written + count)
        values = np.repeat(row[:, None], 3, axis=1).astype(np.float32)
        self.writer.append(values, row * 10, np.full(count, key))
        self.written += count

    def read(self, most: int) -> int:
        """Read rows, check that they are those written there, return how many were lost before them."""
        lost = self.reader.lost()
        count = min(most, self.reader.poll())
        batch, first = self.reader.view(count), self.reader.position
        row = np.arange(first, first + count)
        np.testing.assert_array_equal(batch.values, np.repeat(row[:, None], 3, axis=1))
        np.testing.assert_array_equal(batch.t, row * 10)
        np.testing.assert_array_equal(batch.span, np.stack((row, row), axis=1) + (5 << ROW_BITS))
        assert self.reader.intact(first)
        self.reader.position += count
        return lost

    def close(self) -> None:
        self.reader.close()
        self.writer.close()
        os.close(self.fd)


calls = st.lists(
    st.tuples(st.sampled_from(["write", "write", "publish", "read"]), st.integers(1, 900)), max_size=40
)


@given(calls, st.sampled_from([1, 4, 100, 512, 1000]))
def test_rows_come_as_written_and_losses_are_counted_to_the_row(
    calls: list[tuple[str, int]], capacity: int
) -> None:
    ring = Ring(spec(capacity))
    lost = 0
    for what, count in calls:
        if what == "write":
            ring.write(count)
        elif what == "publish":
            ring.writer.publish()
        else:
            before = ring.reader.position
            lost += ring.read(count)
            assert ring.reader.head - ring.reader.oldest() >= min(capacity, ring.reader.head)
            assert ring.reader.position >= before
    ring.writer.publish()
    lost += ring.read(1_000_000)
    assert ring.reader.position == ring.reader.head == ring.written
    assert lost <= max(0, ring.written - capacity)
    ring.close()


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=8))
def test_any_span_is_one_stretch_of_memory(sizes: list[int]) -> None:
    ring = Ring(spec(600))
    for size in sizes:
        for _ in range(3):
            ring.write(size)
            ring.writer.publish()
            ring.read(10_000)
    batch = ring.reader.view(1)
    assert batch.values.flags.c_contiguous
    ring.close()


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((1,), "bool"), ((49, 10, 1), "int8"), ((7,), "float64"), ((33, 5), "uint16"), ((), "int64")],
)
def test_every_form_of_row_wraps(shape: tuple[int, ...], dtype: str) -> None:
    form = spec(64, shape=shape, dtype=dtype)
    fd = shm.create("ring", form.size)
    writer, reader = RingWriter(fd, form), RingReader(fd, form)
    ready = shm.eventfd()
    writer.bind(os.dup(ready))
    reader.bind(ready)
    rng = np.random.default_rng(1)
    for _ in range(3 * form.column_slots(1) // 50):
        rows = rng.integers(0, 2, (50, *shape)).astype(dtype)
        writer.append(rows, np.zeros(50))
        writer.publish()
        reader.poll()
        np.testing.assert_array_equal(reader.view(50).values, rows)
        reader.position += 50
    assert reader.lost() == 0
    writer.close()
    reader.close()
    os.close(fd)


def test_nothing_is_seen_before_it_is_published() -> None:
    ring = Ring(spec())
    ring.write(5)
    assert ring.reader.poll() == 0
    ring.writer.publish()
    assert ring.reader.poll() == 5


def test_an_overrun_while_computing_is_noticed() -> None:
    ring = Ring(spec(100))
    ring.write(50)
    ring.writer.publish()
    ring.reader.poll()
    ring.reader.view(50)
    assert ring.reader.intact(0)
    ring.write(5000)
    ring.writer.publish()
    assert not ring.reader.intact(0)
    assert ring.reader.lost() == ring.reader.oldest()


def test_a_reader_that_is_bound_anew_counts_on() -> None:
    ring = Ring(spec())
    ring.write(7)
    ring.writer.publish()
    ring.read(3)
    ring.bind()
    assert ring.reader.poll() == 4
    ring.write(2)
    ring.writer.publish()
    assert ring.read(100) == 0
    assert ring.reader.position == 9


def test_two_readers_each_see_all_rows() -> None:
    ring = Ring(spec())
    ready = shm.eventfd()
    other = RingReader(ring.fd, ring.spec)
    ring.writer.bind(os.dup(ready), reader="shadow")
    other.bind(ready)
    ring.write(5)
    ring.writer.publish()
    ring.read(2)
    assert (ring.reader.poll(), other.poll()) == (3, 5)


def test_a_writer_that_takes_over_goes_on_and_marks_the_gap() -> None:
    ring = Ring(spec())
    ring.writer.key("a")
    ring.write(3, ring.writer.key("b"))
    ring.writer.publish()
    ring.writer = RingWriter(ring.fd, ring.spec)
    ring.bind()
    assert (ring.writer.head, ring.writer.key("b")) == (3, 1)
    ring.write(2)
    ring.writer.publish()
    assert ring.reader.poll() == 5
    keys = ring.reader.view(5).key
    assert (keys & KEY_MASK).tolist() == [1, 1, 1, 0, 0]
    assert (keys >> 28).tolist() == [0, 0, 0, Gap.RESTART, 0]


def test_a_gap_stands_at_the_next_row_alone() -> None:
    ring = Ring(spec(8))
    ring.write(1)
    ring.writer.gap(Gap.DISCONNECT)
    ring.write(6)
    ring.writer.publish()
    ring.reader.poll()
    assert (ring.reader.view(7).key >> 28).tolist() == [0, Gap.DISCONNECT, 0, 0, 0, 0, 0]


def test_keys_have_names_up_to_a_number_and_a_length() -> None:
    ring = Ring(spec(max_keys=2))
    name = "ö" * ((KEY_BYTES - 1) // 2)
    assert [ring.writer.key(name), ring.writer.key("b"), ring.writer.key(name)] == [0, 1, 0]
    assert [ring.reader.key_name(0), ring.reader.key_name(1)] == [name, "b"]
    with pytest.raises(KeyLimitError):
        ring.writer.key("c")
    with pytest.raises(ValueError, match="key longer than 63 bytes"):
        Ring(spec()).writer.key("ö" * 32)


def test_times_never_run_backwards() -> None:
    ring = Ring(spec())
    values = np.zeros((3, 3), np.float32)
    ring.writer.append(values, [10, 5, 20])
    ring.writer.append(values, [15, 25, 24])
    ring.writer.publish()
    ring.reader.poll()
    assert ring.reader.view(6).t.tolist() == [10, 10, 20, 20, 25, 25]


def test_a_lossless_writer_has_room_for_what_the_reader_let_go_of() -> None:
    ring = Ring(spec(10, lossless=True))
    assert ring.writer.space() == 0  # until the reader says where it stands
    ring.reader.release(0)
    assert ring.writer.space() == 10
    ring.write(10)
    ring.writer.publish()
    assert ring.writer.space() == 0
    ring.reader.release(4)
    assert ring.writer.space() == 4
    ring.bind()  # the reader tells a new writer, or a writer a new reader, all over again
    assert ring.writer.space() == 4
    ring.reader.release(10)
    assert ring.writer.space() == 10


RACER = """
import sys, numpy as np
from edgeflow_agent.core.layout import RingSpec
from edgeflow_agent.core.ring import RingWriter
memory, ready = map(int, sys.argv[1:])
spec = RingSpec("p", "in", (64,), "int64", 256, 1)
writer = RingWriter(memory, spec)
writer.bind(ready)
while True:
    rows = np.arange(writer.head, writer.head + 37)
    writer.append(np.repeat(rows[:, None], 64, axis=1), rows)
    writer.publish()
"""


@pytest.fixture
def raced() -> Iterator[RingReader]:
    """A reader of a ring that another process writes as fast as it can."""
    form = RingSpec("p", "in", (64,), "int64", 256, 1)
    fd, ready = shm.create("ring", form.size), shm.eventfd()
    writer = subprocess.Popen([sys.executable, "-c", RACER, str(fd), str(ready)], pass_fds=(fd, ready))
    reader = RingReader(fd, form)
    reader.bind(ready)
    yield reader
    writer.kill()
    writer.wait()
    reader.close()
    shm.close(fd)


def test_what_a_racing_writer_tears_is_never_taken_for_whole(raced: RingReader) -> None:
    deadline = time.monotonic() + PATIENCE_S
    whole = torn = noticed = 0
    while whole < 300 or torn < 10 or noticed < 30:
        assert time.monotonic() < deadline, f"{whole} whole, {torn} torn, {noticed} noticed"
        lost = raced.lost()
        waiting = raced.poll()
        if not waiting:
            time.sleep(0.0001)
            continue
        # Now the newest rows, now the oldest, which the writer is about to come round to.
        raced.position = raced.head - 1 if (whole + noticed) % 2 else max(raced.position, raced.oldest())
        batch, first = raced.view(min(waiting, 200, raced.head - raced.position)), raced.position
        values = batch.values.copy()
        right = bool((values == np.arange(first, first + len(values))[:, None]).all())
        if raced.intact(first):
            assert right, f"torn rows from {first} taken for whole (lost {lost} before)"
            whole += 1
        else:
            noticed += 1
            torn += not right
        raced.position = first + len(values)
