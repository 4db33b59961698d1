"""What the steps of a pipeline and of a candidate cost, measured side by side in one run.

Of one commit the one is given the rows first, of the next the other. A step's first calls are left out, in
which caches fill and libraries load; of the others the median is told, which a busy machine moves least.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeflow_tools import tables
from edgeflow_tools.engine import Step
from edgeflow_tools.replay.player import Player

FIRST = 3  # calls that are left out, of few calls half of them
ALL = "(all)"
_Cost = dict[str, float]


def cost(player: Player) -> dict[str, _Cost]:
    """Return what each step took: microseconds a row in the median call, and a call at most in 99 of 100."""
    steps = {name: _of(step) for name, step in player.engine.tally.steps.items()}
    return steps | {ALL: {word: figure for word, figure in _of(player.commits).items() if word != "p99_us"}}


def _of(step: Step) -> _Cost:
    warm = min(FIRST, len(step.calls) // 2)
    calls, sizes = np.asarray(step.calls)[warm:] / 1e3, np.asarray(step.sizes)[warm:]
    per_row = calls[sizes > 0] / sizes[sizes > 0]
    return {
        "rows": step.rows,
        "us_per_row": round(float(np.median(per_row)), 3) if per_row.size else 0.0,
        "p99_us": float(np.quantile(calls, 0.99, method="higher")) if calls.size else 0.0,
    }


def show(own: Player, candidate: Player) -> None:
    """Print what the steps of both took, side by side."""
    mine, theirs = cost(own), cost(candidate)
    tables.show(
        ("step", "µs per row", "candidate", "p99 per call", "candidate"),
        [(step, *_cells(mine.get(step, {}), theirs.get(step, {}))) for step in {**mine, **theirs}],
    )


def _cells(mine: _Cost, theirs: _Cost) -> Iterator[str]:
    for figure in ("us_per_row", "p99_us"):
        for side in (mine, theirs):
            yield f"{side[figure]:,.2f}" if figure in side else ""
