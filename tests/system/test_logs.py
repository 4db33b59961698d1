"""A real agent's logs: what every process says and the author's code prints, as JSON lines in the store."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edgeflow_agent.core.logfile import MIN_BYTES, pieces
from edgeflow_agent.core.logs import Line
from tests.support.device import Device
from tests.support.processes import eventually, kill, running
from tests.support.small_disk import fill, remount, small_disk

pytestmark = pytest.mark.system

TALK = """
edgeflow: 1
name: talk
inputs:
  host: {host: 100ms, fields: [cpu]}
steps:
  some: {from: host, python: {function: talk.some, shape: [1]}}
outputs:
  said: {from: host, log: {rate: 2 Hz}}
  all: {from: some, event: talk.all}
"""
CODE = """
import logging
print("imported")
def some(rows):
    print("a row of", len(rows))
    logging.getLogger("mine").error("no %s", "luck")
    return rows
"""


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path)
    yield device
    device.close()


def lines(device: Device) -> list[Line]:
    """Return every line; raises where one is not what it should be."""
    found = [each.path.read_bytes() for each in pieces(device.store / "logs")]
    return [msgspec.json.decode(line, type=Line) for data in found for line in data.splitlines()]


def test_all_that_is_said_and_printed_is_in_the_pipelines_log(lone: Device) -> None:
    folder = lone.pipelines / "talk"
    folder.mkdir()
    (folder / "pipeline.yaml").write_text(TALK)
    (folder / "talk.py").write_text(CODE)
    lone.start()
    eventually(lambda: lone.events("talk", "talk.all"), "it runs")
    kill(lone.workers()[0])
    wanted = {
        ("worker", "edgeflow.print", "info", "imported"), ("worker", "edgeflow.print", "info", "a row of 1"),
        ("worker", "mine", "error", "no luck"),
        ("agentd", "edgeflow.trial", "info", "imported"),
        ("agentd", "edgeflow.agentd", "warning", "talk: worker of talk was killed by SIGKILL"),
    }  # fmt: skip

    def said() -> bool:
        found = [line for line in lines(lone) if line.pipeline == "talk"]
        logged = {(line.process, line.logger, line.level, line.message) for line in found}
        rows = [line for line in found if (line.process, line.logger) == ("io", "edgeflow.log")]
        return wanted <= logged and bool(rows)

    eventually(said, "all of it is logged")
    assert lone.stop() == 0
    assert "edgeflow.print: imported" in lone.log  # for people it is on standard error as well


FAILING = """
edgeflow: 1
name: failing
inputs:
  v: {http: , fields: [x]}
steps:
  some: {from: v, python: {function: failing.some, shape: [1]}}
outputs:
  all: {from: some, event: failing.all}
"""
FAILS = """
def some(rows):
    if rows.min() < 0:
        raise ValueError("boom\\n)")
    return rows
"""


def test_the_error_of_a_step_is_logged_with_its_traceback_and_a_pipeline_that_is_quiet_is_known(
    lone: Device,
) -> None:
    folder = lone.pipelines / "failing"
    folder.mkdir()
    (folder / "pipeline.yaml").write_text(FAILING)
    (folder / "failing.py").write_text(FAILS)
    lone.start()
    eventually(lambda: "running" in lone.text("/api/v1/pipelines"), "it runs")
    command = [sys.executable, "-m", "edgeflow_tools.cli", "logs", "failing"]
    for where in (("--to", lone.url), ("--store", str(lone.store))):
        quiet = subprocess.run([*command, *where], capture_output=True, text=True, check=True)
        assert (quiet.stdout, quiet.stderr) == ("", "nothing is logged of 'failing' yet\n")
    for x in [1, -1, -2] * 20:
        body = json.dumps({"x": x}).encode()
        assert lone.request("POST", "/api/v1/pipelines/failing/inputs/v", body, "application/json")[0] == 202
    eventually(lambda: lone.metric("edgeflow_step_errors_total", pipeline="failing") == 40, "all have failed")
    (line,) = [line for line in lines(lone) if line.pipeline == "failing"]
    assert (line.process, line.level, line.logger) == ("worker", "error", "edgeflow.step")
    assert line.message.startswith("steps.some: ")
    assert line.message.endswith("dropped so far: failing.py:4: ValueError: boom\n)")
    assert line.traceback.startswith("Traceback (most recent call last):\n")
    assert line.traceback.endswith("ValueError: boom\n)\n")
    assert "edgeflow_agent" not in line.traceback
    assert "another exception" not in line.traceback
    told = lone.pipeline("failing")["errors"]["some"]
    assert "dropped: failing.py:4: ValueError: boom\n)\nTraceback" in told
    assert told.endswith("ValueError: boom\n)")
    assert "AuthorError" not in told


RAW = "application/octet-stream"
LOUD = """
edgeflow: 1
name: loud
inputs:
  v: {http: , shape: [200], buffer: 8192}
outputs:
  said: {from: v, log: {rate: 10 kHz}}
"""


def post(device: Device, rows: int, value: float = 0.123456789) -> None:
    """Have a line logged per row, of some 2 KB each."""
    body = array("f", [value] * 200 * 100).tobytes()
    for _ in range(rows // 100):
        status, answer = device.request("POST", "/api/v1/pipelines/loud/inputs/v", body, RAW)
        assert status == 202, answer


def test_the_logs_keep_within_their_share(tmp_path: Path) -> None:
    device = Device(tmp_path, log_bytes=MIN_BYTES).start()
    try:
        device.deploy("loud", LOUD)
        post(device, 4000)
        done = {"pipeline": "loud", "output": "said"}
        eventually(lambda: device.metric("edgeflow_effects_done_total", **done) == 4000, "all is logged")
        found = pieces(device.store / "logs")
        assert MIN_BYTES // 2 < sum(each.allocated for each in found) <= MIN_BYTES
        newest = [line for line in lines(device) if line.logger == "edgeflow.log"]
        assert len(newest) > 1000
        assert device.metric("edgeflow_log_lines_total", process="io") >= 4000
        assert device.metric("edgeflow_log_lines_lost_total") == 0
    finally:
        device.close()


def test_a_disk_full_of_other_things_disturbs_nobody_and_heals(tmp_path: Path) -> None:
    device = Device(tmp_path)
    with small_disk(device.store / "logs", 1 << 20) as disk:
        try:
            device.start()
            device.deploy("loud", LOUD)
            filler = fill(disk)
            post(device, 500)
            done = {"pipeline": "loud", "output": "said"}
            eventually(lambda: device.metric("edgeflow_effects_done_total", **done) == 500, "rows are taken")
            assert device.metric("edgeflow_log_lines_lost_total", process="io") >= 300
            assert json.loads(device.text("/readyz"))["ready"]
            filler.unlink()
            post(device, 100)
            eventually(lambda: device.metric("edgeflow_effects_done_total", **done) == 600, "rows are taken")
            told = [line.message for line in lines(device) if line.logger == "edgeflow.logs"]
            assert told[-1].endswith("lines before these were not kept: No space left on device")
            remount(disk, "ro")
            post(device, 100)
            remount(disk, "rw")
            eventually(lambda: device.metric("edgeflow_effects_done_total", **done) == 700, "rows are taken")
        finally:
            device.close()


def edgeflow(*arguments: str) -> list[str]:
    command = [sys.executable, "-m", "edgeflow_tools.cli", "logs", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


def test_the_command_shows_and_follows_a_device_that_runs_and_a_store_alone(lone: Device) -> None:
    lone.start()
    lone.deploy("loud", LOUD)
    (lone.pipelines / "wrong.yaml").write_text("edgeflow: 1\n")
    eventually(lambda: edgeflow("wrong", "--to", lone.url), "the refusal is logged")
    (line,) = edgeflow("wrong", "--store", str(lone.store), "--level", "error", "--since", "1h", "--json")
    assert json.loads(line)["process"] == "agentd"
    followed = {"--to": lone.url, "--store": str(lone.store)}
    logs = [lone.folder / f"followed{number}" for number in range(len(followed))]
    with contextlib.ExitStack() as stack:
        for log, where in zip(logs, followed.items(), strict=True):
            command = [sys.executable, "-m", "edgeflow_tools.cli", "logs", "loud", "--follow", *where]
            stack.enter_context(running(command, log))

        def have(value: float, count: int) -> bool:
            return all(
                sum(f"[{value:g}," in line for line in log.read_text().splitlines()) >= count for log in logs
            )

        eventually(lambda: have(1.5, 1) or post(lone, 100, 1.5), "both follow")
        post(lone, 100, 2.5)
        eventually(lambda: have(2.5, 100), "both hear all")
        assert not have(2.5, 101)
    assert lone.stop() == 0
    assert len(edgeflow("--store", str(lone.store), "--limit", "7")) >= 7
