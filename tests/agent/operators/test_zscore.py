from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.core.batch import Batch
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.steps.detect import ZScore
from tests.support.steps import alone, assert_indifferent, keyed, rows, run, sizes, step

ONE = Flow((1,), "float64", ("value",), inputs=("in",))
numbers = st.sampled_from([0.0, 1.0, 2.0, 5.0, np.nan])


@given(keyed(numbers), st.integers(1, 6), st.integers(1, 4), st.integers(1, 3), sizes)
def test_scores_are_the_plain_ones(batch: Batch, size: int, hop: int, warm_up: int, sizes: list[int]) -> None:
    hop, warm_up = min(hop, size), min(warm_up, size)
    options = ZScore(size=size, hop=hop, warm_up=warm_up, column="x", floor=0.5)
    out = assert_indifferent(lambda: alone(step(options)), batch, sizes)["out"]
    seen: dict[int, list[float]] = {}
    wanted = []
    for key, x in zip(batch.key.tolist(), batch.values[:, 0].astype(float).tolist(), strict=True):
        own = seen.setdefault(key, [])
        moved = max(0, len(own) - size) // hop * hop
        window = own[moved : moved + size]
        if np.isnan(x):
            wanted.append(np.nan)
            continue
        wanted.append(0.0 if len(own) < warm_up else (x - np.mean(window)) / max(np.std(window), 0.5))
        own.append(x)
    np.testing.assert_allclose(out.values[:, 0], wanted, rtol=1e-4, atol=1e-4, equal_nan=True)
    assert out.columns == ("step",)


def test_the_published_windowed_gaussian(test_data: Path) -> None:
    found = test_data / "nab" / "published" / "windowedGaussian_machine_temperature_system_failure.csv"
    published = list(csv.DictReader(found.read_text().splitlines()))
    values = np.array([float(row["value"]) for row in published])[:, None]
    options = ZScore(size=6400, hop=100, tail=True)
    out = run(lambda: alone(step(options, ONE)), [rows(values, columns=("value",))])["out"]
    scores = [float(row["anomaly_score"]) for row in published]
    np.testing.assert_allclose(out.values[:, 0], scores, rtol=0, atol=1e-9)
