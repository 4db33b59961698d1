"""``edgeflow relay``: be what devices report to."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from edgeflow_tools.terminal import Failure, json_option, note

if TYPE_CHECKING:
    from edgeflow_relay.settings import Settings

_EXTRA = ("sqlalchemy", "alembic", "aiosqlite")


@click.command(epilog="Example: edgeflow relay --data /var/lib/edgeflow-relay --broker 127.0.0.1:1883")
@click.option("--host", default="127.0.0.1", show_default=True, help="Loopback only, for now.")
@click.option(
    "--http-port", type=click.IntRange(0, 65535), default=7000, show_default=True, help="0 takes a free one."
)
@click.option(
    "--grpc-port", type=click.IntRange(0, 65535), default=7001, show_default=True, help="What devices dial."
)
@click.option("--data", default="relay-data", show_default=True, help="Folder of its database and files.")
@click.option("--broker", metavar="HOST:PORT", help="MQTT broker that events are mirrored to.")
@click.option("--fleet", default="default", show_default=True, help="Name in the topics of the mirror.")
@json_option
def command(**options: Any) -> None:
    """Run the relay until SIGTERM or Ctrl-C.

    It takes no connections from other machines: devices and operators have no identity yet.
    """
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise Failure(f"the relay needs {', '.join(missing)}: install edgeflow[relay]")
    from edgeflow_relay.settings import Settings, SettingsError

    as_json = options.pop("as_json")
    try:
        settings = Settings(**options)
    except SettingsError as error:
        raise Failure(str(error)) from None
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    _run(settings, as_json=as_json)


def _run(settings: Settings, *, as_json: bool) -> None:
    from edgeflow_relay.app import Ports, main, print_ports

    def say(ports: Ports) -> None:
        mirrored = f"events are mirrored to {settings.broker}" if settings.broker else "no broker is set"
        devices = f"devices dial {settings.host}:{ports.grpc}"
        page = f"http://{settings.host}:{ports.http}"
        note(f"the relay is ready: page {page}, {devices}, data in {settings.data}, {mirrored}")

    try:
        main(settings, print_ports if as_json else say)
    except OSError as error:
        raise Failure(f"the relay cannot run: {error.strerror or error}") from error
