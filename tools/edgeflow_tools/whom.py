"""Whom a command talks to: a device by its own address, or one of a relay's devices by its name.

All commands go by one order: what the options say; the device that EDGEFLOW_DEVICE names; else what is usual:
of a fleet its relay, which EDGEFLOW_RELAY may name, and otherwise the device on this machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from edgeflow_tools.terminal import Failure

if TYPE_CHECKING:
    from edgeflow_tools.client import Server

Function = TypeVar("Function", bound=Callable[..., Any])
relay_option = click.option(
    "--relay", metavar="URL", help="Default: EDGEFLOW_RELAY, else http://127.0.0.1:7000."
)


class Whom(NamedTuple):
    """A server, and where it is a relay the device meant, if one is."""

    server: Server
    device: str | None


def options(command: Function) -> Function:
    """Add the options that say whom: ``--to``, or ``--device`` with ``--relay``."""
    to = click.option(
        "--to",
        metavar="URL",
        help="A device's own address, such as http://127.0.0.1:7080. Default: EDGEFLOW_DEVICE, which goes "
        "before EDGEFLOW_RELAY.",
    )
    device = click.option("--device", metavar="NAME", help="A device of the relay's, in place of --to.")
    return to(device(relay_option(command)))


def whom(to: str | None, device: str | None, relay: str | None, *, fleet: bool = False) -> Whom:
    """Return whom the options mean, met; where nothing says it a device, or of a `fleet` its relay.

    An address given as --device is that of a device. Raises Failure and UsageError.
    """
    from edgeflow_tools.client import DEVICE, RELAY, Server

    if to is None and device is not None and "://" in device:
        to, device = device, None
    if to is not None and (device is not None or relay is not None):
        raise click.UsageError("give either --to or --device with --relay")
    if device is not None or relay is not None:
        server = Server(RELAY, relay).met()
        return Whom(server, None if device is None else known(server, device)["name"])
    by_relay = fleet and to is None and not os.environ.get("EDGEFLOW_DEVICE")
    return Whom(Server(RELAY if by_relay else DEVICE, to).met(), None)


def known(relay: Server, name: str) -> dict[str, Any]:
    """Return a device as its relay knows it; raises Failure, naming those that it knows."""
    from edgeflow_proto.pipeline.problem import near_miss

    devices = {device["name"]: device for device in relay.get("/api/v1/devices")["devices"]}
    if name not in devices:
        hint = near_miss(name, devices) or "no device has said hello yet"
        raise Failure(f"{relay.url} knows no device '{name}' ({hint})")
    found: dict[str, Any] = devices[name]
    return found
