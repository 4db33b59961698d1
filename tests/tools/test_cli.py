"""The command as a whole: what it offers, what it loads, how it fails."""

from __future__ import annotations

import json
import pkgutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeflow_tools import commands
from edgeflow_tools.cli import edgeflow
from tests.support.processes import eventually, free_port, running

NAMES = [module.name for module in pkgutil.iter_modules(commands.__path__)]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_explains_itself_with_an_example_and_prints_json(name: str) -> None:
    result = CliRunner().invoke(edgeflow, [name, "--help"])
    assert result.exit_code == 0
    assert f"edgeflow {name}" in result.output.partition("Example:")[2]
    assert "--json" in result.output


def test_help_lists_the_commands_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from edgeflow_tools.cli import edgeflow; edgeflow(['--help'], standalone_mode=False);"
        "heavy = {'numpy', 'rich', 'onnxruntime', 'grpc', 'lmdb', 'starlette', 'yaml', 'paho', 'msgspec'};"
        "sys.exit(','.join(heavy & sys.modules.keys()) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(f"\n  {name} " in done.stdout for name in NAMES)


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(edgeflow, ["chekc"])
    assert result.exit_code == 2
    assert result.stderr.endswith("Error: No such command 'chekc' (did you mean 'check'?)\n")


def test_wrong_settings_of_the_agent_are_told_line_by_line(tmp_path: Path) -> None:
    config = tmp_path / "device.yaml"
    config.write_text("devise: x\nfleet: '!'\n")
    result = CliRunner().invoke(edgeflow, ["agent", "--config", str(config), "--json"])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0].startswith("device.yaml:1:1: unknown option 'devise'")
    assert [problem["line"] for problem in json.loads(result.stdout)["problems"]] == [1]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("http: {port: 70800}", "device.yaml:1:8: http.port: not a port: 70800 (a number from 0 to 65535)"),
        ("http:\n  port: -1", "device.yaml:2:3: http.port: not a port: -1 (a number from 0 to 65535)"),
        (
            "brokers: {a: {port: 0}}",
            "device.yaml:1:15: brokers.a.port: not a port: 0 (a number from 1 to 65535)",
        ),
        (
            "storage: {budget: 1 MB}",
            "device.yaml:1:11: storage.budget: too small for all there is to store: 1000000 bytes "
            "(at least 48 MiB)",
        ),
        (
            "relay: 127.0.0.1:70010",
            "device.yaml:1:1: relay: not an address: '127.0.0.1:70010' "
            "(host:port, for example 127.0.0.1:7001)",
        ),
        (
            "endpoints: {cloud: {url: 'ftp://h'}}",
            "device.yaml:1:21: endpoints.cloud.url: not a URL to post to: 'ftp://h' "
            "(as in http://127.0.0.1:8080/alarms)",
        ),
        (
            'endpoints: {cloud: {url: "http://h", headers: {Authorization: "a\\nb"}}}',
            "device.yaml:1:38: endpoints.cloud.headers: not a header: 'Authorization' "
            "(visible ASCII letters only)",
        ),
        (
            "hang: 100ms",
            "device.yaml:1:1: hang: too short: processes say every second that they are alive (at least 2s)",
        ),
    ],
)
def test_settings_that_no_process_could_use_are_refused_at_their_place(
    text: str, line: str, tmp_path: Path
) -> None:
    config = tmp_path / "device.yaml"
    config.write_text(text)
    result = CliRunner().invoke(edgeflow, ["agent", "--config", str(config)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [line]


def test_a_port_that_is_taken_is_named_by_agent_and_relay(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = tmp_path / "device.yaml"
        config.write_text(json.dumps({"data": str(tmp_path / "store"), "http": {"port": port}}))
        relay = ("relay", "--data", str(tmp_path / "relay"))
        wrong = {
            ("agent", "--config", str(config)): f"http 127.0.0.1:{port}: Address already in use (settings",
            (*relay, "--http-port", str(port)): f"the relay cannot run: HTTP port {port}: Address already in",
            (*relay, "--http-port", "0", "--grpc-port", str(port)): f"gRPC port {port}: Address already in",
        }
        for arguments, words in wrong.items():
            command = [sys.executable, "-m", "edgeflow_tools.cli", *arguments]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert (done.returncode, done.stdout) == (2, "")
            assert words in done.stderr
            assert done.stderr.count("\n") == 1


def test_agent_and_relay_say_in_a_sentence_where_they_are(tmp_path: Path) -> None:
    config = tmp_path / "device.yaml"
    config.write_text(json.dumps({"data": str(tmp_path / "store"), "http": {"port": (http := free_port())}}))
    ports = ("--http-port", str(free_port()), "--grpc-port", str(free_port()))
    agent = ("agent", "--config", str(config))
    relay = ("relay", "--data", str(tmp_path / "relay"), *ports)
    said = {
        agent: f"the device edgeflow is ready: page http://127.0.0.1:{http}, data in",
        relay: f"the relay is ready: page http://127.0.0.1:{ports[1]}, devices dial 127.0.0.1:{ports[3]}",
    }
    for arguments, words in said.items():
        log = tmp_path / f"{arguments[0]}.log"
        with running([sys.executable, "-m", "edgeflow_tools.cli", *arguments], log):
            eventually(lambda log=log, words=words: words in log.read_text(), "it says where it is")


def test_a_second_agent_on_one_store_says_who_has_it(tmp_path: Path) -> None:
    from edgeflow_agent.processes.agentd import lock

    (tmp_path / "store").mkdir()
    held = lock(tmp_path / "store")
    assert held >= 0
    config = tmp_path / "device.yaml"
    config.write_text(json.dumps({"data": str(tmp_path / "store")}))
    command = [sys.executable, "-m", "edgeflow_tools.cli", "agent", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "is in use by the agent with process id" in done.stderr
    assert "Traceback" not in done.stderr
