"""Events about EdgeFlow itself: gaps, failures, restarts. They stand in the journals like any other."""

from __future__ import annotations

import struct
from typing import Any

from edgeflow_proto.event import Block, Clock


def notice(name: str, severity: str, data: dict[str, Any], clock: Clock, t: int, digest: str = "") -> Block:
    """Return a block of one event of type ``edgeflow.<name>``; `t` is CLOCK_BOOTTIME ns."""
    return Block(
        output=name.replace(".", "-"), type=f"edgeflow.{name}", severity=severity, count=1, clock=clock,
        t=struct.pack("<q", t), fixed=data, pipeline_digest=digest,
    )  # fmt: skip
