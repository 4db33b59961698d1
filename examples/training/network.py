"""Small fully connected networks, trained with Adam in plain numpy: the same seed gives the same network.

Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
BETAS = (0.9, 0.999)
STEP = 0.005
BATCH = 64
Gradient = Callable[[Array, Array], Array]  # outputs, targets → derivative of the loss by the outputs
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
}
# The derivative of each, from what it gave.
SLOPES: dict[str, Callable[[Array], Array]] = {
    "linear": np.ones_like,
    "relu": lambda y: (y > 0).astype(float),
    "tanh": lambda y: 1 - y * y,
}


@dataclass
class Layer:
    """``activation(x @ weights + bias)``; weights ``(inputs, outputs)``."""

    weights: Array
    bias: Array
    activation: str

    def __call__(self, x: Array) -> Array:
        """Return ``(n, outputs)`` for ``(n, inputs)``."""
        return ACTIVATIONS[self.activation](x @ self.weights + self.bias)


def make(sizes: list[int], activation: str, rng: np.random.Generator) -> list[Layer]:
    """Return layers of those sizes, all but the last with an activation (weights after Glorot and Bengio)."""
    layers = []
    for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        weights = rng.normal(0, np.sqrt(2 / (inputs + outputs)), (inputs, outputs))
        last = index == len(sizes) - 2
        layers.append(Layer(weights, np.zeros(outputs), "linear" if last else activation))
    return layers


def forward(layers: list[Layer], x: Array) -> Array:
    """Return the network's outputs."""
    for layer in layers:
        x = layer(x)
    return x


def train(
    layers: list[Layer], x: Array, target: Array, gradient: Gradient, epochs: int, rng: np.random.Generator
) -> None:
    """Fit the layers in place, batch by batch; the step size falls to nothing along a cosine."""
    adam = _Adam(layers)
    for epoch in range(epochs):
        step = STEP * (1 + np.cos(np.pi * epoch / epochs)) / 2
        order = rng.permutation(len(x))
        for start in range(0, len(x), BATCH):
            rows = order[start : start + BATCH]
            adam.move(_gradients(layers, x[rows], target[rows], gradient), step)


def _gradients(layers: list[Layer], x: Array, target: Array, gradient: Gradient) -> list[Array]:
    """Return the derivative of the loss by each layer's weights and bias, by backpropagation."""
    outputs = [x]
    for layer in layers:
        outputs.append(layer(outputs[-1]))
    flow = gradient(outputs[-1], target) / len(x)
    found: list[Array] = []
    for layer, given, taken in zip(reversed(layers), reversed(outputs), reversed(outputs[:-1]), strict=False):
        flow = flow * SLOPES[layer.activation](given)
        found[:0] = [taken.T @ flow, flow.sum(axis=0)]
        flow = flow @ layer.weights.T
    return found


class _Adam:
    def __init__(self, layers: list[Layer]) -> None:
        self._moments = [_Moments(value) for layer in layers for value in (layer.weights, layer.bias)]
        self._count = 0

    def move(self, gradients: list[Array], step: float) -> None:
        self._count += 1
        for moments, gradient in zip(self._moments, gradients, strict=True):
            moments.move(gradient, step, self._count)


class _Moments:
    """A value to be fitted, and running means of its gradient and of that squared."""

    def __init__(self, value: Array) -> None:
        self._value = value
        self._first, self._second = np.zeros_like(value), np.zeros_like(value)

    def move(self, gradient: Array, step: float, count: int) -> None:
        self._first += (1 - BETAS[0]) * (gradient - self._first)
        self._second += (1 - BETAS[1]) * (gradient * gradient - self._second)
        spread = np.sqrt(self._second / (1 - BETAS[1] ** count)) + 1e-8
        self._value -= step * self._first / (1 - BETAS[0] ** count) / spread
