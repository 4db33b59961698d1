from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeflow_proto.pipeline.problem import Rejected
from edgeflow_relay.settings import Broker, Settings, SettingsError, read
from tests.relay.harness import Relay


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "relay.example", "", "127.0.0.1.evil"])
def test_it_listens_to_this_machine_alone_and_says_why(host: str) -> None:
    with pytest.raises(
        SettingsError, match="devices and people have no identity and connections no encryption"
    ):
        Settings(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_has_many_names(host: str) -> None:
    assert Settings(host=host).host == host


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"http_port": 70_000}, "http_port: not a port: 70000"),
        ({"grpc_port": -1}, "grpc_port: not a port: -1"),
        ({"fleet": "a/b"}, "fleet: not a fleet name: 'a/b'"),
        ({"broker": "a:b:c"}, "broker: not an address: 'a:b:c'"),
        ({"broker": "localhost:99999"}, "broker: not a port: 99999"),
        ({"broker": Broker(port=-1)}, "broker: not a port: -1"),
        ({"heartbeat": 10, "offline_after": 10}, "offline_after: must be longer"),
    ],
)
def test_what_cannot_be_used_is_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(**values)
    assert words in str(caught.value)


def test_a_broker_is_an_address_or_more() -> None:
    assert Settings(broker="localhost").mirror == Broker("localhost", 1883)
    assert Settings(broker="[::1]:1884").mirror == Broker("::1", 1884)
    assert Settings().mirror is None


def test_a_file_is_read_with_all_its_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text("fleet: plant-7\nbroker: {host: localhost, port: 1884}\nheartbeat: 2s\n")
    settings = read(path)
    assert (settings.fleet, settings.mirror, settings.heartbeat) == (
        "plant-7",
        Broker("localhost", 1884),
        2e9,
    )
    path.write_text("flete: a\nhttp_port: x\n")
    with pytest.raises(Rejected) as caught:
        read(path)
    assert [str(problem).partition(": ")[0] for problem in caught.value.problems] == [
        "relay.yaml:1:1", "relay.yaml:2:1",
    ]  # fmt: skip
    path.write_text("\nhost: 0.0.0.0\n")
    with pytest.raises(Rejected, match=r"relay\.yaml:2:1: host: the relay does not listen on 0\.0\.0\.0"):
        read(path)


def run(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "edgeflow_relay.app", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


def test_the_program_says_in_a_line_why_it_does_not_start(tmp_path: Path) -> None:
    code, words = run("--data", str(tmp_path), "--host", "0.0.0.0")
    assert (code, words.count("\n")) == (2, 1)
    assert "does not listen on 0.0.0.0" in words
    (tmp_path / "file").write_text("")
    code, words = run("--data", str(tmp_path / "file" / "x"), "--http-port", "0", "--grpc-port", "0")
    assert (code, "Traceback" in words, "cannot be used" in words) == (2, False, True)


def test_ports_and_folders_that_are_taken_are_named(own_relay: Relay, tmp_path: Path) -> None:
    own_relay.extra = ("--ports-file", str(tmp_path / "ports.json"))
    own_relay.start()
    assert f'"http": {own_relay.http}' in (tmp_path / "ports.json").read_text()
    store, other = ("--data", str(own_relay.folder / "store")), ("--data", str(tmp_path / "other"))
    code, words = run(*store, "--http-port", "0", "--grpc-port", "0")
    assert (code, "is in use by another relay" in words) == (2, True), words
    code, words = run(*other, "--http-port", str(own_relay.http), "--grpc-port", "0")
    assert (code, "Address already in use" in words) == (2, True), words
    code, words = run(*other, "--http-port", "0", "--grpc-port", str(own_relay.grpc))
    assert (code, f"gRPC port {own_relay.grpc}" in words) == (2, True), words


def test_a_store_that_is_damaged_or_newer_is_named(tmp_path: Path) -> None:
    (tmp_path / "relay.db").write_bytes(b"no database at all" * 100)
    code, words = run("--data", str(tmp_path), "--http-port", "0", "--grpc-port", "0")
    assert (code, "file is not a database" in words) == (2, True), words
