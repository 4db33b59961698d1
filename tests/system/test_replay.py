"""What a real device recorded, run again: from its data folder and from the device itself."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgeflow_tools.cli import edgeflow
from tests.support import sensor
from tests.support.device import Device
from tests.support.mosquitto import Mosquitto
from tests.support.processes import eventually

pytestmark = pytest.mark.system
PIPELINE = """
edgeflow: 1
name: press
params: {limit: 1.6}
inputs:
  accel:
    mqtt: plant/accel
    decode: {json: {samples: data}}
    fields: [x, n]
    rate: 1 kHz
    record: RECORD
steps:
  window: {from: accel, window: {size: 64, hop: 16}}
  features: {from: window, stats: [mean, rms, max]}
  usual: {from: features, zscore: {column: x.rms, size: 100}}
  alarm: {from: features, threshold: {column: x.rms, above: $limit, clear: 1.2, for: 2 rows}}
outputs:
  score: {from: usual, event: {type: press.score}}
  raised: {from: alarm.raised, event: {type: press.raised, severity: warning, data: [x.rms]}}
"""


def replayed(*arguments: object) -> tuple[int, dict[str, Any]]:
    """Return exit code and figures of a replay."""
    result = CliRunner().invoke(edgeflow, ["replay", *map(str, arguments), "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, json.loads(result.stdout)


@pytest.fixture(scope="module")
def plant(mosquitto: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A device that recorded all of 6 s in which its worker was killed, and after a restart 3 s more."""
    folder = tmp_path_factory.mktemp("plant")
    broker = Mosquitto(mosquitto, folder / "broker").start()
    device = Device(folder, broker=broker.port).start()
    device.deploy("press", PIPELINE.replace("RECORD", "all"))
    sent = sensor.start(broker.port, "plant/accel", folder / "one.npy", seconds=6)
    for _ in range(3):
        time.sleep(1)
        device.kill("worker")
    expected = sensor.report(sent)
    eventually(lambda: device.metric("edgeflow_recorded_rows_total") >= expected, "every row is recorded")
    device.stop()
    device.start()
    eventually(lambda: device.pipeline("press")["state"] == "running", "it runs again")
    more = sensor.report(sensor.start(broker.port, "plant/accel", folder / "two.npy", seconds=3))
    eventually(lambda: device.metric("edgeflow_recorded_rows_total") >= more, "every row is recorded")
    time.sleep(2)  # events are written at most a second later
    yield device
    device.close()
    broker.stop()


def own_events(device: Device) -> int:
    return len(device.events("press", "press.score")) + len(device.events("press", "press.raised"))


@pytest.mark.parametrize("asked", ["folder", "device"])
def test_a_pipeline_says_again_what_it_said(plant: Device, asked: str) -> None:
    code, found = replayed(plant.store if asked == "folder" else plant.url)
    same = sum(counts["same"] for counts in found["journal"]["outputs"].values())
    assert (code, found["journal"]["differences"]) == (0, [])
    assert found["rows"] == 9000
    assert found["restarts"] == 1
    assert same + found["journal"]["open"] == own_events(plant)
    assert same > 450
    assert found["cost"]["own"]["window"]["rows"] == 9000


def test_from_a_moment_on_it_knows_what_the_steps_remembered(plant: Device) -> None:
    scores = plant.events("press", "press.score")
    since, until = scores[400]["time"], scores[-1]["time"]
    code, found = replayed(plant.store, "--from", since, "--to", until)
    assert (code, found["journal"]["differences"]) == (0, [])
    inside = [event for event in scores if event["time"] >= since]
    same = found["journal"]["outputs"]["score"]["same"]
    assert abs(len(inside) - same) <= 1100 / 16  # rows are chosen by when they were written, once a second


def test_a_candidate_is_held_against_it(plant: Device, tmp_path: Path) -> None:
    candidate = tmp_path / "pipeline.yaml"
    candidate.write_text(PIPELINE.replace("RECORD", "all"))
    code, found = replayed(plant.store, "--pipeline", candidate)
    assert (code, found["candidate"]["differences"]) == (0, [])
    code, found = replayed(plant.store, "--pipeline", candidate, "--param", "limit=1.9")
    assert code == 0
    assert found["journal"]["differences"] == []
    kinds = {each["kind"] for each in found["candidate"]["differences"]}
    assert found["candidate"]["outputs"]["score"].keys() == {"same"}
    assert kinds & {"lost", "changed"}
    assert [*found["candidate"]["outputs"]["raised"]] != ["same"]
    assert found["cost"]["candidate"]["usual"]["us_per_row"] > 0
    result = CliRunner().invoke(
        edgeflow, ["replay", str(plant.store), "--pipeline", str(candidate), "--param", "limit=1.9"]
    )
    assert "the candidate against it:" in result.output
    assert "p99 per call" in result.output


def test_from_a_moment_on_a_candidate_remembers_what_it_has_in_common(plant: Device, tmp_path: Path) -> None:
    since = plant.events("press", "press.score")[100]["time"]
    candidate = tmp_path / "pipeline.yaml"
    candidate.write_text(PIPELINE.replace("RECORD", "all"))
    code, found = replayed(plant.store, "--from", since, "--pipeline", candidate)
    assert (code, found["candidate"]["differences"], found["without_memory"]) == (0, [], [])
    assert found["candidate"]["open"] == 0
    candidate.write_text(PIPELINE.replace("RECORD", "all").replace("size: 100", "size: 90"))
    arguments = ["replay", str(plant.store), "--from", since, "--pipeline", str(candidate)]
    result = CliRunner().invoke(edgeflow, arguments)
    assert "the candidate began without memory in usual" in result.output
    code, found = replayed(*arguments[1:])
    assert (code, found["without_memory"], found["candidate"]["outputs"]["raised"].keys()) == (
        0, ["usual"], {"same"},
    )  # fmt: skip
    assert found["candidate"]["open"] >= 90


def test_a_journal_that_says_otherwise_is_found_out(plant: Device, tmp_path: Path) -> None:
    code, found = replayed(plant.store, "--tolerance", "1e-30", "--out", tmp_path / "events.jsonl")
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert (
        len(lines)
        == sum(sum(counts.values()) for counts in found["journal"]["outputs"].values())
        + (found["journal"]["open"])
    )
    assert code in (0, 1)


def test_what_cannot_be_run_again_is_told(plant: Device, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(PIPELINE.replace("RECORD", "all").replace("fields: [x, n]", "fields: [x, q]"))
    for arguments, words in (
        ([str(tmp_path)], "not the data folder"),
        ([str(plant.store), "--of", "nobody"], "press"),
        ([str(plant.store), "--from", "noon"], "give a time"),
        ([str(plant.store), "--near", "soon"], "near"),
        ([str(plant.store), "--pipeline", str(other)], "no column 'q' is recorded"),
        (["http://127.0.0.1:1"], "answers"),
    ):
        result = CliRunner().invoke(edgeflow, ["replay", *arguments])
        assert (result.exit_code, words in result.output) == (2, True), result.output


def test_around_events_the_stretches_are_run_and_what_is_unknown_is_not_held_against_it(
    mosquitto: Path, tmp_path: Path
) -> None:
    broker = Mosquitto(mosquitto, tmp_path / "broker").start()
    device = Device(tmp_path, broker=broker.port).start()
    kept = [line for line in PIPELINE.splitlines() if "usual" not in line]
    text = "\n".join(kept).replace("RECORD", "{before: 200, after: 50}")
    device.deploy("press", text)
    sent = sensor.report(sensor.start(broker.port, "plant/accel", tmp_path / "sent.npy", seconds=4))
    eventually(lambda: device.metric("edgeflow_rows_total", pipeline="press") >= sent, "every row is run")
    device.stop()
    try:
        code, found = replayed(device.store)
    finally:
        broker.stop()
    assert code == 0
    assert 0 < found["rows"] < sent
    assert found["holes"] > 0
    assert found["journal"]["outputs"]["raised"]["same"] >= 1


def test_right_after_a_new_version_came_a_candidate_runs_over_the_rows_of_the_old_one(
    mosquitto: Path, tmp_path: Path
) -> None:
    broker = Mosquitto(mosquitto, tmp_path / "broker").start()
    device = Device(tmp_path, broker=broker.port).start()
    text = PIPELINE.replace("RECORD", "all")
    device.deploy("press", text)
    sent = sensor.report(sensor.start(broker.port, "plant/accel", tmp_path / "sent.npy", seconds=3))
    eventually(lambda: device.metric("edgeflow_recorded_rows_total") >= sent, "every row is recorded")
    try:
        device.deploy("press", text.replace("limit: 1.6", "limit: 1.5"))
        device.deploy("quiet", text.replace("name: press", "name: quiet"))
        result = CliRunner().invoke(edgeflow, ["replay", device.url, "--of", "press"])
        told = f"{sent:,} rows are another version's: --pipeline runs a candidate over them"
        assert (result.exit_code, told in result.output) == (2, True), result.output
        candidate = tmp_path / "candidate.yaml"
        candidate.write_text(text)
        code, found = replayed(device.url, "--pipeline", candidate)
        assert device.request("DELETE", "/api/v1/pipelines/press")[0] == 204
        eventually(lambda: device.request("GET", "/api/v1/pipelines/press")[0] == 404, "it is removed")
        again = replayed(device.url, "--of", "press", "--pipeline", candidate)
    finally:
        device.close()
        broker.stop()
    assert (code, again[0], found["rows"], found["journal"]) == (0, 0, 0, None)
    assert found["alone"]["rows"] == again[1]["alone"]["rows"] == sent
    assert found["alone"]["outputs"]["score"] > 100


TWO = """
edgeflow: 1
name: pair
inputs:
  accel:
    mqtt: plant/accel
    decode: {json: {samples: data}}
    fields: [x, n]
    rate: 1 kHz
    record: all
  motor:
    mqtt: plant/motor
    decode: {json: {samples: data}}
    fields: [x, n]
    rate: 1 kHz
    record: all
steps:
  window: {from: accel, window: {size: 64, hop: 64}}
  features: {from: window, stats: [rms]}
  both: {from: {row: features, beside: motor}, join: 1 s}
  alarm: {from: both, threshold: {column: x.rms, above: 1.2, clear: 1}}
outputs:
  pair: {from: both, event: {type: pair.pair}}
  raised: {from: alarm.raised, event: {type: pair.raised}}
"""


def test_two_inputs_of_which_each_has_its_own_ring_say_again_what_they_said(
    mosquitto: Path, tmp_path: Path
) -> None:
    broker = Mosquitto(mosquitto, tmp_path / "broker").start()
    device = Device(tmp_path, broker=broker.port).start()
    device.deploy("pair", TWO)
    sensors = [
        sensor.start(broker.port, f"plant/{name}", tmp_path / f"{name}.npy", seconds=4)
        for name in ("accel", "motor")
    ]
    sent = sum(map(sensor.report, sensors))
    eventually(lambda: device.metric("edgeflow_recorded_rows_total") >= sent, "every row is recorded")
    eventually(lambda: len(device.events("pair", "pair.pair")) >= 50, "what waits for time has come")
    device.stop()
    try:
        code, found = replayed(device.store)
    finally:
        broker.stop()
    outputs = found["journal"]["outputs"]
    assert (code, found["journal"]["differences"], found["journal"]["open"]) == (0, [], 0)
    assert (found["rows"], found["restarts"], found["holes"]) == (sent, 0, 0)
    assert outputs["pair"]["same"] >= 50
    assert outputs["raised"]["same"] >= 1


def test_rows_that_went_through_other_parameters_are_not_held_against_those_of_today(
    mosquitto: Path, tmp_path: Path
) -> None:
    broker = Mosquitto(mosquitto, tmp_path / "broker").start()
    device = Device(tmp_path, broker=broker.port, params={"press": {"limit": 1.6}}).start()
    device.deploy("press", PIPELINE.replace("RECORD", "all"))
    try:
        sent = [report(device, broker, tmp_path / "before.npy")]
        settings = json.loads(device.config.read_text())
        settings["params"]["press"]["limit"] = 1.9
        device.config.write_text(json.dumps(settings))
        device.start()
        sent.append(report(device, broker, tmp_path / "after.npy"))
    finally:
        broker.stop()
    code, found = replayed(device.store)
    assert (code, found["journal"]["differences"]) == (0, [])
    assert (found["other_rows"], found["rows"]) == (sent[0], sent[1])


def report(device: Device, broker: Mosquitto, sensed: Path) -> int:
    """Have all that a sensor reports recorded, then stop the device; return how many rows that were."""
    eventually(lambda: device.pipeline("press")["state"] == "running", "it runs")
    before = device.metric("edgeflow_recorded_rows_total")
    sent = sensor.report(sensor.start(broker.port, "plant/accel", sensed, seconds=4))
    eventually(lambda: device.metric("edgeflow_recorded_rows_total") - before >= sent, "all is recorded")
    device.stop()
    return sent


FRAGILE = """
edgeflow: 1
name: press
inputs:
  accel: {mqtt: plant/accel, decode: {json: {samples: data}}, fields: [x, n], rate: 100 Hz, record: all}
steps: {f: {from: accel, python: {function: code.f, columns: [x, n]}}}
outputs: {all: {from: f, event: {type: press.all, data: [n]}}}
"""
CODE = """
import os, signal
def f(rows):
    if (rows[:, 1] == 50).any():
        os.kill(os.getpid(), signal.SIGSEGV)
    return rows
"""


def test_a_row_that_killed_its_worker_does_not_kill_the_replay(
    device: Device, broker: Mosquitto, tmp_path: Path
) -> None:
    device.start()
    bundle = device.pipelines / "press"
    bundle.mkdir()
    (bundle / "code.py").write_text(CODE)
    (bundle / "pipeline.yaml").write_text(FRAGILE)
    eventually(lambda: '"running"' in device.text("/api/v1/pipelines"), "it runs", 30)
    sender = sensor.start(broker.port, "plant/accel", tmp_path / "sent.npy", seconds=3, rate=100, block=10)
    sent = sensor.report(sender)
    eventually(lambda: device.metric("edgeflow_recorded_rows_total") == sent, "all is recorded", 60)
    eventually(lambda: len(device.events("press", "press.all")) == sent - 1, "all but one are decided on")
    device.stop()
    command = [sys.executable, "-m", "edgeflow_tools.cli", "replay", str(device.store), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(result.stdout)
    assert (found["rows"], found["skipped_rows"], found["holes"]) == (sent, 1, 0)
    assert found["journal"]["outputs"] == {"all": {"same": sent - 1}}
    assert (found["journal"]["differences"], found["journal"]["open"]) == ([], 0)
