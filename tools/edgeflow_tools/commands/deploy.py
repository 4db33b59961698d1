"""``edgeflow deploy``: put a pipeline on a device."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeflow_tools import whom
from edgeflow_tools.terminal import Failure, Unwell, emit, json_option, note, problems

if TYPE_CHECKING:
    from edgeflow_proto.bundle import Manifest
    from edgeflow_tools.client import Server

TRIAL_S = 330.0  # a device answers when its trial of the bundle is over
START_S = 30.0  # a worker is ready long before
POLL_S = 0.5
SOON_S = 0.1


@click.command(epilog="Example: edgeflow deploy bearing/ --device pump-7")
@click.argument("path", metavar="DIR|FILE", type=click.Path(path_type=Path))
@whom.options
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
    manifest, body = _packed(path)
    note(f"{manifest.name} {manifest.digest[:12]}: {len(manifest.files)} files, {len(body):,} bytes")
    server, name = whom.whom(to, device, relay)
    if name is None and server.kind == "relay":
        raise click.UsageError("say which --device of the relay's")
    if name is None:
        found = _directly(server, manifest, body, wait)
    else:
        found = _by_relay(server, name, manifest, body, wait)
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


def _directly(server: Server, manifest: Manifest, body: bytes, wait: bool) -> dict[str, Any]:
    from edgeflow_tools.client import TAR

    place = f"/api/v1/pipelines/{manifest.name}"
    answer = server.put(place, body, TAR, TRIAL_S)
    digest = answer["digest"]
    _warn(answer["warnings"])
    deadline = time.monotonic() + (START_S if wait else 0)
    while (state := _state(server.get(place), digest)) == "starting" and time.monotonic() < deadline:
        time.sleep(SOON_S)
    return {"name": manifest.name, "digest": digest, "device": server.url, "state": state}


def _state(told: dict[str, Any], digest: str) -> str:
    """Return how far a version that a device has taken is; raises Failure when it will not get further."""
    name, state = told["name"], told["state"]
    if told["digest"] != digest:
        wins = "the relay's" if told["origin"] == "relay" else "a newer"
        raise Unwell(f"stored; {wins} version of {name} wins, {told['digest'][:12]} is {state}")
    if state not in ("running", "starting"):
        raise Unwell(f"stored; {name} is {state}: {told['reason']}")
    return "active" if state == "running" else "starting"


def _warn(lines: list[str]) -> None:
    """Tell what the device's trial found that may not work."""
    for line in lines:
        note(f"warning: {line}")


def _by_relay(server: Server, device: str, manifest: Manifest, body: bytes, wait: bool) -> dict[str, Any]:
    from edgeflow_tools.client import TAR, TRANSFER_S, quoted

    place = f"/api/v1/devices/{quoted(device)}"
    online = server.get(place)["online"]
    server.put(f"/api/v1/pipelines/{manifest.name}", body, TAR, TRANSFER_S)
    wish = {"digest": manifest.digest}
    revision = server.put_json(f"{place}/pipelines/{manifest.name}", wish)["revision"]
    found = {"name": manifest.name, "digest": manifest.digest, "device": device, "revision": revision}
    if not online:
        note(f"{device} is offline; it gets the pipeline when it is back" + (", waiting" if wait else ""))
    return found | {"state": _awaited(server, place, manifest, revision) if wait else "desired"}


def _awaited(server: Server, place: str, manifest: Manifest, revision: int) -> str:
    """Wait until the device runs the bundle; raises Unwell when it refuses, or does not say for long."""
    deadline = time.monotonic() + TRIAL_S
    hindered = ""
    while time.monotonic() < deadline:
        told = server.get(place)["deployments"].get(manifest.name, {})
        if told.get("digest") == manifest.digest and told["revision"] >= revision:
            if _decided(told, place):
                return "active"
            if told["reason"] not in ("", hindered):
                hindered = told["reason"]
                note(f"{told['state']}: {hindered}")
        time.sleep(POLL_S)
    raise Unwell(f"the device has not said within {TRIAL_S:g} s what became of it")


def _decided(told: dict[str, Any], place: str) -> bool:
    """Return whether the device runs what it was sent; raises Unwell when it refuses."""
    if told["state"] == "refused":
        raise Unwell(f"{place.rpartition('/')[2]} refuses:\n{told['reason']}")
    if told["state"] == "active":
        _warn(told["reason"].splitlines())
    return bool(told["state"] == "active")
