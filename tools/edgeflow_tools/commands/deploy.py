"""``edgeflow deploy``: put a pipeline on a device."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeflow_tools.terminal import Failure, Unwell, emit, json_option, note, problems

if TYPE_CHECKING:
    from edgeflow_proto.bundle import Manifest
    from edgeflow_tools.client import Server

TRIAL_S = 330.0  # a device answers when its trial of the bundle is over
POLL_S = 0.5


@click.command(epilog="Example: edgeflow deploy bearing/ --device pump-7")
@click.argument("path", metavar="DIR|FILE", type=click.Path(path_type=Path))
@click.option(
    "--to", "to", metavar="URL", help="A device's own address. Default: EDGEFLOW_DEVICE, else this machine."
)
@click.option("--device", metavar="NAME", help="A device of the relay's, in place of --to.")
@click.option("--relay", metavar="URL", help="Default: EDGEFLOW_RELAY, else http://127.0.0.1:7000.")
@click.option(
    "--wait/--no-wait", default=True, help="Wait until the device runs it or refuses.  [default: wait]"
)
@json_option
def command(
    path: Path, to: str | None, device: str | None, relay: str | None, wait: bool, as_json: bool
) -> None:
    """Check a pipeline, pack it with all it needs, and have a device run it.

    A folder (or its pipeline.yaml) goes along whole. Any other file takes along what it names and the Python
    beside it. The device tries the bundle before it runs it; exit code 1 says that it refused.
    """
    if to is not None and (device is not None or relay is not None):
        raise click.UsageError("give either --to or --device with --relay")
    if relay is not None and device is None:
        raise click.UsageError("say which --device of the relay's")
    manifest, body = _packed(path)
    note(f"{manifest.name} {manifest.digest[:12]}: {len(manifest.files)} files, {len(body):,} bytes")
    found = (
        _directly(to, manifest, body) if device is None else _by_relay(relay, device, manifest, body, wait)
    )
    if as_json:
        emit(found)
    else:
        click.echo(f"{found['name']} is {found['state']} on {found['device']}")


def _packed(path: Path) -> tuple[Manifest, bytes]:
    from edgeflow_proto import archive
    from edgeflow_proto.bundle import MANIFEST_FILE
    from edgeflow_tools.bundles import bundle
    from edgeflow_tools.pipelines import checked

    found = checked(path)
    if found.graph is None:
        raise problems(found.problems)
    try:
        manifest, files = bundle(found)
        return manifest, archive.pack({**files, MANIFEST_FILE: manifest.encode()})
    except (ValueError, OSError) as error:
        raise Failure(f"{path}: {error}") from None


def _directly(url: str | None, manifest: Manifest, body: bytes) -> dict[str, Any]:
    from edgeflow_tools.client import DEVICE, TAR, Server

    server = Server(DEVICE, url)
    answer = server.put(f"/api/v1/pipelines/{manifest.name}", body, TAR, TRIAL_S)
    return {"name": answer["name"], "digest": answer["digest"], "device": server.url, "state": "active"}


def _by_relay(url: str | None, device: str, manifest: Manifest, body: bytes, wait: bool) -> dict[str, Any]:
    from edgeflow_tools.client import RELAY, TAR, TRANSFER_S, Server, quoted

    server = Server(RELAY, url)
    place = f"/api/v1/devices/{quoted(device)}"
    online = server.get(place)["online"]  # refuses an unknown device before anything is uploaded
    server.put(f"/api/v1/pipelines/{manifest.name}", body, TAR, TRANSFER_S)
    wish = {"digest": manifest.digest}
    revision = server.put_json(f"{place}/pipelines/{manifest.name}", wish)["revision"]
    found = {"name": manifest.name, "digest": manifest.digest, "device": device, "revision": revision}
    if not online:
        note(f"{device} is offline; it gets the pipeline when it is back")
    return found | {"state": _awaited(server, place, manifest, revision) if wait else "desired"}


def _awaited(server: Server, place: str, manifest: Manifest, revision: int) -> str:
    """Wait until the device runs the bundle; raises Failure when it refuses, or does not say for long."""
    deadline = time.monotonic() + TRIAL_S
    while time.monotonic() < deadline:
        told = server.get(place)["deployments"].get(manifest.name, {})
        if told.get("digest") == manifest.digest:
            if told["state"] == "active":
                return "active"
            if told["state"] == "refused" and told["revision"] >= revision:
                raise Unwell(f"{place.rpartition('/')[2]} refuses:\n{told['reason']}")
        time.sleep(POLL_S)
    raise Unwell(f"the device has not said within {TRIAL_S:g} s what became of it")
