"""``/healthz``, ``/readyz`` and ``/metrics``: for what watches the relay."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgeflow_relay import counters
from edgeflow_relay.api.common import answer, relay_of


async def healthz(_: Request) -> Response:
    """Say that the process is alive, and what it is."""
    return answer({"status": "ok", "server": "relay"})


async def readyz(request: Request) -> Response:
    """Say whether the store takes what devices send, and what else is not as it should be."""
    relay = relay_of(request)
    reasons = relay.database.health.reasons
    mirror = relay.mirror
    degraded = [f"mirror {mirror.address}: {mirror.error}"] if mirror and not mirror.connected else []
    found = {"ready": not reasons, "reasons": reasons, "degraded": degraded}
    return answer(found, 503 if reasons else 200)


async def metrics(request: Request) -> Response:
    """Return every counter for Prometheus."""
    relay = relay_of(request)
    gauges = {
        "devices": len(relay.registry.known),
        "devices_online": len(relay.registry.streams),
        "intake_bytes": relay.intake.waiting,
        "mirror_connected": int(relay.mirror is not None and relay.mirror.connected),
        "mirror_backlog": relay.mirror.backlog if relay.mirror else 0,
        "store_failures_total": relay.database.health.failures,
    }
    return Response(relay.counters.text(gauges), media_type=counters.CONTENT_TYPE)


ROUTES = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
