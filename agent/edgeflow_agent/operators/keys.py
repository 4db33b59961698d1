"""Rows told apart by key, for steps that remember something per key."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from edgeflow_agent.core.batch import Keys, Rows


def by_key(key: Keys) -> Iterator[tuple[int, Rows | slice]]:
    """Yield each key with the index of its rows, in their order; a slice when all have that key."""
    first = key[0]
    if len(key) == 1 or (key == first).all():
        yield int(first), slice(None)
        return
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    bounds = [0, *(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist(), len(key)]
    for start, end in pairwise(bounds):
        yield int(ordered[start]), order[start:end]
