"""Moments on the command line."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime

import click


def moment(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Read a moment, or how long ago it was, as event times are written."""
    from edgeflow_proto.event import wall_time
    from edgeflow_proto.pipeline.units import Duration

    if value is None:
        return None
    with contextlib.suppress(ValueError):
        return wall_time(time.time_ns() - Duration.parse(value))
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter("give a time such as 2025-01-31T12:00Z, or how long ago: 10min") from None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return wall_time(round(found.timestamp() * 1e6) * 1000)


HELP = "2025-01-31T12:00Z (UTC unless said), or 10min."
since_option = click.option("--since", metavar="TIME", callback=moment, help=HELP)
