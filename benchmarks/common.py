"""What every benchmark shares: rounds that alternate between the thing and its bare limit, and medians."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

ROUNDS = 7


@dataclass(frozen=True)
class Result:
    """One line of the table: `ours` and `bare` in `unit`, medians over rounds that took turns."""

    what: str
    against: str
    unit: str
    ours: float
    bare: float | None = None
    goal: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over bare."""
        return None if not self.bare else self.ours / self.bare

    def row(self) -> str:
        """Return the line as Markdown."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}×"
        bare = "" if self.bare is None else f"{self.bare:,.3g}"
        cells = (self.what, self.against, f"{self.ours:,.3g} {self.unit}", bare, ratio, self.goal)
        return f"| {' | '.join(cells)} |"

    def plain(self) -> dict[str, object]:
        """Return it for JSON."""
        return {**asdict(self), "ratio": self.ratio}


HEADER = "| what | against | ours | bare | ratio | goal |\n|---|---|---|---|---|---|"


def seconds_per_call(call: Callable[[], object], at_least_s: float = 0.15) -> float:
    """Return the mean seconds of a call over a stretch long enough to trust."""
    call()
    count, begin = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < at_least_s:
        call()
        count += 1
    return elapsed / count


def in_turns(*calls: Callable[[], float], rounds: int = ROUNDS) -> tuple[float, ...]:
    """Run measurements in turns and return the median of each."""
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for values, call in zip(found, calls, strict=True):
            values.append(call())
    return tuple(statistics.median(values) for values in found)


def note(text: str) -> None:
    """Say on stderr what is going on."""
    print(text, file=sys.stderr, flush=True)
