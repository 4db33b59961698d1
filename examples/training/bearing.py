"""Train the anomaly model of the bearing example, measure it, write it; and a recording to try it on.

    python -m examples.training.bearing

It learns what sound bearings look like, at many speeds and loads; what it cannot reconstruct is an anomaly.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from edgeflow_tools.sim.bearing import as_sent
from edgeflow_tools.sim.vibration import RATE, Bearing, Signal, vibration
from examples.bearing.features import spectrum
from examples.training import network
from examples.training.network import Array
from examples.training.onnx_file import write_scorer

EXAMPLES = Path(__file__).parent.parent
MODEL = EXAMPLES / "bearing" / "bearing.onnx"
RECORDING = EXAMPLES / "recordings" / "press-7.npy"
SIZE, HOP = 512, 64  # as in pipeline.yaml
LIMIT, ROWS = 0.7, 8
SECONDS = 60


def bearing(rng: np.random.Generator) -> Bearing:
    """Return a bearing of another machine: its own speed, unbalance, load and noise."""
    sound = Bearing()
    return replace(
        sound,
        shaft=sound.shaft * rng.uniform(0.9, 1.1),
        harmonics=tuple(amplitude * rng.uniform(0.6, 1.4) for amplitude in sound.harmonics),
        load=rng.uniform(0, 0.25),
        noise=sound.noise * rng.uniform(0.8, 1.3),
    )


def features(signal: Signal) -> Array:
    """Return what the pipeline's steps make of a recording, ``(windows, 16)``."""
    windows = sliding_window_view(signal, SIZE)[::HOP, :, None]
    return spectrum(windows).astype(np.float64)


def sound(seeds: range) -> Array:
    """Return features of sound bearings, one machine a seed."""
    machines = (bearing(np.random.default_rng(seed)) for seed in seeds)
    recordings = (
        vibration(SECONDS * RATE, machine, seed, None) for machine, seed in zip(machines, seeds, strict=True)
    )
    return np.concatenate([features(recording) for recording in recordings])


class Scorer:
    """The trained model, in numpy."""

    def __init__(self, x: Array, check: Array) -> None:
        rng = np.random.default_rng(0)
        self.mean, self.std = x.mean(axis=0), x.std(axis=0)
        self.layers = network.make([x.shape[1], 12, 3, 12, x.shape[1]], "tanh", rng)
        z = (x - self.mean) / self.std
        network.train(self.layers, z, z, lambda y, target: 2 * (y - target) / y.shape[1], 30, rng)
        self.half = float(np.quantile(self.errors(check), 0.999))

    def errors(self, x: Array) -> Array:
        """Return the mean squared error of each reconstruction."""
        z = (x - self.mean) / self.std
        error: Array = np.square(network.forward(self.layers, z) - z).mean(axis=1)
        return error

    def scores(self, x: Array) -> Array:
        """Return scores between 0 and 1."""
        errors = self.errors(x)
        return errors / (errors + self.half)


def alarms(scores: Array) -> Array:
    """Return the windows at which the alarm of pipeline.yaml would be raised, were it never cleared."""
    beyond = np.convolve(scores > LIMIT, np.ones(ROWS), "full")[: len(scores)] == ROWS
    return np.flatnonzero(beyond)


def delay(scorer: Scorer, seed: int, strike: float) -> float:
    """Return the seconds from the begin of damage to the alarm, infinity when it is missed."""
    fault_at = SECONDS * RATE // 2
    machine = replace(bearing(np.random.default_rng(seed)), strike=strike)
    found = alarms(scorer.scores(features(vibration(SECONDS * RATE, machine, seed, fault_at))))
    ends = (found * HOP + SIZE) / RATE - fault_at / RATE
    return float(ends[ends > 0].min(initial=np.inf))


def main() -> None:
    """Train, measure on machines that were not trained on, write."""
    scorer = Scorer(sound(range(1000, 1100)), sound(range(2000, 2020)))
    scores = scorer.scores(sound(range(3000, 3060)))
    print(f"sound, 60 machines, 60 min: highest score {scores.max():.2f}, alarms {len(alarms(scores))}")
    for strike in (0.5, 0.7, 1.0, 2.0, 3.0):
        delays = [delay(scorer, seed, strike) for seed in range(4000, 4020)]
        missed = sum(map(np.isinf, delays))
        print(
            f"strikes of {strike} m/s², 20 machines: missed {missed}, median delay {np.median(delays):.1f} s"
        )
    write_scorer(MODEL, scorer.layers, scorer.mean, scorer.std, scorer.half)
    np.save(RECORDING, as_sent(vibration(20 * RATE, Bearing(), 1, 8 * RATE)))
    for file in (MODEL, RECORDING):
        print(f"wrote {file.relative_to(EXAMPLES)}, {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
