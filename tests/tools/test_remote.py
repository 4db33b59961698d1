"""Commands that talk to a device and a relay, both real."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgeflow_tools.cli import edgeflow
from edgeflow_tools.commands import deploy as deploying
from tests.support.device import Device
from tests.support.mosquitto import Mosquitto
from tests.support.processes import eventually, free_port
from tests.support.relay import Relay

pytestmark = pytest.mark.system

PIPELINE = """
edgeflow: 1
name: posted
inputs:
  value: {http: {}, fields: [x]}
steps:
  double: {from: value, python: {function: double.f, columns: [twice]}}
outputs:
  out: {from: double, event: {type: posted.out}}
"""


SEEN = """
edgeflow: 1
name: seen
inputs:
  value: {http: {}, fields: [x]}
  level: {mqtt: plant/level}
outputs:
  out: {from: value, event: {type: seen.out}}
  high: {from: level, event: {type: seen.level}}
"""


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(edgeflow, [*map(str, arguments)])


def told(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def post(device: Device, *values: float) -> None:
    for value in values:
        body = json.dumps({"x": value}).encode()
        path = "/api/v1/pipelines/posted/inputs/value"
        status, answer = device.request("POST", path, body, "application/json")
        assert status == 202, answer


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    relay = Relay(tmp_path_factory.mktemp("relay")).start()
    yield relay
    relay.stop()


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory, relay: Relay) -> Iterator[Device]:
    device = Device(tmp_path_factory.mktemp("device"), relay=relay.grpc).start()
    eventually(lambda: relay.json("/api/v1/devices")["devices"], "the device is at the relay")
    yield device
    device.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    (tmp_path / "double.py").write_text("def f(rows):\n    return rows * 2\n")
    return tmp_path


def test_a_folder_goes_onto_a_device_and_its_events_come_back(device: Device, folder: Path) -> None:
    deployed = told(call("deploy", folder, "--to", device.url, "--json"))
    assert (deployed["name"], deployed["state"]) == ("posted", "active")
    eventually(lambda: device.pipeline("posted")["state"] == "running", "it runs")
    post(device, 1, 2, 3)
    eventually(lambda: len(device.events("posted", "posted.out")) >= 3, "three events")
    asked = ("events", "--to", device.url, "--pipeline", "posted", "--type", "posted.out", "--json")
    assert [event["data"]["twice"] for event in lines(call(*asked))] == [2, 4, 6]
    assert [event["data"]["twice"] for event in lines(call(*asked, "--limit", "2"))] == [4, 6]
    assert len(lines(call(*asked, "--since", "1h"))) == 3
    assert lines(call(*asked, "--since", "2999-01-01T00:00Z")) == []
    assert "posted.out  twice=2" in call(*asked[:-1]).stdout


def test_the_same_files_have_the_same_digest_everywhere(device: Device, folder: Path) -> None:
    deployed = told(call("deploy", folder, "--to", device.url, "--json"))
    (folder / "rows.csv").write_text("x\n1\n")
    file = folder / "other.yaml"
    file.write_text(PIPELINE)
    (folder / "pipeline.yaml").unlink()
    (folder / "__pycache__").mkdir()
    event = lines(call("run", file, "--input", f"value={folder / 'rows.csv'}"))[0]
    assert event["pipelinedigest"] == deployed["digest"] == device.pipeline("posted")["digest"]


def test_status_shows_the_device_and_its_pipelines(device: Device, folder: Path) -> None:
    told(call("deploy", folder, "--to", device.url, "--json"))
    eventually(lambda: device.pipeline("posted")["state"] == "running", "it runs")
    status = told(call("status", "--to", device.url, "--json"))
    assert status["device"]["device"] == "dev1"
    assert [pipeline["name"] for pipeline in status["pipelines"]] == ["posted"]
    shown = call("status", "--to", device.url).stdout
    assert "dev1" in shown
    assert [line.split()[:3] for line in shown.splitlines() if line.startswith("posted")] == [
        ["posted", "running", "http"]
    ]


def test_what_a_device_refuses_is_told_with_its_reasons(device: Device, folder: Path) -> None:
    (folder / "double.py").write_text("import nowhere_to_be_found\n\ndef f(rows):\n    return rows\n")
    before = device.json("/api/v1/pipelines")["pipelines"]
    result = call("deploy", folder, "--to", device.url)
    assert result.exit_code == 1
    assert "double.py:1: ModuleNotFoundError" in result.stderr
    digests = [pipeline["digest"] for pipeline in before]
    assert [pipeline["digest"] for pipeline in device.json("/api/v1/pipelines")["pipelines"]] == digests


def test_a_wrong_file_is_not_even_sent(folder: Path) -> None:
    (folder / "pipeline.yaml").write_text(PIPELINE.replace("double.f", "double.g"))
    result = call("deploy", folder, "--to", f"http://127.0.0.1:{free_port()}")
    assert result.exit_code == 1
    assert "double.py defines no function or class 'g'" in result.stderr


def test_a_pipeline_goes_onto_a_device_by_the_relay(device: Device, relay: Relay, folder: Path) -> None:
    (folder / "pipeline.yaml").write_text(PIPELINE.replace("posted", "wished"))
    deployed = told(call("deploy", folder, "--relay", relay.url, "--device", "dev1", "--json"))
    assert (deployed["device"], deployed["state"]) == ("dev1", "active")
    assert device.pipeline("wished")["origin"] == "relay"
    eventually(lambda: "wished (running)" in call("devices", "--relay", relay.url).stdout, "the relay knows")
    listed = told(call("devices", "--relay", relay.url, "--json"))["devices"]
    assert [(found["name"], found["online"]) for found in listed] == [("dev1", True)]
    (folder / "double.py").write_text("raise OSError('not today')\n\ndef f(rows):\n    return rows\n")
    refused = call("deploy", folder, "--relay", relay.url, "--device", "dev1")
    assert refused.exit_code == 1
    assert "not today" in refused.stderr


def test_what_a_device_that_is_away_once_ran_is_not_active(
    relay: Relay, folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Device(tmp_path_factory.mktemp("away"), relay=relay.grpc, device="shed").start()
    deploy = ("deploy", folder, "--relay", relay.url, "--device", "shed")
    place = f"{relay.url}/api/v1/devices/shed/pipelines/posted"
    try:
        eventually(lambda: relay.json("/api/v1/devices/shed"), "the device is at the relay")
        assert [call(*deploy).exit_code for _ in range(2)] == [0, 0]  # also where it runs already
    finally:
        away.close()
    monkeypatch.setattr(deploying, "TRIAL_S", 1.0)
    again = call(*deploy)
    assert (again.exit_code, again.stdout) == (1, "")
    urllib.request.urlopen(urllib.request.Request(place, method="DELETE"), timeout=30).close()
    assert relay.json("/api/v1/devices/shed")["deployments"] == {}
    assert call(*deploy).exit_code == 1


def test_a_relay_knows_no_such_device(relay: Relay, folder: Path) -> None:
    result = call("deploy", folder, "--relay", relay.url, "--device", "nobody")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no device 'nobody'" in result.stderr


def test_a_name_that_is_nearly_right_is_guessed(device: Device, relay: Relay, folder: Path) -> None:
    for command in (("deploy", folder), ("status",), ("events",)):
        result = call(*command, "--relay", relay.url, "--device", "dev2")
        assert result.exit_code == 2
        assert result.stderr.endswith(f"{relay.url} knows no device 'dev2' (did you mean 'dev1'?)\n")
    told(call("deploy", folder, "--to", device.url, "--json"))
    for where in (("--to", device.url), ("--relay", relay.url, "--device", "dev1")):
        eventually(lambda: "posted" in call("devices", "--relay", relay.url).stdout, "the relay knows it")
        result = call("events", *where, "--pipeline", "postet")
        assert (result.exit_code, result.stdout) == (0, "")
        assert "knows no pipeline 'postet' (did you mean 'posted'?)" in result.stderr


def test_the_address_of_the_other_kind_of_server_is_refused(
    device: Device, relay: Relay, folder: Path
) -> None:
    wrong = {
        ("deploy", folder, "--to", relay.url): "that is a relay; use --device NAME",
        ("status", "--to", relay.url): "that is a relay; use --device NAME",
        ("status", "--device", relay.url): "that is a relay; use --device NAME",
        ("events", "--to", relay.url): "that is a relay; use --device NAME",
        ("events", "--relay", device.url): "that is a device; ",
        ("logs", "--to", relay.url): "that is a relay; give a device's own address",
        ("replay", relay.url): "that is a relay; give a device's own address",
        ("tap", "posted", "value", "--to", relay.url): "that is a relay; give a device's own address",
        ("devices", "--relay", device.url): "that is a device; give the address of a relay\n",
        ("deploy", folder, "--relay", device.url, "--device", "dev1"): "that is a device; ",
        ("devices", "--relay", f"http://127.0.0.1:{relay.grpc}"): "that is not an HTTP server",
    }
    for command, words in wrong.items():
        result = call(*command)
        assert result.exit_code == 2, command
        assert words in result.stderr, command
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        threading.Thread(target=other.handle_request, daemon=True).start()
        result = call("status", "--to", f"http://127.0.0.1:{other.server_port}")
    assert result.exit_code == 2
    assert "that is no device of EdgeFlow" in result.stderr


def test_whom_the_environment_names_is_the_same_for_all(
    device: Device, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*command: str) -> str:
        monkeypatch.setenv(named, f"http://127.0.0.1:{free_port()}")
        return call(*command).stderr.partition(" answers at")[0]

    monkeypatch.setenv("EDGEFLOW_RELAY", relay.url)
    named = "EDGEFLOW_DEVICE"
    for command in (("events",), ("trace", "0123-1"), ("status",), ("logs",)):
        assert asked(*command) == "no device", command
    assert asked("devices") == ""
    monkeypatch.delenv("EDGEFLOW_DEVICE")
    assert call("events", "--limit", "1").exit_code == 0
    monkeypatch.setenv("EDGEFLOW_DEVICE", device.url)
    named = "EDGEFLOW_RELAY"
    assert asked("events", "--limit", "1") == ""
    assert asked("events", "--device", "dev1") == "no relay"


def test_what_is_put_on_a_device_says_so_when_the_relay_wants_another_version(
    device: Device, relay: Relay, folder: Path
) -> None:
    (folder / "pipeline.yaml").write_text(PIPELINE.replace("posted", "pump"))
    wanted = told(call("deploy", folder, "--relay", relay.url, "--device", "dev1", "--json"))
    assert call("deploy", folder, "--to", device.url).stdout == f"pump is active on {device.url}\n"
    (folder / "double.py").write_text("def f(rows):\n    return rows * 3\n")
    result = call("deploy", folder, "--to", device.url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "stored; the relay's version of pump wins" in result.stderr
    assert device.pipeline("pump")["digest"] == wanted["digest"]


def test_another_device_of_the_same_name_is_refused_and_the_first_goes_on(
    device: Device, relay: Relay, tmp_path: Path
) -> None:
    other = Device(tmp_path, relay=relay.grpc).start()
    try:
        refused = f"127.0.0.1:{relay.grpc}: not connected (another agent calls itself 'dev1')"
        eventually(lambda: refused in call("status", "--to", other.url).stdout, "it is refused")
        assert device.json("/api/v1/device")["relay"]["connected"]
        assert "online; another agent calls itself so too" in call("devices", "--relay", relay.url).stdout
        assert "dev1: two agents call themselves so" in (relay.folder / "relay.log").read_text()
    finally:
        other.close()


def test_a_step_that_raises_is_told_of_at_the_deployment_and_in_the_status(
    device: Device, relay: Relay, folder: Path
) -> None:
    (folder / "pipeline.yaml").write_text(PIPELINE.replace("posted", "broken"))
    (folder / "double.py").write_text("def f(rows):\n    raise OSError('no sensor')\n")
    warning = "warning: steps.double: raises on made-up rows: double.py:2: OSError: no sensor\n"
    for where in (("--to", device.url), ("--relay", relay.url, "--device", "dev1")):
        result = call("deploy", folder, *where)
        assert result.exit_code == 0
        assert warning in result.stderr
    eventually(lambda: device.pipeline("broken")["state"] == "running", "it runs")
    assert f"broken: {warning}" in call("status", "--to", device.url).stdout
    assert "raises on made-up rows" in device.text("/")
    device.request("POST", "/api/v1/pipelines/broken/inputs/value", b'{"x": 1}', "application/json")
    line = "broken: double: 1 row dropped: double.py:2: OSError: no sensor\n"
    eventually(lambda: line in call("status", "--to", device.url).stdout, "the failure shows")
    assert call("status", "--to", device.url).exit_code == 1


def test_a_folder_that_is_refused_shows_in_the_status(tmp_path: Path) -> None:
    device = Device(tmp_path).start()
    try:
        assert call("status", "--to", device.url).exit_code == 0
        (device.pipelines / "odd.yaml").write_text("edgeflow: 1\nname: odd\n")

        def shown() -> str:
            return call("status", "--to", device.url).stdout

        eventually(lambda: "odd       refused  folder" in shown(), "it is refused")
        assert "odd: pipeline.yaml:1:1: " in shown()
        assert call("status", "--to", device.url).exit_code == 1
        (device.pipelines / "odd.yaml").unlink()
        eventually(lambda: "odd" not in shown(), "it is forgotten")
    finally:
        device.close()


def test_a_device_is_shown_as_its_relay_knows_it(device: Device, relay: Relay, folder: Path) -> None:
    told(call("deploy", folder, "--to", device.url, "--json"))
    asked = ("status", "--relay", relay.url, "--device", "dev1")

    def shown() -> bool:
        return "posted    running  http" in call(*asked).stdout

    eventually(shown, "the relay has heard that it runs")
    assert told(call(*asked, "--json"))["device"]["name"] == "dev1"
    assert "online" in call(*asked).stdout


def test_a_broker_that_goes_away_and_rejected_payloads_show_in_the_status(
    mosquitto: Path, tmp_path: Path
) -> None:
    broker = Mosquitto(mosquitto, tmp_path / "broker").start()
    device = Device(tmp_path, broker=broker.port).start()
    try:
        device.deploy("seen", SEEN)
        local = f"broker   local at 127.0.0.1:{broker.port}:"

        def status() -> Result:
            return call("status", "--to", device.url)

        eventually(lambda: f"{local} connected for" in status().stdout, "the broker is there")
        assert status().exit_code == 0
        body = b'{"x": "much"}'
        for _ in range(3):
            device.request("POST", "/api/v1/pipelines/seen/inputs/value", body, "application/json")
        assert "seen: inputs.value: rejected 3 type\n" in status().stdout
        (event,) = eventually(lambda: device.events("_agent", "edgeflow.input.rejected"), "an event tells it")
        named = {"pipeline": "seen", "input": "value", "reason": "type", "example": body.decode(), "count": 1}
        assert event["data"].items() >= named.items()
        broker.stop()
        eventually(lambda: f"{local} not connected (Connection refused)" in status().stdout, "it is gone")
        assert status().exit_code == 1
        assert device.json("/readyz")["ready"]
        assert "Connection refused" in device.json("/readyz")["degraded"][0]
    finally:
        device.close()
        broker.stop()


def test_events_are_lines_that_can_be_read_with_ids_to_trace(device: Device, folder: Path) -> None:
    assert call("deploy", folder, "--to", device.url).exit_code == 0
    post(device, 4)
    eventually(lambda: device.events("posted", "posted.out"), "an event")
    shown = call("events", "--to", device.url, "--pipeline", "posted").stdout.splitlines()
    assert max(map(len, shown)) < 200
    started = [line for line in shown if "edgeflow.pipeline.started" in line]
    digest = device.pipeline("posted")["digest"][:12]
    assert started[0].endswith(f"edgeflow.pipeline.started  1 input, 1 step, 1 output; digest {digest}")
    with_ids = call("events", "--to", device.url, "--pipeline", "posted", "--ids").stdout.splitlines()
    assert [line.partition("  ")[2].lstrip() for line in with_ids] == shown
    assert call("trace", with_ids[-1].partition(" ")[0], "--to", device.url).exit_code == 0
    (whole, *_) = lines(call("events", "--to", device.url, "--pipeline", "posted", "--json"))
    assert len(whole["data"]["entries"]) == 3


def test_events_of_the_fleet_come_from_the_relay(device: Device, relay: Relay, folder: Path) -> None:
    told(call("deploy", folder, "--to", device.url, "--json"))
    eventually(lambda: device.pipeline("posted")["state"] == "running", "it runs")
    post(device, 8)
    asked = ("events", "--relay", relay.url, "--device", "dev1", "--type", "posted.out", "--json")
    eventually(lambda: 16 in [event["data"]["twice"] for event in lines(call(*asked))], "it is at the relay")
    assert lines(call(*asked, "--limit", "1", "--since", "10min"))[0]["data"] == {"twice": 16}


def ended(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code of a program that was told to end, and kill one that does not."""
    try:
        return process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


@pytest.mark.parametrize("where", ["relay", "device"])
def test_new_events_are_followed_over_a_restart(
    where: str, device: Device, relay: Relay, folder: Path, tmp_path: Path
) -> None:
    told(call("deploy", folder, "--to", device.url, "--json"))
    eventually(lambda: device.pipeline("posted")["state"] == "running", "it runs")
    post(device, 0)
    command = [
        sys.executable,
        "-m",
        "edgeflow_tools.cli",
        "events",
        "--follow",
        "--type",
        "posted.out",
        "--json",
        "--limit",
        "1",
    ]
    url, option = (relay.url, "--relay") if where == "relay" else (device.url, "--to")
    out = tmp_path / "followed"
    with out.open("wb") as stream, subprocess.Popen([*command, option, url], stdout=stream) as process:
        try:
            eventually(out.read_text, "the past one is printed")
            post(device, 20)
            eventually(lambda: '"twice":40.0' in out.read_text(), "a new one is printed")
            if where == "relay":
                relay.stop()
                relay.start()
                post(device, 21)
                eventually(lambda: '"twice":42.0' in out.read_text(), "it goes on after the restart")
        finally:
            process.send_signal(2)
            code = ended(process)
    assert code == 0
    ids = [json.loads(line)["id"] for line in out.read_text().splitlines()]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("command", [("status",), ("devices",), ("events",), ("events", "--follow")])
def test_a_server_that_is_not_there_is_told_in_one_line(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EDGEFLOW_DEVICE", "EDGEFLOW_RELAY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    result = call(*command, "--json")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "answers at http://127.0.0.1:" in json.loads(result.stdout)["error"]
