"""Counters of the board read by whoever shows them: names taken apart, and gathered per pipeline."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from edgeflow_agent.core.board import Board, labelled

_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:\{(.*)\})?", re.DOTALL)
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,|$)', re.DOTALL)
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
BUCKET = "_bucket"


@dataclass(frozen=True, slots=True)
class Sample:
    """One counter: its name, its labels unescaped, its value."""

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    value: int = 0

    @property
    def text(self) -> str:
        """The name with its labels, as on the board."""
        return labelled(self.name, **self.labels) if self.labels else self.name


def parse(name: str, value: int) -> Sample | None:
    """Take a board name apart; ``None`` for one that was cut for its length."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    inner = match[2] or ""
    found = list(_LABEL.finditer(inner))
    if sum(len(label[0]) for label in found) != len(inner):
        return None
    return Sample(match[1], {label[1]: _unescaped(label[2]) for label in found}, value)


def _unescaped(value: str) -> str:
    return re.sub(r'\\[\\"n]', lambda match: _ESCAPES[match[0]], value)


def samples(board: Board, slot: int) -> Iterator[Sample]:
    """Yield the counters of a slot."""
    for name, value in board.slot(slot).read().items():
        sample = parse(name, value)
        if sample is not None:
            yield sample


def of_pipeline(own: list[Sample], shared: list[Sample], pipeline: str) -> list[Sample]:
    """Gather a pipeline's counters: its worker's `own`, and of the `shared` ones those labelled with it."""
    out = list(own)
    for sample in shared:
        if sample.labels.get("pipeline") == pipeline:
            rest = {label: value for label, value in sample.labels.items() if label != "pipeline"}
            out.append(Sample(sample.name, rest, sample.value))
    return out


def total(found: list[Sample], name: str, **labels: str) -> int:
    """Add up the counters of that name whose labels include `labels`."""
    wanted = labels.items()
    return sum(sample.value for sample in found if sample.name == name and wanted <= sample.labels.items())


def plain(found: list[Sample]) -> dict[str, int]:
    """Return counters by their text, histogram buckets left out, negative values as 0."""
    return {sample.text: max(0, sample.value) for sample in found if not sample.name.endswith(BUCKET)}


def by_label(found: list[Sample], name: str, label: str) -> Mapping[str, int]:
    """Return the values of a counter by one of its labels, added up over the others."""
    out: dict[str, int] = {}
    for sample in found:
        if sample.name == name and label in sample.labels:
            out[sample.labels[label]] = out.get(sample.labels[label], 0) + sample.value
    return out
