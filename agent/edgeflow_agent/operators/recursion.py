"""Recursions over rows, worked out block by block: what `ewma` and `filter_iir` are made of."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
BLOCK = 64


class Recursion:
    """``y[n] = c·z[n] + d x[n]``, ``z[n + 1] = A z[n] + b x[n]``, for any number of columns at once.

    Within a block all rows are worked out by two matrix products instead of one after another: each row is
    what the state at the block's beginning makes of it, plus what the rows of the block up to it do.
    Source: the solution of a linear difference equation, Oppenheim and Schafer, "Discrete-Time Signal
    Processing".
    """

    def __init__(self, a: Doubles, b: Doubles, c: Doubles, d: float) -> None:
        """`a` is ``(order, order)``, `b` and `c` are ``(order,)``."""
        powers = [np.eye(len(a))]
        for _ in range(BLOCK):
            powers.append(a @ powers[-1])
        self._powers = np.stack(powers)  # A to the power of 0 … BLOCK
        self._free = self._powers[:BLOCK].transpose(0, 2, 1) @ c  # state → output, (BLOCK, order)
        self._reach = (
            self._powers[:BLOCK] @ b
        )  # an input's share of the state, so many rows after, (BLOCK, order)
        response = np.concatenate([[d], self._reach[:-1] @ c])
        lag = np.subtract.outer(np.arange(BLOCK), np.arange(BLOCK))
        self._forced = np.where(lag >= 0, response[np.abs(lag)], 0.0)  # (BLOCK, BLOCK)

    def __call__(self, x: Doubles, state: Doubles) -> tuple[Doubles, Doubles]:
        """Return outputs ``(n, columns)`` and the state behind them; a state is ``(order, columns)``."""
        out = np.empty_like(x)
        for start in range(0, len(x), BLOCK):
            part = x[start : start + BLOCK]
            count = len(part)
            out[start : start + count] = self._free[:count] @ state + self._forced[:count, :count] @ part
            state = self._powers[count] @ state + self._reach[count - 1 :: -1].T @ part
        return out, state


def biquad(b0: float, b1: float, b2: float, a1: float, a2: float) -> Recursion:
    """Return a second-order section with a0 = 1, in normal form up to a scale.

    The direct forms would take small differences of large states where a cutoff is far below the rate. The
    coefficients are worked out exactly and then rounded, for the same reason. Source: Barnes and Fam (1977),
    "Minimum norm recursive digital filters that are free of overflow limit cycles".
    """
    f0, f1, f2, e1, e2 = map(Fraction, (b0, b1, b2, a1, a2))
    middle = -e1 / 2  # the poles lie around it
    newest, other = f1 - e1 * f0, f2 - e2 * f0
    a = np.array([[middle, 1], [middle**2 - e2, middle]], np.float64)
    return Recursion(a, np.array([0.0, 1.0]), np.array([other + middle * newest, newest], np.float64), b0)


def mean(alpha: float) -> Recursion:
    """Return ``y[n] = y[n - 1] + alpha (x[n] - y[n - 1])``; the state is the mean so far."""
    keep = 1 - alpha
    return Recursion(np.array([[keep]]), np.array([alpha]), np.array([keep]), alpha)
