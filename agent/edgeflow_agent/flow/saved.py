"""What a worker resumes from."""

from __future__ import annotations

import msgspec

from edgeflow_agent.flow.recorded import Wanted


class Saved(msgspec.Struct, frozen=True):
    """What a snapshot holds.

    Rows read per input, the runtime's state, which set-up the journal tells, what is to be recorded, and the
    names of each input's keys by their numbers.
    """

    positions: dict[str, int]
    runtime: bytes
    told: str = ""
    wanted: dict[str, Wanted] = {}
    keys: dict[str, list[str]] = {}
