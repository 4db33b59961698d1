"""Wrong outputs and exactly what is said about each."""

from __future__ import annotations

import pytest

from tests.support.documents import problems_of

HEAD = """edgeflow: 1
name: p
inputs:
  accel: {mqtt: "a/{m}", key: m, fields: [x, y], rate: 10 Hz}
  other: {mqtt: b, fields: [time, key]}
outputs:
  rest: {from: other, event: seen}
  all: {from: accel, event: seen}
"""

OUTPUTS = [
    ("{from: accel, event: {type: t, data: [z]}}", "9:37: outputs.o: data: no column 'z' (known: x, y)"),
    ("{from: accel, event: {type: t, data: {a: z}}}", "9:37: outputs.o: data: no column 'z' (known: x, y)"),
    ("{from: accel, mqtt: {topic: t, data: x}}",
     "9:37: outputs.o: data: expected a list or a mapping, not 'x'"),
    ("{from: accel, file: {path: a.csv, data: {time: x}}}",
     "9:40: outputs.o: data: each line has a 'time' of its own (call it otherwise: data: {other: column})"),
    ("{from: other, file: a.csv}",
     "9:20: outputs.o: data: each line has a 'time' of its own (call it otherwise: data: {other: column})"),
    ("{from: other, log: info}",
     "9:20: outputs.o: data: each line has a 'time' of its own (call it otherwise: data: {other: column})"),
    ("{from: accel, file: {path: a.csv, rotate: 10}}",
     "9:40: outputs.o: rotate: expected a size such as 10 MB or 512 KiB, with its unit, not 10"),
    ("{from: accel, file: {path: a.csv, rotate: 1 kB}}", "9:40: outputs.o: rotate: must be at least 4096 B"),
    ("{from: accel, file: {path: a.csv, keep: 0}}", "9:40: outputs.o: keep: must be between 1 and 1000"),
    ("{from: accel, log: {rate: 0 Hz}}",
     "9:26: outputs.o: rate: expected a rate such as 100 Hz or 1 kHz, not '0 Hz'"),
    ("{from: accel, log: loud}",
     "9:20: outputs.o: level: 'loud' is not one of info, warning, error"),
    ("{from: accel, http: }", "9:20: outputs.o: give either url or endpoint"),
    ("{from: accel, http: {url: 'http://h/', endpoint: e}}", "9:20: outputs.o: give either url or endpoint"),
    ("{from: accel, http: h.example/rows}",
     "9:20: outputs.o: url: not a URL to post to: 'h.example/rows' (as in http://127.0.0.1:8080/alarms)"),
    ("{from: accel, http: 'http://h:port/'}",
     "9:20: outputs.o: url: not a URL to post to: 'http://h:port/' (as in http://127.0.0.1:8080/alarms)"),
    ("{from: accel, http: 'https://me:secret@h/'}",
     "9:20: outputs.o: url: a URL with a password in it is seen by many (use a header)"),
    ("{from: accel, http: {url: 'http://h/', path: /a}}",
     "9:45: outputs.o: path: belongs to an endpoint; the url has its own"),
    ("{from: accel, http: {endpoint: e, path: a b}}",
     "9:40: outputs.o: path: not a path: 'a b' (as in /alarms)"),
    ("{from: accel, http: {url: 'http://h/', headers: {Authorization: x}}}",
     "9:45: outputs.o: headers: secrets do not stand in a pipeline: 'Authorization' "
     "(name an endpoint of the device's settings, which has the header)"),
    ('{from: accel, http: {url: "http://h/", headers: {A: "b\\nc"}}}',
     "9:45: outputs.o: headers: not a header: 'A' (visible ASCII letters only)"),
    ("{from: accel, http: {url: 'http://h/', headers: {Host: h}}}",
     "9:45: outputs.o: headers: 'Host' is made by EdgeFlow"),
    ("{from: accel, http: {url: 'http://h/', batch: 0}}",
     "9:45: outputs.o: batch: must be between 1 and 1000"),
    ("{from: accel, http: {url: 'http://h/', timeout: 1h}}",
     "9:45: outputs.o: timeout: must be between 1ms and 60s"),
]  # fmt: skip


@pytest.mark.parametrize(("output", "line"), OUTPUTS)
def test_what_is_said_of_a_wrong_output(output: str, line: str) -> None:
    assert problems_of(f"{HEAD}  o: {output}\n") == [f"p.yaml:{line}"]
