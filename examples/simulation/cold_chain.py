"""A day's work of twelve cold boxes, as their loggers would report it: a reading a minute from each.

A box follows the air around it with the time constant of its walls, and a thermostat cools it between 3 and
5 °C; what a logger says is off by its own noise. Three things happen: box-03's door stays open for half an
hour, box-07's logger is out of reach for 40 minutes, box-11 is opened for five minutes, which is nobody's
business.

    python -m examples.simulation.cold_chain
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

RECORDING = Path(__file__).parents[1] / "recordings" / "cold-chain.csv"
BEGIN = datetime(2026, 6, 1, 6, tzinfo=UTC)
BOXES, MINUTES = 12, 360
OUTSIDE = 24.0  # °C
LEAK, OPEN, COOLING = 1 / 240, 1 / 30, 0.35  # a minute: through the walls, through the door; °C cooled
NOISE = 0.08  # °C
DOORS = {3: range(120, 150), 11: range(200, 205)}  # minutes in which a box stands open
UNHEARD = {7: range(180, 220)}


def temperatures(box: int, rng: np.random.Generator) -> Iterator[float]:
    """Yield what a box's thermometer says each minute, °C."""
    inside, cooling = rng.uniform(3.2, 4.8), False
    for minute in range(MINUTES):
        cooling = inside > 5 or (cooling and inside > 3)
        leak = OPEN if minute in DOORS.get(box, ()) else LEAK
        inside += (OUTSIDE - inside) * leak - COOLING * cooling
        yield inside + rng.normal(0, NOISE)


def lines() -> Iterator[str]:
    """Yield the lines of the recording, in the order in which readings arrive."""
    yield "time,box,degrees"
    rngs = np.random.default_rng(1).spawn(BOXES)
    boxes = [list(temperatures(box, rng)) for box, rng in enumerate(rngs, 1)]
    for minute in range(MINUTES):
        for box, degrees in enumerate(boxes, 1):
            if minute not in UNHEARD.get(box, ()):
                at = BEGIN + timedelta(minutes=minute, seconds=4 * box)
                yield f"{at:%Y-%m-%dT%H:%M:%SZ},box-{box:02},{degrees[minute]:.1f}"


if __name__ == "__main__":
    RECORDING.write_text("\n".join(lines()) + "\n")
