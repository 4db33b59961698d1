"""What is told of recorded rows: how many, their curves, and CSV."""

from __future__ import annotations

import struct
from typing import Any

from edgeflow_proto import rows_csv
from edgeflow_proto.event import ROW_BITS, Clock
from edgeflow_proto.recorded import MAX_BYTES, MAX_POINTS, Recorded, recorded
from edgeflow_proto.rows import Rows, decode_rows, of_key
from edgeflow_proto.rows_csv import Naming
from edgeflow_proto.trace_plot import plots

BASE = 3 << ROW_BITS
SECOND = 10**9


def rows(first: int, values: list[tuple[float, ...]], **changes: Any) -> Rows:
    count, width = len(values), len(values[0])
    known: dict[str, Any] = {
        "input": "accel", "first": BASE + first, "count": count, "shape": (width,), "dtype": "float32",
        "clock": Clock("boot", 1_700_000_000 * SECOND, "synchronised"),
        "columns": tuple("xyz"[:width]) if width <= 3 else (),
        "t": struct.pack(f"<{count}q", *(i * SECOND for i in range(first, first + count))),
        "values": struct.pack(f"<{count * width}f", *(v for row in values for v in row)),
    }  # fmt: skip
    return Rows(**(known | changes))


def curves(found: Recorded) -> dict[str, tuple[list[float | None], list[float | None]]]:
    return {curve.name: (curve.low, curve.high) for curve in found.curves}


def test_few_rows_are_told_one_by_one_with_the_holes_between_them() -> None:
    found = recorded([rows(10, [(1, -1), (2, -2)]), rows(14, [(5, -5)])], BASE + 10, BASE + 15)
    assert (found.count, found.step, found.whole) == (3, 1, True)
    x, y = [1, 2, None, None, 5, None], [-1, -2, None, None, -5, None]
    assert curves(found) == {"x": (x, x), "y": (y, y)}


def test_many_rows_are_told_by_the_least_and_the_greatest_of_each_stretch() -> None:
    wave = [(float(i % 7),) for i in range(10 * MAX_POINTS)]
    blocks = [rows(start, wave[start : start + 999]) for start in range(0, len(wave), 999)]
    found = recorded(blocks, BASE, BASE + len(wave) - 1)
    assert (found.count, found.step) == (len(wave), 10)
    assert curves(found)["x"] == ([0.0] * MAX_POINTS, [6.0] * MAX_POINTS)


def test_what_is_no_number_is_left_out_of_a_curve() -> None:
    nan, inf = float("nan"), float("inf")
    found = recorded([rows(0, [(nan,), (1.5,), (inf,)])], BASE, BASE + 2)
    assert curves(found) == {"x": ([None, 1.5, None], [None, 1.5, None])}
    assert plots("accel", recorded([rows(0, [(nan,)])], BASE, BASE)) == ""


def test_wide_rows_and_rows_of_two_rings_are_counted_only() -> None:
    assert recorded([rows(0, [(0.0,) * 9])], BASE, BASE) == Recorded(count=1)
    two = recorded([rows(5, [(0.0,)])], BASE - 1, BASE + 5)
    assert (two.count, two.curves) == (1, [])


def test_of_very_many_rows_the_first_are_looked_through() -> None:
    block = [(0.0,) * 3] * 40_000
    blocks = [rows(start, block) for start in range(0, 200_000, 40_000)]
    found = recorded(blocks, BASE, BASE + 200_000)
    assert not found.whole
    assert MAX_BYTES // 12 <= found.count < 200_000


def test_of_one_key_the_rows_are_counted_and_drawn_and_what_lies_between_is_no_hole() -> None:
    def block(first: int, values: list[float], keys: list[int]) -> Rows:
        named = {"keys": ("a", "b"), "numbers": (7, 8), "key": struct.pack(f"<{len(keys)}I", *keys)}
        return rows(first, [(value,) for value in values], **named)

    blocks = [block(0, [1, 2, 3, 4], [0, 1, 1, 0]), block(6, [5], [1]), block(7, [6, 7], [0, 0])]
    found = recorded(blocks, BASE, BASE + 8, "a")
    x = [1, 4, None, None, 6, 7]  # rows 4 and 5 are not recorded: nobody knows whose they were
    assert (found.count, found.own, curves(found)) == (7, 4, {"x": (x, x)})
    assert [(own.first - BASE, own.count, own.keys, own.numbers) for own in of_key(blocks, "a")] == [
        (0, 1, ("a",), (7,)), (3, 1, ("a",), (7,)), (7, 2, ("a",), (7,)),
    ]  # fmt: skip
    assert [decode_rows(own.encode()) for own in of_key(blocks, "a")] == [*of_key(blocks, "a")]
    assert [*of_key(blocks, "c")] == []
    assert [*of_key(blocks, None)] == blocks
    unkeyed = [rows(0, [(1,)])]
    assert [*of_key(unkeyed, "a")] == unkeyed


def test_a_plot_has_a_shape_for_each_stretch_and_escapes_names() -> None:
    found = recorded(
        [rows(0, [(1,), (2,)], columns=("<b>",)), rows(5, [(4,)], columns=("<b>",))], BASE, BASE + 9
    )
    drawn = plots("a", found)
    assert drawn.count("<polygon") == 2
    assert "a.&lt;b&gt;: 1 to 4" in drawn
    assert "<b>" not in drawn


def lines(*blocks: Rows, **naming: Any) -> list[str]:
    return "".join(rows_csv.lines(blocks, Naming(**naming))).splitlines()


def test_rows_as_csv_name_their_place_time_and_key() -> None:
    keys = {"keys": ("a,b", "c"), "numbers": (0, 1), "key": struct.pack("<2I", 1, 0)}
    assert lines(rows(1, [(0.1, 2), (1e-9, -3)], **keys), key="machine") == [
        "ring,row,time,machine,x,y",
        "3,1,2023-11-14T22:13:21.000000Z,c,0.100000001,2",
        '3,2,2023-11-14T22:13:22.000000Z,"a,b",9.99999972e-10,-3',
    ]


def test_columns_of_the_same_name_words_and_other_columns_are_told_apart() -> None:
    block = rows(0, [(1, 5)], columns=("time", "mode"))
    other = rows(1, [(1, 2, 3, 4)])
    assert lines(block, other, codes={"mode": ["off", "on"]})[:2] == [
        "ring,row,_time,time,mode",
        "3,0,2023-11-14T22:13:20.000000Z,1,5.0",
    ]
    words = lines(rows(0, [(1, 1), (1, 0)], columns=("x", "mode")), codes={"mode": ["off", "on"]})
    assert [line.rpartition(",")[2] for line in words] == ["mode", "on", "off"]
    assert lines(block, other)[2] == "ring,row,time,v0,v1,v2,v3"
    assert lines() == []


def test_times_that_samples_carried_stand_as_they_are() -> None:
    block = rows(0, [(1,)], domain="payload", t=struct.pack("<q", 86400 * SECOND))
    assert lines(block)[1].split(",")[2] == "1970-01-02T00:00:00.000000Z"
