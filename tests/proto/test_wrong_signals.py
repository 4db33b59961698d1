"""Wrong uses of steps on signals, on what is detected and on ways, and exactly what is said about each."""

from __future__ import annotations

import pytest

from tests.support.documents import problems_of

HEAD = """edgeflow: 1
name: p
inputs:
  accel: {mqtt: "a/{m}", key: m, fields: [x, y], rate: 10 Hz}
  slow: {mqtt: s, fields: [c]}
  quick: {mqtt: q, fields: [c], rate: 100 kHz}
steps:
"""
TAIL = """  win: {from: accel, window: 8}
  odd: {from: slow, window: 8}
  one: {from: slow, window: 1}
outputs:
  o1: {from: s, event: seen}
  o2: {from: win, event: seen}
  o3: {from: odd, event: seen}
  o4: {from: quick, event: seen}
  o5: {from: one, event: seen}
"""
STEPS = [
    ("accel", "ewma: {}", "give either half_life or alpha"),
    ("accel", "ewma: {alpha: 2}", "alpha: must be above 0 and at most 1"),
    ("accel", "filter_iir: {}", "give one of lowpass, highpass, bandpass, notch and sos"),
    ("accel", "filter_iir: {lowpass: 5 Hz}", "lowpass: must be below half the rate, 5 Hz"),
    ("slow", "filter_iir: {lowpass: 1 Hz}",
     "lowpass: a frequency needs a rate (state the input's rate, or resample)"),
    ("accel", "filter_iir: {lowpass: 1 Hz, order: 13}", "order: must be between 1 and 12"),
    ("accel", "filter_iir: {bandpass: [2 Hz, 1 Hz]}", "bandpass: is two frequencies, the lower one first"),
    ("accel", "filter_iir: {sos: [[1, 0, 0, 1, -2, 1]]}", "sos: a section is not stable"),
    ("accel", "filter_iir: {sos: []}", "sos: is between 1 and 32 sections"),
    ("accel", "filter_iir: {sos: [[.nan, 0, 0, 1, 0, 0]]}",
     "sos: a section is b0, b1, b2, a0, a1, a2, and a0 is not 0"),
    ("accel", "filter_iir: {sos: [[1, 0, 0, 1, 0, 0]], order: 3}", "order: sos has none"),
    ("accel", "filter_iir: {lowpass: 1 Hz, q: 3}", "q: lowpass has none"),
    ("accel", "filter_iir: {notch: 1 Hz, q: 0}", "q: must be above 0 and at most 1e6"),
    ("quick", "filter_iir: {highpass: 0.01 Hz}",
     "highpass: is too low for 100000 Hz, at least 0.1 Hz (resample before it)"),
    ("accel", "filter_iir: {sos: [[1, 0, 0]]}",
     "sos: a section is b0, b1, b2, a0, a1, a2, and a0 is not 0"),
    ("accel", "spectrum: power", "needs windows of columns, but its rows have shape [2]"),
    ("odd", "spectrum: {bands: {a: [0, 1]}}",
     "bands: bands need the rate of the rows in the window (state the input's rate)"),
    ("win", "spectrum: {bands: {a: [3, 1]}}", "bands: 'a' is two frequencies, the lower one first"),
    ("win", "spectrum: {bands: {a: [5, 6]}}", "bands: 'a' begins beyond half the rate, 5 Hz"),
    ("one", "spectrum: power", "needs windows of 2 rows or more"),
    ("win", "spectrum: {bands: {}}", "bands: name at least one band"),
    ("accel", "zscore: 10", "column: say which column (known: x, y)"),
    ("accel", "zscore: {size: 10, hop: 20, column: x}", "hop: must be between 1 and 10 rows"),
    ("accel", "zscore: {size: 10, column: x, floor: 0}", "floor: must be above 0"),
    ("accel", "deadband: {}", "give either absolute or percent"),
    ("accel", "deadband: -1", "absolute: must not be below 0"),
    ("accel", "change: [z]", "columns: no column 'z' (known: x, y)"),
    ("accel", "throttle: {rows: 0, per: 1 s}", "rows: must be between 1 and 10000"),
    ("accel", "dedupe: 0 s", "within: must be longer than nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "entry", "what"), STEPS)
def test_what_is_said_of_a_wrong_step(source: str, entry: str, what: str) -> None:
    (line,) = problems_of(f"{HEAD}  s: {{from: {source}, {entry}}}\n{TAIL}")
    assert line.startswith("p.yaml:8:")
    assert line.partition(": steps.s: ")[2] == what


PORTS = [
    ("threshold: {column: x, above: 1, outside: [1, 2]}", "raised", "give one of above, below and outside"),
    ("threshold: {column: x, outside: [2, 1]}", "raised",
     "outside: is two levels, the lower one first"),
    ("threshold: {column: x, outside: [1, 2], clear: 1.5}", "raised",
     "clear: is a range for outside, and one level for above and below"),
    ("threshold: {column: x, outside: [1, 2], clear: [0, 1.5]}", "raised", "clear: must not be below 1"),
    ("silence: 0 s", "back", "after: must be longer than nothing"),
    ("route: {to: {a: x >}}", "a", "to: 'a': not an expression: invalid syntax"),
    ("route: {to: {a: z > 1}}", "a", "to: 'a': no column 'z' (known: x, y)"),
    ("route: {to: {else: x > 1}}", "else", "to: 'else' is not a port's name"),
    ("route: {to: {}}", "else", "to: name between 1 and 32 ports"),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "port", "what"), PORTS)
def test_what_is_said_of_a_wrong_step_with_ports(entry: str, port: str, what: str) -> None:
    text = f"{HEAD}  s: {{from: accel, {entry}}}\n{TAIL}".replace("from: s,", f"from: s.{port},")
    (line,) = problems_of(text)
    assert line.partition(": steps.s: ")[2] == what


def test_a_port_that_is_not_there_is_told() -> None:
    text = f"{HEAD}  s: {{from: accel, route: {{to: {{high: x > 1}}}}}}\n{TAIL}".replace("s,", "s.hihg,")
    assert problems_of(text) == ["p.yaml:13:8: outputs.o1: 's' has no port 'hihg' (did you mean 'high'?)"]
