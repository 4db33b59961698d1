"""The relay's settings: where it listens, where it keeps things, and the broker it mirrors events to.

A settings file is read like a pipeline file: strict YAML, all mistakes at once, each with its line.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import msgspec

from edgeflow_proto.pipeline.load import load
from edgeflow_proto.pipeline.problem import Rejected
from edgeflow_proto.pipeline.schema import Reader
from edgeflow_proto.pipeline.units import Duration

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # of a fleet or a device: one level of an MQTT topic
_ADDRESS = re.compile(r"(?P<host>[^:\[\]]+|\[[^\[\]]+\])(?::(?P<port>\d{1,5}))?")


class SettingsError(ValueError):
    """A setting cannot be used; `option` names it."""

    def __init__(self, option: str, what: str) -> None:
        super().__init__(f"{option}: {what}")
        self.option = option
        self.what = what


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PEM files. Without `ca` the system's authorities are trusted."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None


class Broker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An MQTT 5 broker. The password stands in a file of its own, or here."""

    host: str = "127.0.0.1"
    port: int = 1883
    tls: Tls | None = None
    username: str | None = None
    password: str | None = None
    password_file: str | None = None

    @classmethod
    def parse(cls, address: str) -> Broker:
        """Read ``host:port`` or ``host``; raises SettingsError."""
        match = _ADDRESS.fullmatch(address)
        if match is None:
            raise SettingsError("broker", f"not an address: {address!r} (for example 127.0.0.1:1883)")
        return cls(match["host"].strip("[]"), int(match["port"] or 1883))


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings; raises SettingsError for one that cannot be used.

    Port 0 takes a free one; the line on standard output says which, and `ports_file` does where one is named.
    """

    host: str = "127.0.0.1"
    http_port: int = 7000
    grpc_port: int = 7001
    data: str = "relay-data"  # folder of the database and the blobs
    fleet: str = "default"
    broker: str | Broker | None = None  # where events are mirrored to
    heartbeat: Duration = Duration(5 * 10**9)  # how often devices are asked for one
    offline_after: Duration = Duration(15 * 10**9)  # of silence on an open stream, which goes on
    ports_file: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be served, or not safely."""
        if exposure(self.host):
            raise SettingsError("host", exposure(self.host))
        for option, port in (("http_port", self.http_port), ("grpc_port", self.grpc_port)):
            if not 0 <= port < 1 << 16:
                raise SettingsError(option, f"not a port: {port}")
        if not NAME.fullmatch(self.fleet):
            raise SettingsError("fleet", f"not a fleet name: {self.fleet!r} (letters, digits, . _ -)")
        if not 0 < self.heartbeat < self.offline_after:
            raise SettingsError("offline_after", "must be longer than the heartbeat's interval")
        if self.mirror is not None and not 0 < self.mirror.port < 1 << 16:
            raise SettingsError("broker", f"not a port: {self.mirror.port}")

    @property
    def mirror(self) -> Broker | None:
        """The broker that events are mirrored to, if any."""
        return Broker.parse(self.broker) if isinstance(self.broker, str) else self.broker


def exposure(host: str) -> str:
    """Return why the relay does not listen on `host`; nothing when it is this machine's own loopback."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if loopback:
        return ""
    return (
        f"the relay does not listen on {host}: devices and people have no identity and connections no "
        "encryption yet, so whoever reached it could read and change the whole fleet; use 127.0.0.1"
    )


def read(path: Path) -> Settings:
    """Read a settings file; raises Rejected with every problem, or OSError."""
    source, problems = load(path.read_bytes(), path.name)
    if source is None:
        raise Rejected(problems)
    reader = Reader(source, {})
    settings = None
    if not isinstance(source.data, dict):
        reader.report((), "a settings file is a mapping")
    else:
        try:
            settings = reader.struct(Settings, source.data, (), ())
        except SettingsError as error:
            reader.report((error.option,), error.what)
    if problems + reader.problems or settings is None:
        raise Rejected(problems + reader.problems)
    return settings
