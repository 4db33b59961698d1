"""Wrong uses of steps that make other values, and exactly what is said about each."""

from __future__ import annotations

import pytest

from tests.support.documents import problems_of

HEAD = """edgeflow: 1
name: p
inputs:
  accel: {mqtt: "a/{m}", key: m, fields: [x, y], rate: 10 Hz}
  whole: {mqtt: w, fields: [n], dtype: int32}
steps:
"""
TAIL = """  counted: {from: whole, filter: n > 0}
outputs:
  o1: {from: s, event: seen}
  o2: {from: counted, event: seen}
  o3: {from: accel, event: seen}
"""

STEPS = [
    ("map: {columns: {z: x + w}}", "7:26: steps.s: columns: no column 'w' (known: x, y)"),
    ("map: {columns: {z: x +}}", "7:26: steps.s: columns: 'z': not an expression: invalid syntax"),
    ("map: {columns: {x: x + 1}, keep: true}", "7:26: steps.s: columns: there is a column 'x' already"),
    ("map: {columns: {}}", "7:26: steps.s: columns: name each column once, and at least one"),
    ("scale: {}", "7:20: steps.s: give either factor and offset, or range and to"),
    ("scale: {factor: 2, range: [0, 1], to: [0, 2]}",
     "7:20: steps.s: give either factor and offset, or range and to"),
    ("scale: {range: [1, 1], to: [0, 2]}", "7:28: steps.s: range: has two ends that differ"),
    ("scale: {range: [0, 1, 2], to: [0, 2]}", "7:28: steps.s: range: is its two ends"),
    ("scale: {factor: 2, columns: [z]}", "7:39: steps.s: columns: no column 'z' (known: x, y)"),
    ("scale: {factor: .nan}",
     "7:20: steps.s: a scale needs numbers that are finite, and not too large"),
    ("scale: {range: [0, 1e-320], to: [0, 1e300]}",
     "7:20: steps.s: a scale needs numbers that are finite, and not too large"),
    ("scale: {factor: 2, columns: []}", "7:39: steps.s: columns: name each column once, and at least one"),
    ("drop: {columns: [x, x]}", "7:27: steps.s: columns: name each column once, and at least one"),
    ("fill: .nan", "7:20: steps.s: value: NaN is what it takes the place of"),
    ("fill: first", "7:20: steps.s: value: expected a number or one of last, not 'first'"),
    ("drop: some", "7:20: steps.s: when: 'some' is not one of any, all"),
    ("diff: 0 s", "7:20: steps.s: per: must be longer than nothing"),
    ("cast: int12", "7:20: steps.s: dtype: 'int12' is not one of float32, float64, int8, uint8, int16, "
     "uint16, int32, uint32, int64, bool (did you mean 'int32'?)"),
    ("reshape: [3]", "7:20: steps.s: shape: [3] has 3 values, rows [2] have 2"),
    ("reshape: {shape: [2, 1], columns: [a, b]}",
     "7:45: steps.s: columns: 2 columns do not fit [2, 1]"),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "lines"), STEPS)
def test_what_is_said_of_a_wrong_step(entry: str, lines: str) -> None:
    assert problems_of(f"{HEAD}  s: {{from: accel, {entry}}}\n{TAIL}") == [f"p.yaml:{lines}"]


def test_whole_numbers_have_no_nan() -> None:
    text = f"{HEAD}  s: {{from: whole, fill: 0}}\n{TAIL}"
    assert problems_of(text) == ["p.yaml:7:7: steps.s: 'int32' has no NaN"]
