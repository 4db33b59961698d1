"""Which bundle a pipeline name should run: pure rules, no I/O."""

from __future__ import annotations

from edgeflow_agent.store.state import Deployment, OfferRecord

PRECEDENCE = ("relay", "http", "folder")  # what the relay wants wins over what is local


def effective(deployment: Deployment) -> tuple[str, OfferRecord] | None:
    """Return the origin and offer that win, ``None`` when nobody wants the name any more."""
    for origin in PRECEDENCE:
        if origin in deployment.offers:
            return origin, deployment.offers[origin]
    return None


def offered(deployment: Deployment, origin: str, record: OfferRecord) -> Deployment:
    """Return the deployment with an origin's offer in place of its earlier one."""
    return Deployment({**deployment.offers, origin: record})


def withdrawn(deployment: Deployment, origin: str) -> Deployment:
    """Return the deployment without an origin's offer."""
    return Deployment({name: record for name, record in deployment.offers.items() if name != origin})


def backoff_ns(deaths: int, longest_ns: int) -> int:
    """How long to wait before a process that died `deaths` times soon after its start is started again."""
    return 0 if deaths <= 1 else min(longest_ns, 250_000_000 << min(deaths - 2, 10))
