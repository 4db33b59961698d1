"""Small fully connected networks, trained with Adam in plain numpy: the same seed gives the same network.

Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
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
        return ACTIVATIONS[self.activation](x @ self.weights + self.bias)


def make(sizes: list[int], activation: str, rng: np.random.Generator) -> list[Layer]:
    """Return layers of those sizes, all but the last with an activation (weights after Glorot and Bengio)."""
    layers = []
    for index, (inputs, outputs) in enumerate(zip(sizes, sizes[1:], strict=False)):
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
    """Fit the layers in place, in batches of 64; the step size falls to nothing along a cosine."""
    adam = _Adam(layers)
    for epoch in range(epochs):
        step = 0.5e-2 * (1 + np.cos(np.pi * epoch / epochs)) / 2
        order = rng.permutation(len(x))
        for start in range(0, len(x), 64):
            rows = order[start : start + 64]
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
        self._values = [value for layer in layers for value in (layer.weights, layer.bias)]
        self._mean = [np.zeros_like(value) for value in self._values]
        self._square = [np.zeros_like(value) for value in self._values]
        self._count = 0

    def move(self, gradients: list[Array], step: float) -> None:
        self._count += 1
        for value, mean, square, slope in zip(self._values, self._mean, self._square, gradients, strict=True):
            mean += 0.1 * (slope - mean)
            square += 0.001 * (slope * slope - square)
            scale = np.sqrt(square / (1 - 0.999**self._count)) + 1e-8
            value -= step * mean / (1 - 0.9**self._count) / scale
