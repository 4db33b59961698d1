from __future__ import annotations

import numpy as np
import pytest

from edgeflow_agent.core.batch import numbered


def test_rows_are_numbered_taken_and_given_other_values() -> None:
    values = np.arange(6).reshape(3, 2)
    batch = numbered(values, np.array([1, 2, 3]), np.array([0, 1, 0], np.uint32), 40, ("x", "y"))
    assert len(batch) == 3
    assert batch.span.tolist() == [[40, 40], [41, 41], [42, 42]]
    taken = batch.take(np.array([True, False, True]))
    assert (taken.t.tolist(), taken.span[:, 1].tolist()) == ([1, 3], [40, 42])
    assert taken.column("y").tolist() == [1, 5]
    other = taken.having(np.zeros((2, 1)), ("z",))
    assert (other.key.tolist(), other.column("z").tolist()) == ([0, 0], [0, 0])


def test_a_column_that_is_not_there_is_an_error() -> None:
    batch = numbered(np.zeros((1, 1)), np.zeros(1, np.int64), np.zeros(1, np.uint32), 0, None)
    with pytest.raises(ValueError, match="rows have no named columns"):
        batch.column("x")
    with pytest.raises(ValueError, match="not in tuple"):
        batch.having(batch.values, ("y",)).column("x")
