"""Wrong pipeline files and exactly what is said about each."""

from __future__ import annotations

import pytest

from edgeflow_proto.pipeline.kinds.base import kinds
from tests.support.documents import problems_of

HEAD = "edgeflow: 1\nname: p\n"
INPUT = "inputs:\n  accel: {mqtt: a/b, fields: [x, y, z], rate: 1 kHz}\n"
WINDOW = "steps:\n  w: {from: accel, window: 256}\n"
EVENT = "outputs:\n  out: {from: w, event: seen}\n"
RAISED = "outputs:\n  out: {from: w.raised, event: seen}\n"

FRAME = [  # the frame of a file
    ("name: p\n" + INPUT + WINDOW + EVENT, "1:1: no version (begin the file with edgeflow: 1)"),
    ("edgeflow: 2\nname: p\n" + INPUT + WINDOW + EVENT,
     "1:1: edgeflow: version 2 is not known (this is version 1)"),
    ("edgeflow: true\nname: p\n" + INPUT + WINDOW + EVENT,
     "1:1: edgeflow: version true is not known (this is version 1)"),
    ("edgeflow: 1\n" + INPUT + WINDOW + EVENT,
     "1:1: name: no name (lower-case letters, digits and '-', a letter first, at most 63)"),
    ("edgeflow: 1\nname: Bearing Watch\n" + INPUT + WINDOW + EVENT,
     "2:1: name: 'Bearing Watch' is not a pipeline name "
     "(lower-case letters, digits and '-', a letter first, at most 63)"),
    (HEAD + INPUT + WINDOW + EVENT + "step: {}\n", "9:1: unknown key 'step' (did you mean 'steps'?)"),
    (HEAD + "description: [a]\n" + INPUT + WINDOW + EVENT, "3:1: description: expected text, not a list"),
    ("- edgeflow: 1\n", "1:1: a pipeline file is a mapping (begin the file with edgeflow: 1)"),
    ("edgeflow: 1\nname: p\n---\n", "3:1: a second document begins here (one file, one document)"),
    (HEAD + INPUT, "1:1: no outputs\n4:3: inputs.accel: nothing reads it (remove it or name it in a 'from')"),
    (HEAD + INPUT + "steps: 3\noutputs:\n  out: {from: accel, event: seen}\n",
     "5:1: steps: expected a mapping of names, not 3"),
    (HEAD + INPUT + WINDOW + "outputs:\n  my out: {from: w, event: seen}\n",
     "8:3: outputs.my out: 'my out' is not a name (letters, digits and '_', a letter first, at most 63)"),
    (HEAD + INPUT + "steps:\n  accel: {from: accel, window: 3}\noutputs:\n  o: {from: accel, event: seen}\n",
     "6:3: steps.accel: 'accel' is also the name of one of the inputs"),
    (HEAD + "inputs: {a: mqtt, b: }\noutputs:\n  o: {from: a, event: seen}\n  p: {from: b, event: seen}\n",
     "3:10: inputs.a: expected a mapping, not 'mqtt'\n"
     "3:19: inputs.b: expected a mapping, not an empty value"),
    (HEAD + "inputs:\n" + "".join(f"  a{i}: {{http: }}\n" for i in range(257))
     + "outputs:\n" + "".join(f"  o{i}: {{from: a{i}, event: seen}}\n" for i in range(256)),
     "3:1: inputs: 257 entries, at most 256"),
]  # fmt: skip

KINDS = [  # entries, their kinds and options
    (HEAD + INPUT + "steps:\n  w: {from: accel, windw: 256}\n" + EVENT,
     "6:20: steps.w: unknown option 'windw' (did you mean 'window'?)"),
    (HEAD + INPUT + "steps:\n  w: {from: accel}\n" + EVENT,
     f"6:3: steps.w: no kind (known: {', '.join(sorted(kinds('step')))})"),
    (HEAD + INPUT + "steps:\n  w: {from: accel, window: 3, select: [x]}\n" + EVENT,
     "6:31: steps.w: 2 kinds: window and select (one entry, one kind)"),
    (HEAD + INPUT + "steps:\n  w: {from: accel, window: {size: big, hop: 2.5, hopp: 3}}\n" + EVENT,
     "6:29: steps.w: size: expected a number of rows or a duration such as 2s, not 'big'\n"
     "6:40: steps.w: hop: expected a number of rows or a duration such as 2s, with its unit, not 2.5\n"
     "6:50: steps.w: unknown option 'hopp' (did you mean 'hop'?)"),
    (HEAD + INPUT + "steps:\n  w: {from: accel, window: {hop: 2}}\n" + EVENT,
     "6:20: steps.w: 'size' is missing"),
    (HEAD + INPUT + "steps:\n  w: {from: accel, threshold: 3}\n" + RAISED,
     "6:20: steps.w: the options of 'threshold' are a mapping"),
    (HEAD + INPUT + "steps:\n  w: {from: accel, window: 0}\n" + EVENT,
     "6:20: steps.w: size: expected 1 to 1e+12 whole rows, not 0"),
    (HEAD + INPUT + "steps:\n  w: {from: accel, window: 2000000}\n" + EVENT,
     "6:20: steps.w: size: must be between 1 and 1000000 rows"),
    (HEAD + INPUT + WINDOW + "outputs:\n  out: {from: w, event: {severity: wrning, data: x}}\n",
     "8:26: outputs.out: severity: 'wrning' is not one of info, warning, error, critical "
     "(did you mean 'warning'?)\n"
     "8:44: outputs.out: data: expected a list or a mapping, not 'x'"),
    (HEAD + INPUT + WINDOW + "  s: {from: w, stats: [mean, men]}\noutputs:\n  o: {from: s, event: seen}\n",
     "7:30: steps.s: functions[1]: 'men' is not one of mean, std, rms, min, max, peak_to_peak, kurtosis, "
     "crest, zero_crossings, q01, q05, q10, q25, median, q75, q90, q95, q99 (did you mean 'mean'?)"),
    (HEAD + INPUT + WINDOW + "  s: {from: w, stats: [mean, mean]}\noutputs:\n  o: {from: s, event: seen}\n",
     "7:16: steps.s: functions: name each function once, and at least one"),
    (HEAD + INPUT + "steps:\n  w: {from: accel, threshold: {above: yes, column: x, for: 3 lines}}\n" + RAISED,
     "6:32: steps.w: above: expected a number, not 'yes'\n"
     "6:55: steps.w: for: expected a number of rows or a duration such as 2s, not '3 lines'"),
    (HEAD + INPUT + "steps:\n  w: {from: accel, threshold: {clear: 1, column: x}}\n" + RAISED,
     "6:20: steps.w: give one of above, below and outside"),
    (HEAD + INPUT + "steps:\n  w: {from: accel, threshold: {above: 1, clear: 2, column: x}}\n" + RAISED,
     "6:42: steps.w: clear: must not be above 1"),
    (HEAD + INPUT + "steps:\n  w: {from: accel, threshold: {below: .nan, column: x}}\n" + RAISED,
     "6:32: steps.w: below: NaN is no level"),
    (HEAD + INPUT + WINDOW + "outputs:\n"
     "  out: {from: w, mqtt: {topic: a, qos: 2, retain: yes, max_age: 5, payload: [1]}}\n",
     "8:35: outputs.out: qos: 2 is not one of 0, 1\n"
     "8:43: outputs.out: retain: expected true or false, not 'yes'\n"
     "8:56: outputs.out: max_age: expected a duration such as 5ms or 10 s, with its unit, not 5\n"
     "8:68: outputs.out: payload: expected a mapping, not a list"),
    (HEAD + INPUT + WINDOW + "outputs:\n  o: {from: w, event: edgeflow.gap}\n  p: {from: w, event: a b}\n",
     "8:16: outputs.o: type: types that begin with 'edgeflow.' are EdgeFlow's own\n"
     "9:16: outputs.p: type: not an event type: 'a b' (letters, digits, . _ -)"),
    (HEAD + INPUT + WINDOW + "outputs:\n  o: {from: w, file: a.txt}\n  p: {from: w, file: ../a.csv}\n",
     "8:16: outputs.o: path: cannot tell the format of 'a.txt' (known: csv, jsonl)\n"
     "9:16: outputs.p: path: not a file name a bundle may hold: '../a.csv'"),
]  # fmt: skip

INPUTS = [  # inputs and how their payloads become rows
    (HEAD + "inputs:\n  w: {mqtt: 'a/{machine}', key: machin, rate: 5 Hz}\n" + EVENT,
     "4:28: inputs.w: key: no capture 'machin' in the source (did you mean 'machine'?)"),
    (HEAD + "inputs:\n  w: {mqtt: a/#/b, rate: 5}\n" + EVENT,
     "4:20: inputs.w: rate: expected a rate such as 100 Hz or 1 kHz, with its unit, not 5"),
    (HEAD + "inputs:\n  w: {mqtt: a/#/b}\n" + EVENT, "4:7: inputs.w: topic: not a topic filter: 'a/#/b'"),
    (HEAD + "inputs:\n  w: {mqtt: a, decode: jsn}\n" + EVENT,
     "4:16: inputs.w: unknown decoder 'jsn' (did you mean 'json'?)"),
    (HEAD + "inputs:\n  w: {mqtt: a, decode: {json: , cbor: }}\n" + EVENT,
     "4:16: inputs.w: decode: expected one decoder (known: cbor, csv, json, raw, senml)"),
    (HEAD + "inputs:\n  w: {mqtt: a, fields: [x, x]}\n" + EVENT,
     "4:16: inputs.w: fields: name each column once, and at least one"),
    (HEAD + "inputs:\n  w: {mqtt: a, fields: {'a b': c}}\n" + EVENT,
     "4:16: inputs.w: fields: 'a b' is not a column name (letters, digits, _ and .)"),
    (HEAD + "inputs:\n  w: {mqtt: a, fields: {x: 3}}\n" + EVENT,
     "4:25: inputs.w: fields.x: expected text, not 3"),
    (HEAD + "inputs:\n  w: {mqtt: a, shape: [3, 0], dtype: float32}\n" + EVENT,
     "4:16: inputs.w: shape: sizes are 1 or more, and there is at least one"),
    (HEAD + "inputs:\n  w: {mqtt: a, shape: [3, 2], fields: [x]}\n" + EVENT,
     "4:16: inputs.w: shape: the last axis of shape [3, 2] is not 1 fields"),
    (HEAD + "inputs:\n  w: {mqtt: a, dtype: float16, max_keys: many}\n" + EVENT,
     "4:16: inputs.w: dtype: 'float16' is not one of float32, float64, int8, uint8, int16, uint16, int32, "
     "uint32, int64, bool (did you mean 'float64'?)\n"
     "4:32: inputs.w: max_keys: expected a whole number, not 'many'"),
    (HEAD + "inputs:\n  w: {mqtt: a, shape: [480, 640, 3], rate: 100 Hz}\n" + EVENT,
     "4:3: inputs.w: its ring would take 3516 MiB, at most 1024 (a smaller buffer, rate or window)"),
    (HEAD + "inputs:\n  w: {mqtt: a, record: some}\n" + EVENT,
     "4:16: inputs.w: record: expected one of off, all or a mapping, not 'some'"),
    (HEAD + "inputs:\n  w: {mqtt: a, record: {}}\n" + EVENT,
     "4:16: inputs.w: record: say how much before and after an event"),
    (HEAD + "inputs:\n  w: {mqtt: a, record: {before: 0 s, during: 1 s}}\n" + EVENT,
     "4:25: inputs.w: record.before: expected a number of rows or a duration such as 2s, not '0 s'\n"
     "4:38: inputs.w: record.during: unknown option 'during' (known: after, before)"),
    (HEAD + "inputs:\n  w: {mqtt: a, rate: 1 MHz, record: {before: 9 min}}\n" + EVENT,
     "4:3: inputs.w: its ring would take 2098 MiB, at most 1024 (a smaller buffer, rate or window)"),
    (HEAD + "inputs:\n  w: {mqtt: a, fields: [x], codes: {y: [a, b]}}\n" + EVENT,
     "4:29: inputs.w: codes: no column 'y' (known: x)"),
    (HEAD + "inputs:\n  w: {mqtt: a, fields: [x], codes: {x: [a, a]}}\n" + EVENT,
     "4:29: inputs.w: codes: 'x': name each text once, and at least one"),
    (HEAD + "inputs:\n  w: {mqtt: a, shape: [3], time: ts}\n" + EVENT,
     "4:28: inputs.w: time: its samples are numbers alone"),
    (HEAD + "inputs:\n  w: {host: 1s, time: ts}\n" + EVENT,
     "4:17: inputs.w: time: its samples are numbers alone"),
    (HEAD + "inputs:\n  w: {mqtt: a, time: {field: ts, unit: days}}\n" + EVENT,
     "4:34: inputs.w: time.unit: 'days' is not one of s, ms, us, ns, iso"),
    (HEAD + "inputs:\n  w: {host: 1s, key: name}\n" + EVENT,
     "4:17: inputs.w: key: no capture 'name' in the source"),
    (HEAD + "inputs:\n  w: {host: 1s, fields: [cpu, memry]}\n" + EVENT,
     "4:17: inputs.w: fields: unknown field 'memry' (did you mean 'memory'?)"),
    (HEAD + "inputs:\n  w: {host: 1ms}\n" + EVENT, "4:7: inputs.w: every: the shortest period is 10ms"),
    (HEAD + "inputs:\n  w: {host: 1s, decode: json}\n" + EVENT,
     "4:17: inputs.w: decode: host rows need no decoder"),
    (HEAD + "inputs:\n  w: {file: a.csv}\n" + EVENT,
     "4:7: inputs.w: a file needs a rate (for example rate: 100 Hz)"),
    (HEAD + "inputs:\n  w: {file: csv, rate: 1 Hz}\n" + EVENT,
     "4:7: inputs.w: path: cannot tell the format of 'csv' (known: csv, npy, npz, wav, jsonl)"),
    (HEAD + "inputs:\n  w: {mqtt: 'a/{m}', key: m}\noutputs:\n"
     "  o: {from: w, mqtt: 'a/{n}'}\n  p: {from: w, mqtt: a/+}\n",
     "6:16: outputs.o: topic: no capture 'n' (the key is {m})\n"
     "7:16: outputs.p: topic: not a topic to publish to: 'a/+'"),
]  # fmt: skip

GRAPH = [  # what reads what
    (HEAD + INPUT + "steps:\n  w: {window: 3}\n" + EVENT,
     "4:3: inputs.accel: nothing reads it (remove it or name it in a 'from')\n6:3: steps.w: no 'from'"),
    (HEAD + INPUT + "steps:\n  w: {from: [accel], window: 3}\n" + EVENT,
     "4:3: inputs.accel: nothing reads it (remove it or name it in a 'from')\n"
     "6:7: steps.w: 'from' is the name of one input or step"),
    (HEAD + INPUT + "steps:\n  w: {from: acel, window: 3}\n" + EVENT,
     "6:7: steps.w: no input or step 'acel' (did you mean 'accel'?)"),
    (HEAD + INPUT + WINDOW + "  v: {from: out, window: 3}\n" + EVENT + "  two: {from: v, event: seen}\n",
     "7:7: steps.v: no input or step 'out' (known: accel, w)"),
    (HEAD + INPUT + "steps:\n  w: {from: w, window: 3}\n" + EVENT + "  two: {from: accel, event: seen}\n",
     "6:7: steps.w: it reads, through others, what it makes itself"),
    (HEAD + INPUT + "steps:\n  w: {from: v, window: 3}\n  v: {from: w, model: gone.onnx}\n" + EVENT
     + "  two: {from: accel, event: seen}\n",
     "6:7: steps.w: it reads, through others, what it makes itself\n"
     "7:7: steps.v: it reads, through others, what it makes itself\n"
     "7:16: steps.v: file: no file gone.onnx beside the pipeline"),
    (HEAD + INPUT + "steps:\n  w: {from: accel, threshold: {above: 1, column: x}}\n" + EVENT,
     "8:9: outputs.out: 'w' has ports; say which (known: cleared, raised, state)"),
    (HEAD + INPUT + "steps:\n  w: {from: accel, threshold: {above: 1, column: x}}\n"
     "outputs:\n  out: {from: w.rised, event: seen}\n",
     "8:9: outputs.out: 'w' has no port 'rised' (did you mean 'raised'?)"),
    (HEAD + INPUT + WINDOW + RAISED, "8:9: outputs.out: 'w' has no port 'raised'"),
    (HEAD + INPUT + WINDOW + "outputs:\n  out: {from: accel, event: seen}\n",
     "6:3: steps.w: nothing reads it (remove it or name it in a 'from')"),
]  # fmt: skip

MODEL = "outputs:\n  out: {from: m, event: seen}\n"
ROWS = [  # shapes, dtypes, columns, models and functions
    (HEAD + INPUT + "steps:\n  w: {from: accel, window: 128}\n  m: {from: w, model: windows.onnx}\n" + MODEL,
     "7:7: steps.m: windows.onnx takes [-1, 256, 3] float32, but is fed rows of shape [128, 3]"),
    (HEAD + INPUT + "steps:\n  m: {from: accel, model: integer.tflite}\n" + MODEL,
     "6:7: steps.m: integer.tflite takes [1, 3] int16, but is fed float32"),
    (HEAD + INPUT + "steps:\n  m: {from: accel, model: pair.onnx}\n" + MODEL,
     "6:20: steps.m: file: pair.onnx has 2 inputs (left, right); one is fed "
     "(constants, state and other edges feed others)"),
    (HEAD + INPUT + "steps:\n  m: {from: accel, model: split.onnx}\n" + MODEL,
     "6:20: steps.m: output: split.onnx has 2 outputs; say which (mean, spread)"),
    (HEAD + INPUT + "steps:\n  m: {from: accel, model: {file: split.onnx, output: spred}}\n" + MODEL,
     "6:46: steps.m: output: split.onnx has no output 'spred' (did you mean 'spread'?)"),
    (HEAD + INPUT + "steps:\n"
     "  m: {from: accel, model: {file: split.onnx, output: mean, columns: [a]}}\n" + MODEL,
     "6:60: steps.m: columns: 1 are named, the model gives 3"),
    (HEAD + INPUT + "steps:\n  m: {from: accel, model: gone.onnx}\n" + MODEL,
     "6:20: steps.m: file: no file gone.onnx beside the pipeline"),
    (HEAD + INPUT + "steps:\n  m: {from: accel, model: ../gone.onnx}\n" + MODEL,
     "6:20: steps.m: file: not a file name a bundle may hold: '../gone.onnx'"),
    (HEAD + INPUT + "steps:\n  m: {from: accel, model: net.h5}\n" + MODEL,
     "6:20: steps.m: file: cannot tell the format of 'net.h5' (known: onnx, tflite)"),
    (HEAD + INPUT + "steps:\n  m: {from: accel, model: {file: bearing.onnx, threads: 0}}\n" + MODEL,
     "6:48: steps.m: threads: must be between 1 and 64"),
    (HEAD + INPUT + "steps:\n  m: {from: accel, python: feature.spectrum}\n" + MODEL,
     "6:20: steps.m: function: no file feature.py beside the pipeline"),
    (HEAD + INPUT + "steps:\n  m: {from: accel, python: features.spectru}\n" + MODEL,
     "6:20: steps.m: function: features.py defines no function or class 'spectru' "
     "(did you mean 'spectrum'?)"),
    (HEAD + INPUT + "steps:\n  m: {from: accel, python: broken.f}\n" + MODEL,
     "6:20: steps.m: function: broken.py:2: invalid syntax"),
    (HEAD + INPUT + "steps:\n  m: {from: accel, python: spectrum}\n" + MODEL,
     "6:20: steps.m: function: 'spectrum' is not a function's name (module.name, as in features.spectrum)"),
    (HEAD + INPUT + "steps:\n"
     "  m: {from: accel, python: {function: features.spectrum, columns: [a, b], shape: [3]}}\n" + MODEL,
     "6:58: steps.m: columns: 2 columns do not fit shape [3]"),
    (HEAD + INPUT + "outputs:\n  out: {from: accel, event: {data: [x, yy]}}\n",
     "6:30: outputs.out: data: no column 'yy' (did you mean 'y'?)"),
    (HEAD + INPUT + "steps:\n  m: {from: accel, select: [x, q]}\n" + MODEL,
     "6:20: steps.m: columns: no column 'q' (known: x, y, z)"),
    (HEAD + INPUT + "steps:\n  m: {from: accel, filter: x > 1 and q < 2}\n" + MODEL,
     "6:20: steps.m: where: no column 'q' (known: x, y, z)"),
    (HEAD + INPUT + "steps:\n  m: {from: accel, filter: 'open(x) > 1'}\n" + MODEL,
     "6:20: steps.m: where: no function 'open': 'open(x)' "
     "(known: abs, atan2, ceil, clip, cos, exp, floor, isfinite, isnan, log, log10, max, min, radians, "
     "round, sin, sqrt, where)"),
    (HEAD + INPUT + "steps:\n  w: {from: accel, threshold: {above: 1}}\n" + RAISED,
     "6:20: steps.w: column: say which column (known: x, y, z)"),
    (HEAD + INPUT + WINDOW + "  t: {from: w, threshold: {above: 1, column: x}}\n"
     "outputs:\n  out: {from: t.raised, event: seen}\n",
     "7:7: steps.t: needs rows of columns, but its rows have shape [256, 3]"),
    (HEAD + INPUT + "steps:\n  m: {from: accel, stats: [mean]}\n" + MODEL,
     "6:7: steps.m: needs windows of columns, but its rows have shape [3]"),
    (HEAD + "inputs:\n  accel: {mqtt: a, shape: [4, 4]}\nsteps:\n  m: {from: accel, select: [x]}\n" + MODEL,
     "6:20: steps.m: columns: the rows it reads have no named columns"),
]  # fmt: skip

PARAMS = [
    (HEAD + "params:\n  limit: {default: 2, min: 0, max: 1}\n  word: {default: a, min: 1}\n"
     "  gone: {defalt: 1}\n  odd: {default: 1, min: 3, max: 2}\n  a b: 1\n  list: [1]\n"
     + INPUT + WINDOW + EVENT,
     "4:3: params.limit: 2 is above the maximum 1\n"
     "5:3: params.word: only a number has a minimum and a maximum\n"
     "6:3: params.gone: 'default' is missing\n"
     "6:10: params.gone: unknown option 'defalt' (did you mean 'default'?)\n"
     "7:3: params.odd: the minimum 3 is above the maximum 2\n"
     "8:3: params.a b: 'a b' is not a name (letters, digits and '_', a letter first)\n"
     "9:3: params.list: default: expected true or false or a number or text, not a list"),
    (HEAD + "params: {limit: 2, word: a}\n" + INPUT
     + "steps:\n  w: {from: accel, threshold: {above: $limt, clear: $limit, column: $limit}}\n" + RAISED,
     "7:32: steps.w: above: no parameter 'limt' (did you mean 'limit'?)\n"
     "7:61: steps.w: column: expected text, not 2"),
    (HEAD + "params: [limit]\n" + INPUT + WINDOW + EVENT,
     "3:1: params: expected a mapping of names, not a list"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "lines"), FRAME + KINDS + INPUTS + GRAPH + ROWS + PARAMS, ids=lambda text: text[-70:]
)
def test_what_is_said_of_a_wrong_file(text: str, lines: str) -> None:
    assert problems_of(text) == [f"p.yaml:{line}" for line in lines.split("\n")]


ALL_AT_ONCE = """\
edgeflow: 1
name: Bearings
inputs:
  accel: {mqtt: a/{m}, key: m, rate: 1000}
  mic: {mqtt: b, max_keys: 0}
  quiet: {host: 1s}
steps:
  w: {from: accel, window: {size: 0x10, hp: 4}}
  f: {from: w, python: gone.f}
  m: {from: f, model: windows.onnx, window: 3}
  a: {from: mic, threshold: {above: $limit}}
outputs:
  one: {from: a.rised, event: {severity: bad}}
  two: {from: b, file: x.txt}
  two: {from: m, file: x.csv}
"""


def test_all_mistakes_are_said_at_once_in_the_order_of_the_file() -> None:
    assert problems_of(ALL_AT_ONCE.replace("a/{m}", "'a/{m}'")) == [
        "p.yaml:2:1: name: 'Bearings' is not a pipeline name "
        "(lower-case letters, digits and '-', a letter first, at most 63)",
        "p.yaml:4:34: inputs.accel: rate: expected a rate such as 100 Hz or 1 kHz, with its unit, not 1000",
        "p.yaml:5:18: inputs.mic: max_keys: must be between 1 and 65536",
        "p.yaml:6:3: inputs.quiet: nothing reads it (remove it or name it in a 'from')",
        "p.yaml:8:41: steps.w: unknown option 'hp' (did you mean 'hop'?)",
        "p.yaml:9:16: steps.f: function: no file gone.py beside the pipeline",
        "p.yaml:10:3: steps.m: nothing reads it (remove it or name it in a 'from')",
        "p.yaml:10:37: steps.m: 2 kinds: model and window (one entry, one kind)",
        "p.yaml:11:30: steps.a: above: no parameter 'limit'",
        "p.yaml:13:32: outputs.one: severity: 'bad' is not one of info, warning, error, critical",
        "p.yaml:14:9: outputs.two: no input or step 'b' (known: a, accel, f, m, mic, quiet, w)",
        "p.yaml:14:18: outputs.two: path: cannot tell the format of 'x.txt' (known: csv, jsonl)",
        "p.yaml:15:3: outputs: 'two' is there twice (first in line 14)",
    ]
