"""What the trial of a bundle says, as it passes from the trial's process to `agentd`."""

from __future__ import annotations

import msgspec

from edgeflow_proto.pipeline.problem import Problem


class Verdict(msgspec.Struct, frozen=True):
    """A bundle without problems may run; `digest` is its manifest's."""

    name: str = ""
    digest: str = ""
    problems: list[Problem] = []
    warnings: tuple[str, ...] = ()  # what may not work, a line each
