"""Wrong uses of models, and exactly what is said about each."""

from __future__ import annotations

import pytest

from tests.support.documents import problems_of

HEAD = """edgeflow: 1
name: p
inputs:
  in: {mqtt: a, fields: [x, y, z]}
  other: {mqtt: w, shape: [3], dtype: int8}
steps:
  s:
    from: in
    model:
      file: %s
      %s
outputs:
  one: {from: s, event: seen}
  two: {from: other, event: seen}
"""

VOICE = [  # inputs input, state, sr and gain; outputs output, stateN and note
    ("threads: 2",
     "10:7: steps.s: file: voice.onnx has 4 inputs (input, state, sr, gain); one is fed "
     "(constants, state and other edges feed others)"),
    ("constants: {srr: 16000}",
     "11:7: steps.s: constants: voice.onnx has no input 'srr' (did you mean 'sr'?)"),
    ("constants: {sr: 16000.5}", "11:7: steps.s: constants: sr is one int64, which 16000.5 is not"),
    ("constants: {sr: true}", "11:7: steps.s: constants: sr is one int64, which true is not"),
    ("constants: {sr: fast}", "11:7: steps.s: constants: sr is one int64, which 'fast' is not"),
    ("constants: {sr: [16000]}", "11:7: steps.s: constants: sr is one int64, not of shape [1]"),
    ("constants: {gain: [1, 2, 3]}", "11:7: steps.s: constants: gain is [1, 2] float32, not of shape [3]"),
    ("constants: {gain: [[1], [2, 3]]}",
     "11:7: steps.s: constants: gain has lists in a list that are not alike, or empty"),
    ("constants: {gain: 1e39}", "11:7: steps.s: constants: gain is [1, 2] float32, which 1e+39 is not"),
    ("constants: {gain: []}",
     "11:7: steps.s: constants: gain has lists in a list that are not alike, or empty"),
    ("constants: 3", "11:7: steps.s: constants: expected a mapping, not 3"),
    ("constants: {sr: 1, gain: 1, input: 1, state: 0}",
     "10:7: steps.s: file: constants and state feed all inputs of voice.onnx; rows need one"),
]  # fmt: skip
CARRIED = [  # besides constants for sr and gain
    ("state: {stateN: stat}",
     "12:7: steps.s: state: voice.onnx has no input 'stat' (did you mean 'state'?)"),
    ("state: {stat: state}",
     "12:7: steps.s: state: voice.onnx has no output 'stat' (did you mean 'stateN'?)"),
    ("state: {stateN: sr}", "12:7: steps.s: state: 'sr' is a constant"),
    ("state: {stateN: state, output: state}",
     "12:7: steps.s: state: output is [-1, 1] float32, but state is [2, -1, 4] float32"),
    ("state: {stateN: state}", "9:5: steps.s: output: voice.onnx has 2 outputs; say which (output, note)"),
    ("state: {stateN: state}\n      input: sr", "13:7: steps.s: input: 'sr' is a constant or state"),
    ("state: {stateN: state}\n      input: stat",
     "13:7: steps.s: input: voice.onnx has no input 'stat' (did you mean 'state'?)"),
    ("state: {stateN: state}\n      output: note",
     "10:7: steps.s: file: voice.onnx: note is of type string, which rows cannot be"),
    ("state: {stateN: state}\n      output: [output, outptu]",
     "13:7: steps.s: output: voice.onnx has no output 'outptu' (did you mean 'output'?)"),
    ("state: {stateN: state}\n      output: [output, output]",
     "13:7: steps.s: output: name each output once"),
]  # fmt: skip
WAKE = [  # of constant `old`: an int8 output of 3 classes, y, and n of int64
    ("constants: {old: 200}", "11:7: steps.s: constants: old is [1, 2] int8, which 200 is not"),
    ("state: {new: old}",
     "11:7: steps.s: state: new is [1, 2] int8, but old is [1, 2] int8 "
     "(also in scale and zero point they must be alike)"),
    ("output: [y, n]",
     "11:7: steps.s: output: they are of different types (float32, int64), which one row cannot be"),
    ("softmax: true\n      output: n", "11:7: steps.s: softmax: needs floats, the model gives int64"),
    ("top: 1\n      output: n", "11:7: steps.s: top: needs floats, the model gives int64"),
    ("top: 0", "11:7: steps.s: top: must be between 1 and 1000"),
    ("top: 4", "11:7: steps.s: top: the model gives 3 classes"),
    ("top: 1\n      argmax: true", "11:7: steps.s: top: argmax chooses already"),
    ("top: 1\n      columns: [word]", "12:7: steps.s: columns: 1 are named, top gives 2"),
    ("argmax: yes", "11:7: steps.s: argmax: expected true or false, not 'yes'"),
    ("labels: words.txt", "11:7: steps.s: labels: 2 are named, the model gives 3"),
    ("labels: gone.txt", "11:7: steps.s: labels: no file gone.txt beside the pipeline"),
    ("labels: ../words.txt",
     "11:7: steps.s: labels: not a file name a bundle may hold: '../words.txt'"),
    ("labels: empty.txt", "11:7: steps.s: labels: 0 labels; 1 to 65536 are possible"),
    ("labels: [yes, no, left turn]",
     "11:7: steps.s: labels: 'left turn' is not a column name (letters, digits, _ and .)"),
    ("labels: [a, b, c]\n      columns: [a, b, c]",
     "11:7: steps.s: labels: give labels or columns: both name the columns here"),
    ("quantise: raw", "8:5: steps.s: wake.tflite takes [1, 3] int8, but is fed float32"),
    ("quantise: by hand",
     "11:7: steps.s: quantise: 'by hand' is not one of auto, raw, model"),
    ("provider: gpu",
     "11:7: steps.s: provider: expected one of cpu, cuda, tensorrt, xnnpack or a mapping, not 'gpu'"),
    ("provider: {name: gpu}",
     "11:18: steps.s: provider.name: 'gpu' is not one of cpu, cuda, tensorrt, xnnpack "
     "(did you mean 'cpu'?)"),
]  # fmt: skip
OTHERS = [
    ("bearing.onnx", "quantise: model", "11:7: steps.s: quantise: bearing.onnx is not quantised"),
    ("batch.onnx", "threads: 1",
     "10:7: steps.s: file: batch.onnx takes 8 rows at a time; one or any number is possible"),
    ("planes.onnx", "argmax: true",
     "11:7: steps.s: argmax: needs one value per class, the model gives rows [4, 3]"),
]  # fmt: skip

PAIR = [  # a model of inputs left and right, [-1, 3]
    ("{left: in}", "file: pair.onnx",
     "9:13: steps.s: file: pair.onnx has 2 inputs (left, right); one is fed "
     "(constants, state and other edges feed others)"),
    ("in", "file: pair.onnx, input: left",
     "8:5: steps.s: nothing feeds 'right' of pair.onnx (a constant, state or another edge may)"),
    ("{left: in, rihgt: big}", "file: pair.onnx",
     "8:5: steps.s: pair.onnx has no input 'rihgt' (did you mean 'right'?)"),
    ("[in, big]", "file: pair.onnx", "8:5: steps.s: pair.onnx has no input 'in' (known: left, right)"),
    ("{left: in, right: in}", "file: pair.onnx",
     "8:5: steps.s: 'from' names from 1 to 16 inputs or steps, each once"),
    ("{left: in, right: big}", "file: pair.onnx, constants: {right: 1}",
     "8:5: steps.s: 'right' is a constant or state"),
    ("{left: in, right: big}", "file: pair.onnx, input: left",
     "9:30: steps.s: input: 'from' says which input each of several edges feeds"),
    ("{left: in, right: big}", "file: bearing.onnx",
     "8:5: steps.s: bearing.onnx has no input 'left' (known: in)"),
    ("in", "file: bearing.onnx, tolerance: 1s",
     "9:33: steps.s: tolerance: there is one edge; nothing is put beside its rows"),
    ("{left: in, right: other}", "file: pair.onnx",
     "8:5: steps.s: the rows of 'right' are not in step with those of 'left' (join them first)"),
    ("{left: in, right: both}", "file: pair.onnx",
     "8:5: steps.s: the rows of 'right' are not in step with those of 'left' (join them first)"),
    ("{left: in, right: narrow}", "file: pair.onnx",
     "8:5: steps.s: pair.onnx takes [-1, 3] float32, but is fed rows of shape [2]"),
    ("{input: in, state: big}", "file: voice.onnx, output: output, constants: {sr: 1}",
     "8:5: steps.s: nothing feeds 'gain' of voice.onnx (a constant, state or another edge may)"),
]  # fmt: skip


def beside(source: str, options: str) -> str:
    return f"""edgeflow: 1
name: p
inputs:
  in: {{mqtt: a, fields: [x, y, z]}}
  other: {{mqtt: b, fields: [x, y, z]}}
steps:
  s:
    from: {source}
    model: {{{options}}}
  big: {{from: in, filter: x > 1}}
  narrow: {{from: in, select: [x, y]}}
  joined: {{from: {{a: in, b: other}}, join: 1 s}}
  both: {{from: joined, select: [a.x, a.y, b.z]}}
  calm: {{from: both, filter: b.z < 1}}
outputs:
  o: {{from: s, event: seen}}
  o1: {{from: big, event: seen}}
  o2: {{from: other, event: seen}}
  o3: {{from: narrow, event: seen}}
  o4: {{from: calm, event: seen}}
"""


def said(file: str, options: str) -> list[str]:
    return [line.removeprefix("p.yaml:") for line in problems_of(HEAD % (file, options))]


@pytest.mark.parametrize(("options", "line"), VOICE)
def test_what_is_said_of_inputs_and_constants(options: str, line: str) -> None:
    assert said("voice.onnx", options) == [line]


@pytest.mark.parametrize(("options", "line"), CARRIED)
def test_what_is_said_of_state_and_outputs(options: str, line: str) -> None:
    assert said("voice.onnx", f"constants: {{sr: 16000, gain: 1}}\n      {options}") == [line]


@pytest.mark.parametrize(("options", "line"), WAKE)
def test_what_is_said_of_classes_and_quantising(options: str, line: str) -> None:
    rest = "" if "old" in options else "\n      constants: {old: 1}"
    rest += "" if "output" in options else "\n      output: y"
    assert said("wake.tflite", options + rest) == [line]


@pytest.mark.parametrize(("file", "options", "line"), OTHERS)
def test_what_is_said_of_other_models(file: str, options: str, line: str) -> None:
    assert said(file, options) == [line]


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("voice.onnx", "{constants: {sr: 16000, gain: [[1, 2]]}, state: {stateN: state}, output: output}"),
        ("wake.tflite", "{constants: {old: -128}, output: y, top: 3, labels: [a, left turn, c]}"),
        ("wake.tflite", "{constants: {old: [[1, 2]]}, output: y, softmax: true, columns: [a, b, c]}"),
        ("split.onnx", "{output: [mean, spread], provider: {name: cuda, required: true}}"),
    ],
)
def test_what_is_right_is_passed_over(file: str, options: str) -> None:
    text = (HEAD % (file, "PLACE")).replace(
        f"\n      file: {file}\n      PLACE", f" {options[:-1]}, file: {file}}}"
    )
    assert problems_of(text) == []


@pytest.mark.parametrize(("source", "options", "line"), PAIR)
def test_what_is_said_of_several_edges(source: str, options: str, line: str) -> None:
    assert problems_of(beside(source, options)) == [f"p.yaml:{line}"]


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("{right: in, left: big}", "file: pair.onnx, tolerance: 1 s"),
        ("{left: both, right: calm}", "file: pair.onnx"),
        ("in", "file: pair.onnx, constants: {left: 0}"),
        ("{input: in, gain: narrow}",
         "file: voice.onnx, constants: {sr: 1}, state: {stateN: state}, output: output"),
    ],
)  # fmt: skip
def test_what_feeds_every_input_is_passed_over(source: str, options: str) -> None:
    assert problems_of(beside(source, options)) == []
