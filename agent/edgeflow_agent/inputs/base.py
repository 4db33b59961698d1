"""The port of inputs: what a source of rows is given, and what it must do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgeflow_agent.core.broker import Broker
from edgeflow_agent.core.reactor import Callback, Timer
from edgeflow_agent.inputs.feed import Feed
from edgeflow_proto.installed import points
from edgeflow_proto.pipeline.kinds.base import Intake

GROUP = "edgeflow.inputs"


class Loop(Protocol):
    """The one thread that serves all inputs. A callback must not block and must be short.

    What a callback raises is the failure of its input alone: the input is closed, what it watches is
    forgotten, and it is made anew after a while.
    """

    def watch(self, fd: int, read: Callback | None, write: Callback | None = None) -> None:
        """Call back whenever `fd` is readable or writable, in place of what was asked for it before."""

    def forget(self, fd: int) -> None:
        """Stop watching. Call it before closing the descriptor."""

    def after(self, seconds: float, callback: Callback) -> Timer:
        """Call back once, `seconds` from now."""


@dataclass(frozen=True, slots=True)
class InputContext:
    """What an input is made from besides its options."""

    pipeline: str
    name: str
    intake: Intake
    folder: Path  # of the bundle
    feed: Feed
    loop: Loop
    broker: Callable[[str], Broker]  # by name in the device's settings; raises LookupError
    failed: Callable[[Exception], None]  # as if a callback had raised


class Input:
    """A source at work. Making one begins it; `feed` says where rows go."""

    def space(self) -> None:
        """The reader of a lossless ring may have let go of rows."""

    def close(self) -> None:
        """Let go of everything; rows handed over stay."""


InputFactory = Callable[
    [Any, InputContext], Input
]  # options, context; raises ValueError, LookupError, OSError


def inputs(kinds: Iterable[str]) -> dict[str, InputFactory]:
    """Return the implementations of those kinds that are installed; the others are not even imported."""
    known = points(GROUP)
    return {kind: known[kind].load() for kind in set(kinds) & known.keys()}
