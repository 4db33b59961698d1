"""Train the classifier of the host-watch example, measure it, write it.

    python -m examples.training.host

It learns from simulated traces of a machine's processor and memory: what is normal differs from machine to
machine, so level, restlessness and bursts are drawn anew for each trace.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from examples.training import network
from examples.training.network import Array
from examples.training.tflite_file import write_classifier

FILE = Path(__file__).parent.parent / "host-watch" / "host.tflite"
CLASSES = ("normal", "saturated", "leaking")
ROWS = 16  # as in pipeline.yaml: four seconds at 250 ms


def trace(kind: int, rng: np.random.Generator) -> Array:
    """Return one window, ``(ROWS, 2)``: processor and memory in percent."""
    cpu = _saturated(rng) if kind == 1 else _working(rng)
    memory = rng.uniform(5, 90) + np.cumsum(rng.normal(0, rng.uniform(0, 0.08), ROWS))
    if kind == 2:
        memory += rng.uniform(0.3, 4.0) * np.arange(ROWS) / 4  # percent a second
    return np.clip(np.stack((cpu, memory + rng.normal(0, 0.03, ROWS)), axis=1), 0, 100)


def _working(rng: np.random.Generator) -> Array:
    """Return a processor with a level of its own, noise, and now and then a burst."""
    cpu = rng.uniform(0, 70) + rng.normal(0, rng.uniform(1, 12), ROWS)
    if rng.random() < 0.5:
        start, length = rng.integers(0, ROWS), rng.integers(1, 8)
        cpu[start : start + length] += rng.uniform(20, 100)
    return cpu


def _saturated(rng: np.random.Generator) -> Array:
    """Return a processor with nothing left to give, but for a dip or two."""
    cpu = 100 - rng.exponential(1.5, ROWS)
    cpu[rng.integers(0, ROWS, rng.integers(0, 3))] -= rng.uniform(0, 15)
    return cpu


def traces(count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return windows as rows, ``(n, 2 * ROWS)``, and their classes, one-hot ``(n, 3)``."""
    kinds = np.arange(count) % len(CLASSES)
    windows = np.stack([trace(kind, rng) for kind in kinds.tolist()])
    return windows.reshape(count, -1), np.eye(len(CLASSES))[kinds]


def folded(layers: list[network.Layer], mean: Array, std: Array) -> list[network.Layer]:
    """Return layers that take rows as measured, in place of ``(x - mean) / std``."""
    first, *rest = layers
    weights = first.weights / std[:, None]
    return [network.Layer(weights, first.bias - mean @ weights, first.activation), *rest]


def softmax(x: Array) -> Array:
    """Return probabilities, row by row."""
    power = np.exp(x - x.max(axis=1, keepdims=True))
    probabilities: Array = power / power.sum(axis=1, keepdims=True)
    return probabilities


def main() -> None:
    """Train, measure on traces that were not trained on, write."""
    rng = np.random.default_rng(0)
    x, target = traces(15_000, rng)
    mean, std = x.mean(axis=0), x.std(axis=0)
    layers = network.make([x.shape[1], 24, 12, len(CLASSES)], "relu", rng)
    network.train(layers, (x - mean) / std, target, lambda y, wanted: softmax(y) - wanted, 40, rng)
    layers = folded(layers, mean, std)
    x, target = traces(15_000, rng)
    found, wanted = network.forward(layers, x).argmax(axis=1), target.argmax(axis=1)
    for kind, name in enumerate(CLASSES):
        rows = found[wanted == kind]
        shares = ", ".join(f"{other} {np.mean(rows == at):.1%}" for at, other in enumerate(CLASSES))
        print(f"{name}: taken for {shares}")
    write_classifier(FILE, layers)
    print(f"wrote {FILE.parent.name}/{FILE.name}, {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
