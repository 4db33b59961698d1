"""The MQTT broker of a demo: mosquitto where it is installed, else the one of the extra `demo`."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from edgeflow_tools.demo.children import Children
from edgeflow_tools.terminal import Failure

HOST = "127.0.0.1"
SYSTEM_PATHS = "/usr/sbin:/usr/local/sbin"  # where Debian puts it, and only root looks
MAX_PAYLOAD = 1 << 20

Choice = Literal["auto", "mosquitto", "embedded"]

_MOSQUITTO = """\
listener {port} {host}
allow_anonymous true
max_queued_messages 10000
# Changing to another user would take it off its leash.
user {user}
"""
# Each of its listeners speaks one version of MQTT.
_LISTENER = """\
[{version}.1]
name = "{version}"
listen = "{host}:{port}"
next_connection_delay_ms = 1
[{version}.1.connections]
connection_timeout_ms = 60000
max_payload_size = {payload}
max_inflight_count = 100
dynamic_filters = true
"""
_EMBEDDED = """\
id = 0
[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
"""


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker on the loopback interface.

    `port` is for MQTT 3.1.1, `port_5` for MQTT 5; they may be the same. What is published with MQTT 5 must be
    subscribed to with MQTT 5: not every broker takes the properties out for others.
    """

    name: str
    port: int
    port_5: int


def start(choice: Choice, children: Children, folder: Path) -> Broker:
    """Start a broker and return it once it accepts connections; raises Failure."""
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PATHS}")
    if choice == "mosquitto" and program is None:
        raise Failure("mosquitto is not installed")
    if program is not None and choice != "embedded":
        return _mosquitto(program, children, folder)
    if find_spec("iotcore") is None:
        raise Failure("no broker: install mosquitto, or edgeflow[demo], which brings one")
    return _embedded(children, folder)


def _mosquitto(program: str, children: Children, folder: Path) -> Broker:
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(_MOSQUITTO.format(host=HOST, port=port, user=getpass.getuser()))
    child = children.start("broker", program, "-c", str(config))
    children.wait_for(child, lambda: _accepts(port), "accepting connections")
    return Broker("mosquitto", port, port)


def _embedded(children: Children, folder: Path) -> Broker:
    ports = {"v4": free_port(), "v5": free_port()}
    listeners = [
        _LISTENER.format(version=version, host=HOST, port=port, payload=MAX_PAYLOAD)
        for version, port in ports.items()
    ]
    config = folder / "broker.toml"
    config.write_text(_EMBEDDED + "".join(listeners))
    # It reports every packet as an error, unless it is told to keep that to itself.
    child = children.python("broker", "iotcore", "--config", str(config), "--log-level", "CRITICAL")
    for port in ports.values():
        children.wait_for(child, lambda port=port: _accepts(port), "accepting connections")  # type: ignore[misc]
    return Broker("iotcore", ports["v4"], ports["v5"])


def free_port() -> int:
    """Return a port that was free a moment ago, for programs that cannot say which one they took."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def _accepts(port: int) -> bool | None:
    try:
        with socket.create_connection((HOST, port), 1):
            return True
    except OSError:
        return None
