"""What a cut leaves of a log, without a disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.power.cuts import KEEPS, Cut, Keep, drawn, images
from tests.support.power.log import FLUSH, TOLD, WRITE, Record, read, record

BASE = bytes(4 * 4096)
PAGE = 4096
RECORDS = [
    Record(WRITE, 0, b"a" * PAGE),
    Record(WRITE, PAGE, b"b" * PAGE),
    Record(FLUSH, 0, b""),
    Record(TOLD, 0, b"two"),
    Record(WRITE, 2 * PAGE, b"c" * PAGE),
    Record(WRITE, 0, b"d" * PAGE),
]


def left(at: int, keep: Keep, seed: int = 0) -> bytes:
    return bytes(next(images(BASE, RECORDS, [Cut(at, keep, seed)]))[1])


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("at", [3, 4])
def test_what_was_flushed_is_there(at: int, keep: Keep) -> None:
    assert left(at, keep) == b"a" * PAGE + b"b" * PAGE + bytes(2 * PAGE)


def test_what_was_not_flushed_may_be_gone_or_there() -> None:
    assert left(2, "nothing") == BASE
    assert left(6, "nothing") == b"a" * PAGE + b"b" * PAGE + bytes(2 * PAGE)
    assert left(6, "everything") == b"d" * PAGE + b"b" * PAGE + b"c" * PAGE + bytes(PAGE)


def test_of_what_was_not_flushed_any_part_may_be_there() -> None:
    parts = {keep: {left(6, keep, seed) for seed in range(40)} for keep in KEEPS}
    assert [len(parts[keep]) for keep in ("the first", "any writes", "any pages")] == [3, 4, 4]
    assert len(parts["any sectors"]) == 40
    assert (
        b"d" * PAGE + b"b" * PAGE + bytes(2 * PAGE) not in parts["the first"]
    )  # the second without the first
    assert b"d" * PAGE + b"b" * PAGE + bytes(2 * PAGE) in parts["any writes"]


def test_cuts_come_in_order_and_one_image_does_not_change_the_next() -> None:
    cuts = drawn(RECORDS, 200, 1)
    assert [cut.at for cut in cuts] == sorted(cut.at for cut in cuts)
    one_by_one = [left(cut.at, cut.keep, cut.seed) for cut in cuts]
    assert [bytes(image) for _, image in images(BASE, RECORDS, cuts)] == one_by_one


def test_an_entry_that_was_not_finished_never_happened(tmp_path: Path) -> None:
    path = tmp_path / "log"
    whole = [record(entry.kind, entry.offset, entry.data) for entry in RECORDS]
    path.write_bytes(b"".join(whole)[:-1])
    assert read(path) == RECORDS[:-1]
