"""`edgeflow demo`, whole: sensor, broker, device, relay, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from edgeflow_tools.cli import edgeflow
from tests.support.processes import alive, eventually

pytestmark = pytest.mark.system


def start(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TMPDIR": str(folder)}
    command = [sys.executable, "-m", "edgeflow_tools.cli", "demo", *options]
    with (folder / "stderr").open("wb") as err:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err, env=environment
        )


def finished(demo: subprocess.Popen[bytes]) -> dict[str, Any]:
    out, _ = demo.communicate(timeout=120)
    told: dict[str, Any] = json.loads(out)
    return told


def left_in(folder: Path) -> list[Path]:
    return list(folder.glob("edgeflow-demo-*"))


@pytest.mark.parametrize("broker", ["mosquitto", "embedded"])
def test_it_loses_nothing_finds_the_damage_and_leaves_nothing_behind(
    broker: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if broker == "mosquitto":
        request.getfixturevalue("mosquitto")
    elif find_spec("iotcore") is None:
        pytest.skip("iotcore is not installed (make dev)")
    demo = start(tmp_path, "--for", "10", "--broker", broker, "--json")
    eventually(lambda: b"deployed examples/host-watch" in (tmp_path / "stderr").read_bytes(), "all runs")
    family = psutil.Process(demo.pid).children(recursive=True)
    outcome = finished(demo)
    assert outcome["problems"] == []
    assert demo.returncode == 0
    assert outcome["sent"] == outcome["received"] == 10_000
    device, relay, mirror = (outcome["events"][place] for place in ("device", "relay", "mirror"))
    assert device == relay == mirror > 20
    assert outcome["inferences"]["bearing-watch"] == 1 + (10_000 - 512) // 64
    assert outcome["inferences"]["host-watch"] > 0
    assert outcome["fault_at"] < outcome["found_at"] < 10
    assert all(latency["p50"] > 0 for latency in outcome["latency_ms"].values())
    assert len(family) >= 7  # broker, relay, agentd, io, link, two workers
    assert not [process for process in family if alive(process.pid)]
    assert left_in(tmp_path) == []


def url_of(folder: Path, name: str) -> str | None:
    lines = (folder / "stderr").read_text().splitlines()
    return next((line.split()[1] for line in lines if line.startswith(f"{name} ")), None)


def test_sigterm_ends_it_in_order_with_a_summary(tmp_path: Path) -> None:
    demo = start(tmp_path, "--json")
    eventually(lambda: b"samples sent" in (tmp_path / "stderr").read_bytes(), "the sensor runs")
    pages = [url_of(tmp_path, name) for name in ("device", "relay")]
    for page in pages:
        with urllib.request.urlopen(f"{page}/", timeout=20) as answer:
            assert answer.headers.get_content_type() == "text/html"
    demo.send_signal(signal.SIGTERM)
    outcome = finished(demo)
    assert outcome["lost"] == 0
    assert outcome["problems"] == []
    assert demo.returncode == 0
    assert left_in(tmp_path) == []


def test_nothing_outlives_one_that_is_killed(tmp_path: Path) -> None:
    demo = start(tmp_path)
    eventually(lambda: b"samples sent" in (tmp_path / "stderr").read_bytes(), "the sensor runs")
    family = psutil.Process(demo.pid).children(recursive=True)
    demo.kill()
    demo.communicate()
    eventually(lambda: not [process for process in family if alive(process.pid)], "all are gone")


def test_a_part_that_dies_is_named_and_the_rest_is_summed_up_and_taken_down(tmp_path: Path) -> None:
    demo = start(tmp_path, "--json")
    eventually(lambda: b"samples sent" in (tmp_path / "stderr").read_bytes(), "the sensor runs")
    family = psutil.Process(demo.pid).children(recursive=True)
    relay = next(process for process in family if "relay" in process.cmdline())
    relay.kill()
    outcome = finished(demo)
    assert outcome["problems"][0] == "relay ended with code -9"
    assert outcome["received"] == outcome["sent"] > 0
    assert demo.returncode == 1
    assert not [process for process in family if alive(process.pid)]


def test_ctrl_c_before_anything_runs_is_told_in_a_sentence(tmp_path: Path) -> None:
    demo = start(tmp_path)
    eventually(lambda: b"broker" in (tmp_path / "stderr").read_bytes(), "it has begun")
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=60)
    assert demo.returncode == 2
    last = (tmp_path / "stderr").read_text().splitlines()[-1]
    assert last == "the demo was ended before there was anything to sum up"
    assert left_in(tmp_path) == []


def test_ctrl_c_before_the_damage_says_so(tmp_path: Path) -> None:
    demo = start(tmp_path)
    eventually(lambda: b"samples sent" in (tmp_path / "stderr").read_bytes(), "the sensor runs")
    demo.send_signal(signal.SIGINT)
    out, _ = demo.communicate(timeout=60)
    assert demo.returncode == 0
    assert "damage       from 24.0 s on, ended before it could be found" in out.decode()
    assert "nothing was lost, all counts agree, ended before the damage could be found" in out.decode()


def test_shorter_than_ten_seconds_is_refused() -> None:
    result = CliRunner().invoke(edgeflow, ["demo", "--for", "9"])
    assert result.exit_code == 2
    assert "9" in result.stderr
