"""``/api/v1/devices``: the fleet, and what is desired of each device."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgeflow_relay.api.common import Refusal, Relay, answer, body, relay_of
from edgeflow_relay.store import wishes
from edgeflow_relay.store.devices import Known
from edgeflow_relay.store.wishes import Deployments, Unknown

_MAX_BODY = 4096
_NOTHING = Deployments(0, {}, {})


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which version of a pipeline: the one of this digest, else the latest."""

    digest: str | None = None


def view(relay: Relay, known: Known, deployments: Deployments) -> dict[str, Any]:
    """Return a device as plain data."""
    heartbeat = known.heartbeat
    return {
        "name": known.name,
        "fleet": relay.settings.fleet,
        "online": relay.registry.online(known.name),
        "rival": relay.registry.rival(known.name),
        "first_seen_ns": known.first_seen_ns,
        "seen_ns": known.last_seen_ns,
        "agent_version": known.about.agent_version,
        "machine": known.about.machine,
        "boot_id": known.about.boot_id,
        "clock_quality": heartbeat.clock_quality if heartbeat else None,
        "clock_ahead_s": round(heartbeat.ahead_ns / 1e9, 3) if heartbeat else None,
        "backlog": heartbeat.backlog if heartbeat else None,
        "host": heartbeat.host if heartbeat else None,
        "pipelines": heartbeat.pipelines if heartbeat else (),
        "revision": deployments.revision,
        "desired": deployments.desired,
        "deployments": deployments.outcomes,
    }


async def index(request: Request) -> Response:
    """Return all devices."""
    relay = relay_of(request)
    found = await relay.database.read(wishes.deployments)
    devices = [view(relay, known, found.get(known.name, _NOTHING)) for known in relay.registry]
    return answer({"devices": devices})


async def one(request: Request) -> Response:
    """Return one device."""
    relay, name = relay_of(request), request.path_params["device"]
    known = relay.registry.known.get(name)
    if known is None:
        raise Refusal(404, f"no device {name[:80]!r}: it has to say hello first")
    found = await relay.database.read(partial(wishes.deployments, device=name))
    return answer(view(relay, known, found.get(name, _NOTHING)))


async def put_pipeline(request: Request) -> Response:
    """Desire a version of a pipeline of a device, which is told at once when it is there."""
    device, name = request.path_params["device"], request.path_params["name"]
    try:
        choice = msgspec.json.decode(await body(request, _MAX_BODY) or b"{}", type=Choice)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(
            400, f'the body is {{"digest": "…"}}, or empty for the latest version: {error}'
        ) from None
    digest, revision = await _change(
        request, partial(wishes.want, device=device, name=name, digest=choice.digest)
    )
    return answer({"device": device, "name": name, "digest": digest, "revision": revision}, 202)


async def delete_pipeline(request: Request) -> Response:
    """Desire a pipeline of a device no longer."""
    device, name = request.path_params["device"], request.path_params["name"]
    revision = await _change(request, partial(wishes.drop, device=device, name=name))
    return answer({"device": device, "name": name, "digest": None, "revision": revision}, 202)


async def _change(request: Request, work: Any) -> Any:
    relay = relay_of(request)

    def changed(connection: Connection) -> Any:
        return work(connection)

    try:
        outcome = await relay.database.write(changed)
    except Unknown as error:
        raise Refusal(404, str(error)) from None
    relay.registry.wish(request.path_params["device"])
    return outcome


_ONE = "/api/v1/devices/{device}"
ROUTES = [
    Route("/api/v1/devices", index),
    Route(_ONE, one),
    Route(_ONE + "/pipelines/{name}", put_pipeline, methods=["PUT"]),
    Route(_ONE + "/pipelines/{name}", delete_pipeline, methods=["DELETE"]),
]
