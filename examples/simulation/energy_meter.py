"""A day of a workshop's electricity meter: the register in Wh every half minute, as a pulse counter gives it.

The base load is that of a building; machines run from 7 to 16 o'clock with a pause at noon, each on and off
in its own rhythm; a compressor's valve sticks from 13:10 to 14:25 and it runs without pause. The register
counts whole watt-hours, so that short differences are coarse, as they are on real meters.

    python -m examples.simulation.energy_meter
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

RECORDING = Path(__file__).parents[1] / "recordings" / "energy-meter.csv"
BEGIN = datetime(2026, 6, 1, tzinfo=UTC)
STEP = 30  # seconds
COUNT = 24 * 3600 // STEP
MACHINES = ((9000.0, 210), (5500.0, 480), (14000.0, 900), (3200.0, 60))  # watts, seconds on and then off
COMPRESSOR, STUCK = 11000.0, (13 + 10 / 60, 14 + 25 / 60)  # watts; hours
FIRST = 48_210_377  # Wh


def load(hours: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the power drawn at each time of day, watts."""
    watts = 1800 + 300 * np.sin(2 * np.pi * hours / 24) + rng.normal(0, 60, len(hours))
    working = ((hours >= 7) & (hours < 12)) | ((hours >= 12.75) & (hours < 16))
    for power, period in MACHINES:
        on = np.floor(hours * 3600 / period + rng.uniform(0, 2)) % 2 == 0
        watts += power * (working & on) * rng.normal(1, 0.03, len(hours))
    stuck = (STUCK[0] <= hours) & (hours < STUCK[1])
    return watts + COMPRESSOR * (working & (stuck | (np.floor(hours * 20) % 3 == 0)))


def lines() -> Iterator[str]:
    """Yield the lines of the recording."""
    yield "at,meter,wh"
    hours = np.arange(COUNT) * STEP / 3600
    register = FIRST + np.cumsum(load(hours, np.random.default_rng(1)) * STEP / 3600)
    for step, wh in enumerate(register):
        yield f"{BEGIN + timedelta(seconds=STEP * step):%Y-%m-%dT%H:%M:%SZ},hall-2,{int(wh)}"


if __name__ == "__main__":
    RECORDING.write_text("\n".join(lines()) + "\n")
