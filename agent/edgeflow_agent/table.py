"""The process table: one row per process that `agentd` runs."""

from __future__ import annotations

import msgspec

from edgeflow_agent.core.spawn import ZYGOTE


class Row(msgspec.Struct, frozen=True):
    """How a process is run.

    `start_ns` is how long it may take before its first heartbeat, `stop_ns` how long it may drain when asked
    to stop, `backoff_ns` how long it waits at most when it keeps dying. One that is `forked` is by `zygote`.
    """

    module: str
    slot: int  # on the board; workers count up from this one
    start_ns: int = 60 * 10**9
    stop_ns: int = 5 * 10**9
    backoff_ns: int = 2 * 10**9
    forked: bool = False


AGENTD_SLOT = 0
TABLE = {
    "io": Row("edgeflow_agent.processes.io", 1, forked=True),
    "link": Row("edgeflow_agent.processes.link", 2),
    "zygote": Row(ZYGOTE, 3, stop_ns=10**9),
    "worker": Row(
        "edgeflow_agent.processes.worker", 4, stop_ns=10 * 10**9, backoff_ns=30 * 10**9, forked=True
    ),
}
ADMIT = "edgeflow_agent.processes.admit"
ADMIT_NS = 120 * 10**9
