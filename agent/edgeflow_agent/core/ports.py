"""Ports of the runtime: what a step, a model and a decoder must be. Implemented elsewhere, handed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from edgeflow_agent.core.batch import Batch, Values
from edgeflow_proto.bundle import Signature
from edgeflow_proto.pipeline.flow import Flow

Feeds = Mapping[str, Values]  # a model's inputs by name


@dataclass(frozen=True, slots=True)
class ModelSetup:
    """How a model is to be set up; `provider` executes it (``None``: as its runtime prefers)."""

    threads: int = 1
    provider: str | None = None  # cpu, xnnpack, cuda or tensorrt
    required: bool = False  # refused where another executes it


class Model(Protocol):
    """A loaded model. Not thread-safe; never unloaded within a process (runtimes crash on it)."""

    signature: Signature
    provider: str  # what executes it: the one asked for, or where that is absent another

    def run(self, feeds: Feeds, outputs: Sequence[str]) -> list[Values]:
        """Run the model on all its inputs, each of the shape and dtype of its signature.

        Returns the outputs named, in that order: arrays of their own that stay valid. Raises RuntimeError
        or ValueError when the runtime refuses, KeyError when an input is not fed.
        """


ModelLoader = Callable[[Path, ModelSetup], Model]  # raises ModelError


class ModelError(ValueError):
    """A model file cannot be used; the message names the file and why (an op the runtime lacks, say)."""


@dataclass(frozen=True, slots=True)
class StepContext:
    """What a step is made from besides its options."""

    name: str
    upstreams: Mapping[str, Flow]  # by what the step calls its sources, in the order named
    flows: dict[str, Flow]  # its own, by port ("" for the unnamed one)
    folder: Path  # of the bundle
    load_model: ModelLoader

    @property
    def upstream(self) -> Flow:
        """The flow of the first source, which for most kinds is the only one."""
        return next(iter(self.upstreams.values()))


class PartlyFailedError(Exception):
    """Of rows brought together, a step failed on `rows`; `made` is of the others. Its cause says why."""

    def __init__(self, made: dict[str, Batch], rows: Batch) -> None:
        super().__init__(f"failed on {len(rows)} rows")
        self.made = made
        self.rows = rows


class Operator:
    """A step at work. Called with all rows available, in order; gives rows per port.

    Whatever it remembers between calls must be in `state`, and must depend on the rows alone, never on how
    they were cut into calls: after a crash they come again, cut otherwise. It reads no clock.
    """

    stateless: ClassVar[bool] = True  # a failing call may be repeated row by row
    notices: tuple[str, ...] = ()  # in words: where it is set up otherwise than asked for
    ticks: bool = False  # whether time alone makes it give rows
    due: int = 1  # rows that must come before a call can give any

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return the rows of each port (``""`` for the unnamed one); an absent port gives none."""
        raise NotImplementedError

    def meet(self, batches: Sequence[Batch | None], until: Sequence[int]) -> dict[str, Batch]:
        """Take rows of every source at once, for a step that reads several.

        All rows of a source of times before its `until` have been there, and of a `prompt` one all behind
        which stand no later rows than those that have been there. Raises PartlyFailedError where it could
        do some of the rows, each by itself; whatever else it raises costs all of them.
        """
        (batch,) = batches
        return self(batch) if batch is not None and len(batch) else {}

    def tick(self, t: int) -> dict[str, Batch]:
        """Time has come to `t` and all rows before it have been there; called where `ticks` says so."""
        return {}

    def gap(self) -> None:
        """Rows are missing before the next call: forget what must not straddle that."""

    def state(self) -> Any:
        """Return all that is remembered, of plain data, bytes and numpy arrays."""
        return None

    def restore(self, state: Any) -> None:
        """Take back what `state` returned, arrays as arrays."""


OperatorFactory = Callable[[Any, StepContext], Operator]  # options, context; raises ValueError or ModelError
