"""One value per class, ``(n, classes)``, made into probabilities or into the greatest of them."""

from __future__ import annotations

import numpy as np

from edgeflow_agent.core.batch import Values


def softmax(values: Values) -> Values:
    """Return floats ``(n, …)`` as probabilities over the last axis; NaN makes all of its row NaN."""
    with np.errstate(all="ignore"):
        powers = np.exp(values - values.max(axis=-1, keepdims=True))  # shifted, so that none overflows
        result: Values = powers / powers.sum(axis=-1, keepdims=True)
    return result


def argmax(values: Values) -> Values:
    """Return the number of the greatest class, int32 ``(n, 1)``: the first of equal ones, never a NaN."""
    greatest: Values = _ranking(values).argmax(axis=1)
    return greatest[:, None].astype(np.int32)


def top(values: Values, count: int) -> Values:
    """Return numbers and values of the greatest classes, the greatest first.

    ``(n, 2·count)``: class, value, class, value, … in the dtype of `values`. Of equal ones the first comes
    first; NaN comes last.
    """
    order = np.argsort(-_ranking(values), axis=1, kind="stable")[:, :count]
    result = np.empty((len(values), 2 * order.shape[1]), values.dtype)
    result[:, 0::2] = order
    result[:, 1::2] = np.take_along_axis(values, order, axis=1)
    return result


def _ranking(values: Values) -> Values:
    return np.where(np.isnan(values), -np.inf, values) if values.dtype.kind == "f" else values
