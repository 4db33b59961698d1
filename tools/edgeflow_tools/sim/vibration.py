"""What an accelerometer on a bearing's housing measures, sound at first and then with a damaged outer ring.

A ball that rolls over a dent in the outer ring strikes the housing, which rings like a damped oscillator.
Strikes come at the ball-pass frequency ``balls/2 · shaft · (1 - ball/pitch · cos angle)``, not quite evenly,
because balls slip a little. Beside that there are the shaft's own harmonics, a load that comes and goes, and
noise.
Source: McFadden and Smith, Journal of Sound and Vibration 96(1), 1984; Randall and Antoni, Mechanical Systems
and Signal Processing 25(2), 2011.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Signal = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

RATE = 1000  # samples a second
FAULT_AT = 0.4  # of the run
_RING_SAMPLES = 64  # after which a strike has died away


@dataclass(frozen=True, slots=True)
class Bearing:
    """A machine and its bearing; frequencies in Hz, accelerations in m/s².

    The defaults are a motor at 1480 rpm on a 6205 bearing, whose housing rings at 340 Hz.
    """

    shaft: float = 24.67
    harmonics: tuple[float, ...] = (0.6, 0.25, 0.12)  # amplitudes at once, twice, … the shaft frequency
    balls: int = 9
    ball_to_pitch: float = 0.2042
    contact_angle: float = 0.0  # radians
    slip: float = 0.01  # standard deviation of the time between strikes, as a part of it
    resonance: float = 340.0
    damping: float = 0.05  # of the critical one
    strike: float = 3.0  # acceleration of a strike at full damage
    load: float = 0.15  # how far the load moves all amplitudes
    load_period: float = 7.0  # seconds
    noise: float = 0.25  # standard deviation
    growth: float = 1.0  # seconds in which damage comes within 1/e of its full extent

    @property
    def ball_pass(self) -> float:
        """Strikes a second of a dent in the outer ring."""
        return self.balls / 2 * self.shaft * (1 - self.ball_to_pitch * math.cos(self.contact_angle))


def vibration(count: int, bearing: Bearing, seed: int, fault_at: int | None) -> Signal:
    """Return `count` samples at `RATE`, ``(n,)`` float32 in m/s²; damage begins at sample `fault_at`.

    ``None`` is for a bearing that stays sound. The same arguments give the same samples.
    """
    rng = np.random.default_rng(seed)
    t = np.arange(count) / RATE
    load = 1 + bearing.load * np.sin(2 * np.pi * t / bearing.load_period + rng.uniform(0, 2 * np.pi))
    signal = load * _shaft(t, bearing, rng) + rng.normal(0, bearing.noise, count)
    strikes = _strikes(count / RATE, bearing, rng)
    if fault_at is not None:
        begun = np.maximum(0, strikes - fault_at / RATE)
        size = bearing.strike * (1 - np.exp(-begun / bearing.growth)) * rng.normal(1, 0.1, len(strikes))
        signal += load * _ringing(count, strikes, size, bearing)
    return signal.astype(np.float32)


def _shaft(t: Doubles, bearing: Bearing, rng: np.random.Generator) -> Doubles:
    wave = np.zeros_like(t)
    for order, amplitude in enumerate(bearing.harmonics, 1):
        wave += amplitude * np.sin(2 * np.pi * bearing.shaft * order * t + rng.uniform(0, 2 * np.pi))
    return wave


def _strikes(seconds: float, bearing: Bearing, rng: np.random.Generator) -> Doubles:
    """Return when balls pass one point of the outer ring, in seconds."""
    count = int(seconds * bearing.ball_pass * 1.1) + 8
    return np.cumsum(rng.normal(1, bearing.slip, count)) / bearing.ball_pass


def _ringing(count: int, strikes: Doubles, size: Doubles, bearing: Bearing) -> Doubles:
    """Return the sum of what the housing does after each strike."""
    strikes, size = strikes[strikes < count / RATE], size[strikes < count / RATE]
    first = np.ceil(strikes * RATE).astype(np.int64)
    at = first[:, None] + np.arange(_RING_SAMPLES)
    since = at / RATE - strikes[:, None]
    omega = 2 * np.pi * bearing.resonance
    ring = size[:, None] * np.exp(-bearing.damping * omega * since) * np.sin(omega * since)
    out = np.zeros(count + _RING_SAMPLES)
    np.add.at(out, at, ring)
    return out[:count]
