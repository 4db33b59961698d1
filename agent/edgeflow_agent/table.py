"""The process table: one row per process that `agentd` runs."""

from __future__ import annotations

import msgspec


class Row(msgspec.Struct, frozen=True):
    """How a process is run. `start_ns` is how long it may take before its first heartbeat."""

    module: str
    slot: int  # on the board; workers count up from this one
    start_ns: int = 60 * 10**9
    stop_ns: int = 5 * 10**9


AGENTD_SLOT = 0
TABLE = {
    "io": Row("edgeflow_agent.processes.io", 1),
    "link": Row("edgeflow_agent.processes.link", 2),
    "worker": Row("edgeflow_agent.processes.worker", 3, stop_ns=10 * 10**9),
}
ADMIT = "edgeflow_agent.processes.admit"
ADMIT_NS = 120 * 10**9
