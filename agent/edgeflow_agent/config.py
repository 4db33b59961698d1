"""The device's settings file: who it is, where things lie, which brokers and relay it knows.

Read like a pipeline file: strict YAML, all mistakes at once, each with its line.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from edgeflow_proto.pipeline.kinds.outputs import check_header, check_url
from edgeflow_proto.pipeline.load import load
from edgeflow_proto.pipeline.problem import Mistake, Rejected
from edgeflow_proto.pipeline.schema import Reader
from edgeflow_proto.pipeline.units import Duration, Size

DEVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
ADDRESS = re.compile(r"(?P<host>[^:\[\]]+|\[[^\[\]]+\]):(?P<port>\d{1,5})")
MIN_BUDGET = 48 << 20  # logs, the agent's own journal and state, the ballast, and some for the pipelines
MIN_LOGS = 4 << 20  # as core.logfile has it
MIN_HANG = 2 * 10**9  # processes beat every second
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PEM files. Without `ca` the system's authorities are trusted."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None


class Will(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the broker publishes when this device is gone (MQTT 3.1.1, section 3.1.2.5), retained.

    When the device is back it publishes `online` there, because a retained will stays for ever otherwise.
    """

    topic: str
    payload: str = "offline"
    online: str = "online"


class Broker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An MQTT broker. The password stands in a file of its own, or here."""

    host: str = "127.0.0.1"
    port: int = 1883
    tls: Tls | None = None
    username: str | None = None
    password: str | None = None
    password_file: str | None = None
    will: Will | None = None


class Http(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The local endpoint. Port 0 takes a free one; `run/link.json` in the data folder says which."""

    host: str = "127.0.0.1"
    port: int = 7080


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where http outputs post to. A header's value stands here, or in a file of its own (`header_files`)."""

    url: str
    headers: dict[str, str] = {}
    header_files: dict[str, str] = {}
    tls: Tls | None = None


class StorageSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much of the disk the agent may take, all in all, and how much of it stays free for others."""

    budget: Size = Size(1 << 30)
    free: Size = Size(64 << 20)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings; each has a default that suits a device alone on a bench."""

    device: str = "edgeflow"
    fleet: str = "default"
    data: str = "/var/lib/edgeflow"
    pipelines: str | None = None  # the folder watched for pipelines; default: pipelines.d beside this file
    http: Http = Http()
    relay: str | None = None  # host:port of its gRPC endpoint
    brokers: dict[str, Broker] = msgspec.field(default_factory=lambda: {"local": Broker()})
    endpoints: dict[str, Endpoint] = {}  # by the names that http outputs call them
    params: dict[str, dict[str, Any]] = {}  # pipeline → parameter → value
    commit: Duration = Duration(10**9)  # shortest time between two commits of a journal
    storage: StorageSettings = StorageSettings()
    log_bytes: int = 16 << 20  # of all processes together
    hang: Duration = Duration(10 * 10**9)  # a process whose loop stands still for this long is killed


def read(path: Path | None) -> Settings:
    """Read a settings file, or the defaults; raises Rejected with every problem, or OSError."""
    if path is None:
        return Settings()
    source, problems = load(path.read_bytes(), path.name)
    if source is None:
        raise Rejected(problems)
    reader = Reader(source, {})
    data = source.data if isinstance(source.data, dict) else {}
    settings = reader.struct(Settings, data, (), ())
    if not isinstance(source.data, dict):
        reader.report((), "a settings file is a mapping")
    if settings is not None:
        _check(settings, reader)
    if problems + reader.problems or settings is None:
        raise Rejected(problems + reader.problems)
    return settings


def _check(settings: Settings, reader: Reader) -> None:
    if not DEVICE_NAME.fullmatch(settings.device):
        reader.report(("device",), f"not a device name: {settings.device!r}", "letters, digits, . _ -")
    if not DEVICE_NAME.fullmatch(settings.fleet):
        reader.report(("fleet",), f"not a fleet name: {settings.fleet!r}", "letters, digits, . _ -")
    if settings.http.host not in LOOPBACK:
        why = "the local endpoint has no access control yet, so it binds to loopback only"
        reader.report(("http",), why, "use 127.0.0.1")
    if settings.relay is not None:
        _check_relay(settings.relay, reader)
    for name, endpoint in settings.endpoints.items():
        _check_endpoint(("endpoints", name), endpoint, reader)
    _check_numbers(settings, reader)


def _check_endpoint(place: tuple[str, ...], endpoint: Endpoint, reader: Reader) -> None:
    try:
        check_url(endpoint.url, "url")
        for name, value in endpoint.headers.items():
            check_header(name, value, "headers")
        for name in endpoint.header_files:
            check_header(name, "-", "header_files")
    except Mistake as mistake:
        reader.report((*place, mistake.option), mistake.what, mistake.hint)


def _check_relay(address: str, reader: Reader) -> None:
    match = ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match["port"]) < 1 << 16:
        reader.report(("relay",), f"not an address: {address!r}", "host:port, for example 127.0.0.1:7001")
    elif match["host"].strip("[]") not in LOOPBACK:
        why = "the connection to a relay has no identity and encryption yet, so it stays on loopback"
        reader.report(("relay",), why, "use 127.0.0.1:7001")


def _check_numbers(settings: Settings, reader: Reader) -> None:
    ports: list[tuple[tuple[str, ...], int, int]] = [(("http", "port"), settings.http.port, 0)]
    ports += [(("brokers", name, "port"), broker.port, 1) for name, broker in settings.brokers.items()]
    for place, port, least in ports:
        if not least <= port < 1 << 16:
            reader.report(place, f"not a port: {port}", f"a number from {least} to 65535")
    if settings.storage.budget < MIN_BUDGET:
        what = f"too small for all there is to store: {settings.storage.budget} bytes"
        reader.report(("storage", "budget"), what, f"at least {MIN_BUDGET >> 20} MiB")
    if settings.log_bytes < MIN_LOGS:
        what = f"too small for the logs: {settings.log_bytes}"
        reader.report(("log_bytes",), what, f"at least {MIN_LOGS} (4 MiB)")
    if settings.hang < MIN_HANG:
        reader.report(("hang",), "too short: processes say every second that they are alive", "at least 2s")


def pipelines_folder(settings: Settings, path: Path | None) -> Path | None:
    """Return the folder watched for pipelines: the one set, else ``pipelines.d`` beside the settings file."""
    if settings.pipelines is not None:
        return Path(settings.pipelines)
    return None if path is None else path.parent / "pipelines.d"
