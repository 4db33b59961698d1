"""Wrong uses of steps that cut rows anew or bring edges together, and exactly what is said about each."""

from __future__ import annotations

import pytest

from tests.support.documents import problems_of

HEAD = """edgeflow: 1
name: p
inputs:
  accel: {mqtt: "a/{m}", key: m, fields: [x, y], rate: 10 Hz}
  temp: {mqtt: t, fields: [c]}
  gyro: {mqtt: "g/{m}", key: m, fields: [x, y]}
  whole: {mqtt: w, fields: [n], dtype: int32}
steps:
"""
TAIL = """  rest: {from: accel, filter: x > 0}
  warm: {from: temp, filter: c > 0}
  turned: {from: gyro, filter: x > 0}
  counted: {from: whole, filter: n > 0}
outputs:
  out: {from: s, event: seen}
  o1: {from: rest, event: seen}
  o2: {from: warm, event: seen}
  o3: {from: turned, event: seen}
  o4: {from: counted, event: seen}
"""

STEPS = [
    ("{from: temp, window: 10 s}",
     "9:19: steps.s: size: a duration needs a rate (state the input's rate, resample, or count rows)"),
    ("{from: accel, window: {size: 10 s, hop: 30 s, pad: start}}",
     "9:52: steps.s: pad: nothing to pad: windows leave rows out"),
    ("{from: accel, window: {size: 4, pad: end}}", "9:38: steps.s: pad: 'end' is not one of start"),
    ("{from: accel, window: 1 ms}", "9:20: steps.s: size: must be between 1 and 1000000 rows"),
    ("{from: accel, batch: 0}", "9:20: steps.s: size: must be between 1 and 1000000 rows"),
    ("{from: accel, resample: {}}", "9:20: steps.s: name either a rate or every how long"),
    ("{from: accel, resample: {rate: 1 Hz, every: 1 s}}",
     "9:20: steps.s: name either a rate or every how long"),
    ("{from: accel, resample: {every: 0 s}}", "9:31: steps.s: every: must be longer than nothing"),
    ("{from: whole, resample: 1 Hz}",
     "9:20: steps.s: method: cannot average rows of int32 (previous, or cast first)"),
    ("{from: accel, resample: 10}",
     "9:20: steps.s: rate: expected a rate such as 100 Hz or 1 kHz, with its unit, not 10"),
    ("{from: accel, join: 1 s}",
     "9:7: steps.s: 'from' names from 2 to 16 inputs or steps, each once, in a list or a mapping"),
    ("{from: [accel, accel], join: 1 s}",
     "9:7: steps.s: 'from' names from 2 to 16 inputs or steps, each once, in a list or a mapping"),
    ("{from: [accel, tmp], join: 1 s}", "9:21: steps.s: no input or step 'tmp' (did you mean 'temp'?)"),
    ("{from: {a: accel, b: tmp}, join: 1 s}", "9:24: steps.s: no input or step 'tmp' (did you mean 'temp'?)"),
    ("{from: [accel, gyro], join: 1 s}",
     "9:7: steps.s: 'gyro' has keys of its own (keys agree within one input; put the keyed one first)"),
    ("{from: [temp, accel], join: 1 s}",
     "9:7: steps.s: 'accel' has keys of its own (keys agree within one input; put the keyed one first)"),
    ("{from: [temp, whole], join: 1 s}", "9:7: steps.s: 'whole' is int32, the first float32 (cast)"),
    ("{from: [accel, s], join: 1 s}", "9:7: steps.s: it reads, through others, what it makes itself"),
    ("{from: [whole, counted], join: {tolerance: 1 s, missing: nan}}",
     "9:54: steps.s: missing: int32 has no NaN"),
    ("{from: [temp, even], join: 1 s}\n  even: {from: accel, resample: 1 Hz}",
     "9:7: steps.s: 'even' has keys of its own (keys agree within one input; put the keyed one first)"),
    ("{from: [even, temp], join: 1 s}\n  even: {from: accel, resample: 1 Hz}",
     "9:7: steps.s: the rows of 'even' do not come in the order of time "
     "(resample keys apart only behind this)"),
    ("{from: [accel, win], join: 1 s}\n  win: {from: accel, window: 4}",
     "9:7: steps.s: 'win' has no rows of columns"),
    ("{from: [accel, warm], merge: {}}", "9:7: steps.s: 'warm' has no keys, 'accel' has"),
    ("{from: [temp, one], merge: {}}\n  one: {from: gyro, select: [x]}",
     "9:7: steps.s: 'one' has keys of its own (keys agree within one input; put the keyed one first)"),
    ("{from: [accel, one], merge: {}}\n  one: {from: accel, select: [x]}",
     "9:7: steps.s: the rows of 'one' are of another form than the first"),
    ("{from: accel, select: [x], on_error: ignore}",
     "9:33: steps.s: on_error: 'ignore' is not one of drop, dead-letter, stop"),
    ("{from: accel, select: [x], latency_budget: 5}",
     "9:33: steps.s: latency_budget: expected a duration such as 5ms or 10 s, with its unit, not 5"),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "lines"), STEPS)
def test_what_is_said_of_a_wrong_step(entry: str, lines: str) -> None:
    assert problems_of(f"{HEAD}  s: {entry}\n{TAIL}") == [f"p.yaml:{line}" for line in lines.split("\n")]


def test_what_is_right_is_passed_over() -> None:
    assert problems_of(f"{HEAD}  s: {{from: [accel, temp], join: 1 s}}\n{TAIL}") == []
