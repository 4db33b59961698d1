"""`edgeflow run`: recordings through the runtime, the same bytes each time."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgeflow_tools.cli import edgeflow
from tests.support.onnx_files import linear

PIPELINE = """
edgeflow: 1
name: level
params:
  limit: {default: 1.6, min: 0}
inputs:
  accel: {mqtt: plant/accel, decode: {json: {samples: data}}, fields: [x, n], rate: 1 kHz}
steps:
  window: {from: accel, window: {size: 64, hop: 16}}
  features: {from: window, stats: [rms, max]}
  alarm: {from: features, threshold: {column: x.rms, above: $limit, clear: 1.2, for: 2 rows}}
outputs:
  score: {from: features, event: {type: level.score, data: [x.rms]}}
  raised: {from: alarm.raised, event: {type: level.raised, severity: warning}}
  stop: {from: alarm.raised, mqtt: {topic: plant/stop}}
"""
ROWS = 5000


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(edgeflow, ["run", *map(str, arguments)])


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "level.yaml"
    path.write_text(PIPELINE)
    return path


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    level = 1.0 + np.sin(2 * np.pi * np.arange(ROWS) / 400.0)
    rows = np.stack((rng.standard_normal(ROWS) * level, np.arange(ROWS)), axis=1).astype(np.float32)
    np.save(tmp_path / "accel.npy", rows)
    return tmp_path / "accel.npy"


def test_events_are_numbered_by_time_and_name_the_rows_behind_them(file: Path, recording: Path) -> None:
    result = run(file, "--input", f"accel={recording}")
    assert result.exit_code == 0
    events = lines(result.stdout)
    assert [event["id"] for event in events] == [f"run-{number}" for number in range(1, len(events) + 1)]
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)
    scores = [event for event in events if event["output"] == "score"]
    spans = [(16 * window, 16 * window + 63) for window in range((ROWS - 64) // 16 + 1)]
    assert [event["inputspan"] for event in scores] == [f"accel:{first}-{last}" for first, last in spans]
    assert scores[0]["time"] == "1970-01-01T00:00:00.063000Z"
    rows = np.load(recording)[:, 0].astype(np.float64)
    wanted = [np.sqrt(np.mean(rows[first : last + 1] ** 2)) for first, last in spans]
    np.testing.assert_allclose([event["data"]["x.rms"] for event in scores], wanted, rtol=1e-5)


def test_the_same_command_gives_the_same_bytes(file: Path, recording: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgeflow_tools.cli", "run", str(file), "--input", f"accel={recording}"]
    outs = [subprocess.run(command, capture_output=True, timeout=60, check=True).stdout for _ in range(2)]
    assert outs[0] == outs[1]
    out = tmp_path / "events.jsonl"
    assert run(file, "--input", f"accel={recording}", "--out", out).stdout == ""
    assert out.read_bytes() == outs[0]


def test_the_pace_changes_nothing(file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "short.npy", np.tile(np.float32([[3, 0]]), (700, 1)))
    given = [file, "--input", f"accel={tmp_path / 'short.npy'}"]
    fast, slow = run(*given), run(*given, "--speed", "1x", "--json")
    assert slow.stdout == fast.stdout != ""
    assert json.loads(slow.stderr)["seconds"] >= 0.69


def test_the_summary_counts_what_was_done(file: Path, recording: Path, tmp_path: Path) -> None:
    result = run(file, "--input", f"accel={recording}", "--out", tmp_path / "out", "--json")
    summary = json.loads(result.stdout)
    events = lines((tmp_path / "out").read_text())
    raised = sum(event["output"] == "raised" for event in events)
    windows = (ROWS - 64) // 16 + 1
    assert summary["rows"] == {"accel": ROWS}
    assert summary["rejected"] == {"accel": {}}
    assert (summary["windows"], summary["inferences"]) == (windows, 0)
    assert summary["events"] == len(events) == windows + raised
    assert summary["effects"] == {"stop": raised}
    assert summary["steps"]["features"]["rows"] == windows
    assert 0 < summary["steps"]["window"]["p50_us"] <= summary["steps"]["window"]["p99_us"]


def test_the_summary_for_people_goes_to_standard_error(file: Path, recording: Path) -> None:
    result = run(file, "--input", f"accel={recording}")
    assert f"{ROWS:,} rows in, 309 windows, 0 inferences" in result.stderr
    assert "outputs.stop: " in result.stderr
    assert "features" in result.stderr


def test_parameters_are_set_and_checked(file: Path, recording: Path) -> None:
    high = run(file, "--input", f"accel={recording}", "--param", "limit=100")
    assert {event["output"] for event in lines(high.stdout)} == {"score"}
    low = run(file, "--input", f"accel={recording}", "--param", "limit=-1")
    assert (low.exit_code, low.stdout) == (1, "")
    assert low.stderr == f"{file}:5:3: params.limit: -1 is below the minimum 0\n"


def test_rows_that_cannot_be_used_are_counted_and_named(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "accel.csv"
    path.write_text("x,n\n" + "1,2\n" * 70 + "oops,2\n" + "1,2\n" * 70)
    result = run(file, "--input", f"accel={path}", "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["rejected"] == {"accel": {"type": 1}}
    assert json.loads(result.stdout)["rows"] == {"accel": 140}
    assert "accel.csv: line 72: " in result.stderr


def test_a_failing_step_is_shown_with_the_authors_line(tmp_path: Path, recording: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def f(rows):\n    print('loud')\n    return rows / (rows[0, 1] != 7)\n"
    )
    (tmp_path / "mine.py").write_text(
        "def f(rows):\n    if 7 in rows[:, 1]:\n        raise KeyError('seven')\n    return rows\n"
    )
    text = PIPELINE[: PIPELINE.index("steps:")].replace("params:\n  limit: {default: 1.6, min: 0}\n", "")
    steps = "steps:\n  mine: {from: accel, python: {function: mine.f, columns: [a, b]}}\n"
    file = tmp_path / "mine.yaml"
    file.write_text(text + steps + "outputs:\n  out: {from: mine, event: {}}\n")
    result = run(file, "--input", f"accel={recording}")
    assert result.exit_code == 1
    assert "steps.mine: mine.py:3: KeyError: 'seven' (1 row dropped)" in result.stderr
    assert len(lines(result.stdout)) == ROWS - 1


def test_python_that_prints_does_not_spoil_the_events(tmp_path: Path, recording: Path) -> None:
    (tmp_path / "loud.py").write_text("print('hear')\n\ndef f(rows):\n    print('me')\n    return rows\n")
    text = PIPELINE[: PIPELINE.index("steps:")].replace("params:\n  limit: {default: 1.6, min: 0}\n", "")
    steps = "steps:\n  loud: {from: accel, python: {function: loud.f, columns: [a, b]}}\n"
    file = tmp_path / "loud.yaml"
    file.write_text(text + steps + "outputs:\n  out: {from: loud, event: {}}\n")
    result = run(file, "--input", f"accel={recording}")
    assert len(lines(result.stdout)) == ROWS
    assert "hear\nme\n" in result.stderr


def test_a_pipeline_that_cannot_be_loaded_says_which_line(tmp_path: Path, recording: Path) -> None:
    (tmp_path / "bad.py").write_text("import nowhere_to_be_found\n\ndef f(rows):\n    return rows\n")
    text = PIPELINE[: PIPELINE.index("steps:")].replace("params:\n  limit: {default: 1.6, min: 0}\n", "")
    file = tmp_path / "bad.yaml"
    file.write_text(
        text + "steps:\n  bad: {from: accel, python: bad.f}\noutputs:\n  out: {from: bad, event: {}}\n"
    )
    result = run(file, "--input", f"accel={recording}")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "steps.bad: bad.py:1: ModuleNotFoundError" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "no recording; give --input accel=PATH"),
        (("--input", "acel=x.npy"), "no input 'acel' (did you mean 'accel'?)"),
        (("--input", "accel=absent.npy"), "absent.npy: No such file or directory"),
        (("--input", "accel=some.xyz"), "some.xyz: cannot tell its format"),
        (("--input", "accel"), "is not of the form NAME="),
        (("--speed", "2x"), "'2x'"),
    ],
)
def test_what_cannot_be_done_is_told(file: Path, arguments: tuple[str, ...], told: str) -> None:
    result = run(file, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr
    assert "Traceback" not in result.stderr


def test_the_folder_to_write_to_must_be_there(file: Path, recording: Path, tmp_path: Path) -> None:
    result = run(file, "--input", f"accel={recording}", "--out", tmp_path / "absent" / "out")
    assert result.exit_code == 2
    assert result.stderr.endswith("out: No such file or directory\n")


def test_a_file_input_needs_no_recording(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("x\n1\n2\n3\n")
    file = tmp_path / "own.yaml"
    file.write_text(
        "edgeflow: 1\nname: own\ninputs:\n  x: {file: own.csv, fields: [x], rate: 10 Hz}\n"
        "outputs:\n  out: {from: x, event: {}}\n"
    )
    result = run(file)
    assert [event["data"]["x"] for event in lines(result.stdout)] == [1, 2, 3]
    assert [event["time"][17:21] for event in lines(result.stdout)] == ["00.0", "00.1", "00.2"]


def test_inputs_of_any_rate_are_taken_in_the_order_of_time(tmp_path: Path) -> None:
    for name, count in (("slow", 40), ("fast", 4000)):
        np.save(tmp_path / f"{name}.npy", np.arange(count, dtype=np.float32))
    file = tmp_path / "two.yaml"
    file.write_text(
        "edgeflow: 1\nname: two\ninputs:\n  slow: {mqtt: a, rate: 10 Hz}\n  fast: {mqtt: b, rate: 1 kHz}\n"
        "outputs:\n  s: {from: slow, event: {}}\n  f: {from: fast, event: {}}\n"
    )
    given = [f"{name}={tmp_path / name}.npy" for name in ("slow", "fast")]
    both = lines(run(file, "--input", given[1], "--input", given[0]).stdout)
    assert len(both) == 4040
    times = [int(event["monotonicns"]) for event in both]
    assert times == sorted(times)
    assert [event["output"] for event in both[:3]] == ["s", "f", "f"]
    alone = run(file, "--input", given[0])
    assert "inputs.fast: no recording is given" in alone.stderr
    assert [event["data"]["value"] for event in lines(alone.stdout)] == [*range(40)]


def test_keyword_spotting_gives_the_published_figures(tmp_path: Path, test_data: Path) -> None:
    tiny = test_data / "mlperf-tiny"
    with (tiny / "published" / "kws01_first100_NUCLEO_L4R5ZI.csv").open() as stream:
        published = list(csv.DictReader(stream))
    maps = [np.fromfile(tiny / "inputs" / "kws01" / row["file"], np.int8) for row in published]
    np.save(tmp_path / "kws01.npy", np.stack(maps).reshape(-1, 49, 10, 1))
    (tmp_path / "kws.tflite").symlink_to(tiny / "models" / "kws_ref_model.tflite")
    file = tmp_path / "words.yaml"
    file.write_text(
        "edgeflow: 1\nname: words\n"
        "inputs:\n  mfcc: {mqtt: mfcc, shape: [49, 10, 1], dtype: int8, rate: 1 Hz}\n"
        "steps:\n  score: {from: mfcc, model: kws.tflite}\noutputs:\n  word: {from: score, event: {}}\n"
    )
    result = run(file, "--input", f"mfcc={tmp_path / 'kws01.npy'}")
    events = lines(result.stdout)
    got = np.array([[event["data"][f"score_{word}"] for word in range(12)] for event in events])
    wanted = np.array([[float(row[f"p{word}"]) for word in range(12)] for row in published])
    assert np.abs(got - wanted).max() <= 0.001
    assert (got.argmax(axis=1) == [int(row["label"]) for row in published]).sum() == 93
    assert "100 inferences" in result.stderr
    assert all(len(event["modeldigest"]) == len("score=") + 64 for event in events)


def test_a_provider_that_is_not_here_is_told_and_one_required_refused(tmp_path: Path) -> None:
    linear(tmp_path / "m.onnx", np.eye(2, dtype=np.float32))
    text = """
edgeflow: 1
name: still
inputs:
  accel: {mqtt: plant/accel, fields: [x, n], rate: 1 kHz}
steps:
  score: {from: accel, model: {file: m.onnx, provider: %s}}
outputs:
  all: {from: score, event: still.all}
"""
    np.save(tmp_path / "rows.npy", np.ones((1, 2), np.float32))
    file = tmp_path / "still.yaml"
    file.write_text(text % "tensorrt")
    result = run(file, "--input", f"accel={tmp_path / 'rows.npy'}")
    assert result.exit_code == 0
    assert "steps.score: m.onnx is executed by cpu: tensorrt is not here" in result.stderr
    file.write_text(text % "{name: tensorrt, required: true}")
    result = run(file, "--input", f"accel={tmp_path / 'rows.npy'}")
    assert result.exit_code == 1
    assert "m.onnx: needs tensorrt, but only cpu is here to execute it" in result.stderr


JOINED = """
edgeflow: 1
name: joined
inputs:
  fast: {mqtt: a, fields: [x], rate: 10 Hz}
  slow: {mqtt: b, fields: [y], rate: 1 Hz}
steps:
  both: {from: [fast, slow], join: 10 s}
outputs:
  out: {from: both, event: joined.out}
"""


def test_inputs_of_different_rates_and_lengths_are_joined_to_the_end(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(JOINED)
    np.save(tmp_path / "fast.npy", np.arange(100, dtype=np.float32)[:, None])
    np.save(tmp_path / "slow.npy", np.arange(3, dtype=np.float32)[:, None])
    recordings = [f"--input={name}={tmp_path / name}.npy" for name in ("fast", "slow")]
    result = run(tmp_path / "pipeline.yaml", *recordings)
    assert result.exit_code == 0, result.output
    data = [json.loads(line)["data"] for line in result.stdout.splitlines()]
    assert [row["x"] for row in data] == list(range(100))
    assert [row["y"] for row in data] == [min(x // 10, 2) for x in range(100)]


def test_explain_shows_every_edge_without_a_recording(file: Path) -> None:
    found = json.loads(run(file, "--explain", "--json").stdout)
    assert found["pipeline"] == "level"
    edges = {edge["name"]: edge for edge in found["edges"]}
    assert [*edges] == ["accel", "window", "features", "alarm.raised", "alarm.cleared", "alarm.state"]
    assert edges["window"] == {
        "name": "window", "kind": "window", "reads": ["accel"], "read_by": ["features"], "shape": [64, 2],
        "dtype": "float32", "columns": ["x", "n"], "rate": 62.5, "key": None, "bytes_per_second": 32000.0,
        "memory": "kept", "copies": 1,
    }  # fmt: skip
    assert (edges["accel"]["memory"], edges["features"]["memory"]) == ("taken", "new")
    assert found["rings"]["accel"]["rows"] == 10000
    assert found["rings"]["accel"]["seconds"] == 10.0
    assert found["outputs"]["stop"] == {"kind": "mqtt", "from": "alarm.raised"}
    text = run(file, "--explain").stdout
    assert "window" in text
    assert "[64, 2] float32" in text
    assert "the ring of accel holds 10,000 rows (10 s)" in text


def test_explain_tells_views_from_copies_and_what_raises(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(
        "def same(rows): return rows[:, ::-1]\ndef wrong(rows): raise ArithmeticError('no')\n"
    )
    (tmp_path / "p.yaml").write_text(
        "edgeflow: 1\nname: p\ninputs: {a: {mqtt: a, fields: [x, y]}}\nsteps:\n"
        "  same: {from: a, python: {function: code.same, columns: [y, x]}}\n"
        "  wrong: {from: a, python: {function: code.wrong, columns: [y]}}\n"
        "outputs:\n  o: {from: same, event: {type: t}}\n  p: {from: wrong, event: {type: t}}\n"
    )
    result = run(tmp_path / "p.yaml", "--explain", "--json")
    edges = {edge["name"]: edge for edge in json.loads(result.stdout)["edges"]}
    assert [(edge["memory"], edge["copies"]) for edge in edges.values()] == [
        ("ring", 0),
        ("view", 0),
        (None, None),
    ]
    assert edges["a"]["rate"] is None
    assert "steps.wrong: with made-up rows" in result.stderr
    assert "ArithmeticError: no" in result.stderr


def test_profile_says_where_the_time_went(file: Path, recording: Path, tmp_path: Path) -> None:
    arguments = (file, "--input", f"accel={recording}", "--profile", "--out", tmp_path / "events.jsonl")
    parts = {part["step"]: part for part in json.loads(run(*arguments, "--json").stdout)["profile"]}
    steps = {"window", "features", "alarm"}
    assert parts.keys() == steps | {"(reading)", "(runtime)", "(events)", "(rest)"}
    assert sum(part["share"] for part in parts.values()) == pytest.approx(1, abs=0.01)
    assert all(0 < parts[name]["p50_us"] <= parts[name]["p99_us"] for name in steps)
    assert (parts["window"]["rows"], parts["window"]["calls"]) == (ROWS, 5)
    text = run(*arguments).stderr
    assert "rows per call" in text
    assert text.count("p50 per call") == 1


KEYED = """
edgeflow: 1
name: keyed
inputs:
  cold: {mqtt: cold/reports, decode: csv, key: sensor, fields: [degrees], time: {field: at, unit: iso}}
outputs:
  out: {from: cold, event: cold.out}
"""


def test_recordings_carry_keys_and_times_and_what_is_late_is_counted(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(KEYED)
    lines = [
        "at,sensor,degrees",
        "2026-01-01T00:00:00Z,a,1",
        "2026-01-01T01:00:00Z,b,2",
        "2026-01-01T00:30:00Z,a,3",
    ]
    (tmp_path / "cold.csv").write_text("\n".join(lines))
    result = run(tmp_path / "pipeline.yaml", f"--input=cold={tmp_path / 'cold.csv'}")
    came = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(event["subject"], event["time"], event["data"]["degrees"]) for event in came] == [
        ("a", "2026-01-01T00:00:00.000000Z", 1),
        ("b", "2026-01-01T01:00:00.000000Z", 2),
    ]
    assert "late" in result.stderr


QUIET = """
edgeflow: 1
name: quiet
inputs: {degrees: {mqtt: "cold/{box}", key: box}}
steps: {quiet: {from: degrees, silence: 10 s}}
outputs: {silent: {from: quiet.silent, event: quiet.silent}, back: {from: quiet.back, event: quiet.back}}
"""


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_recording_tells_what_a_topic_and_a_clock_would(tmp_path: Path, ending: str) -> None:
    (tmp_path / "quiet.yaml").write_text(QUIET)
    rows = [(at, box) for at in range(40) for box in ("a", "b") if box == "a" or not 5 < at < 25]
    named = [{"time": f"2026-06-01T08:00:{at:02}Z", "box": box, "value": at} for at, box in rows]
    text = ["time,box,value", *(",".join(map(str, row.values())) for row in named)]
    path = tmp_path / f"recording.{ending}"
    path.write_text("\n".join(text if ending == "csv" else map(json.dumps, named)))
    result = run(tmp_path / "quiet.yaml", "--input", f"degrees={path}")
    assert result.stderr.startswith("61 rows in")  # nothing is to be remarked
    came = [(event["type"], event["subject"], event["time"]) for event in lines(result.stdout)]
    assert came == [
        ("quiet.silent", "b", "2026-06-01T08:00:15.000000Z"),
        ("quiet.back", "b", "2026-06-01T08:00:25.000000Z"),
    ]


def test_the_end_of_a_recording_is_no_silence(tmp_path: Path) -> None:
    (tmp_path / "quiet.yaml").write_text(QUIET)
    (tmp_path / "recording.csv").write_text("box,value\n" + "a,1\n" * 12)
    result = run(tmp_path / "quiet.yaml", "--input", f"degrees={tmp_path / 'recording.csv'}")
    assert (result.exit_code, result.stdout) == (0, "")
