"""`deadband`, `change`, `throttle`, `dedupe` and `route` against what one would write down row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.core.batch import Batch
from edgeflow_proto.pipeline.kinds.base import StepKind
from edgeflow_proto.pipeline.kinds.steps.routing import Change, Deadband, Dedupe, Route, Throttle
from edgeflow_proto.pipeline.units import Duration
from tests.support.steps import (
    FIRST,
    PERIOD_NS,
    alone,
    assert_indifferent,
    keyed,
    pipeline,
    rows,
    sizes,
    step,
)

MS = PERIOD_NS
few = st.sampled_from([0.0, 1.0, 2.0, 3.0, np.nan])
columns = st.none() | st.just(["y"])


def passed(options: StepKind, batch: Batch, sizes: list[int]) -> list[int]:
    out = assert_indifferent(lambda: alone(step(options)), batch, sizes).get("out")
    return [] if out is None else (out.span[:, 0] - FIRST).tolist()


def kept(batch: Batch, columns: list[str] | None) -> list[tuple[int, int, tuple[float, ...]]]:
    """Return key, time and values looked at of each row."""
    values = (
        batch.values if columns is None else batch.values[:, [("x", "y").index(name) for name in columns]]
    )
    return [(int(key), int(t), tuple(row)) for key, t, row in
            zip(batch.key, batch.t, values.astype(float).tolist(), strict=True)]  # fmt: skip


def unlike(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return any(a != b and not (np.isnan(a) and np.isnan(b)) for a, b in zip(one, other, strict=True))


@given(keyed(few), sizes, st.sampled_from([0.0, 1.0]), columns, st.none() | st.integers(1, 6), st.booleans())
def test_deadband(
    batch: Batch, sizes: list[int], band: float, columns: list[str] | None, silence: int | None, share: bool
) -> None:
    longest = None if silence is None else Duration(silence * MS)
    options = Deadband(absolute=None if share else band, percent=band * 100 if share else None,
                       max_silence=longest, columns=columns)  # fmt: skip
    last: dict[int, tuple[int, tuple[float, ...]]] = {}
    wanted = []
    for row, (key, t, values) in enumerate(kept(batch, columns)):
        if key in last:
            since, before = last[key]
            out = any(abs(a - b) > (band * abs(b) if share else band) or np.isnan(a) != np.isnan(b)
                      for a, b in zip(values, before, strict=True))  # fmt: skip
            if not out and (longest is None or t - since < longest):
                continue
        last[key] = t, values
        wanted.append(row)
    assert passed(options, batch, sizes) == wanted


@given(keyed(few), sizes, columns)
def test_change(batch: Batch, sizes: list[int], columns: list[str] | None) -> None:
    last: dict[int, tuple[float, ...]] = {}
    wanted = []
    for row, (key, _, values) in enumerate(kept(batch, columns)):
        if key not in last or unlike(values, last[key]):
            wanted.append(row)
        last[key] = values
    assert passed(Change(columns=columns), batch, sizes) == wanted


@given(keyed(few), sizes, st.integers(1, 3), st.integers(1, 8))
def test_throttle(batch: Batch, sizes: list[int], most: int, per: int) -> None:
    times: dict[int, list[int]] = {}
    wanted = []
    for row, (key, t, _) in enumerate(kept(batch, None)):
        recent = [time for time in times.get(key, []) if t - time < per * MS]
        if len(recent) < most:
            wanted.append(row)
            times[key] = [*recent, t]
    assert passed(Throttle(rows=most, per=Duration(per * MS)), batch, sizes) == wanted


@given(keyed(few), sizes, columns, st.integers(1, 9))
def test_dedupe(batch: Batch, sizes: list[int], columns: list[str] | None, within: int) -> None:
    times: dict[tuple[int, str], int] = {}
    wanted = []
    for row, (key, t, values) in enumerate(kept(batch, columns)):
        name = (key, str(values))
        if name not in times or t - times[name] >= within * MS:
            wanted.append(row)
            times[name] = t
    assert passed(Dedupe(within=Duration(within * MS), columns=columns), batch, sizes) == wanted


def test_dedupe_remembers_so_many() -> None:
    options = Dedupe(within=Duration(10**9), most=2)
    values = np.float32([[1, 0], [2, 0], [3, 0], [2, 0], [1, 0]])
    assert passed(options, rows(values), [2]) == [0, 1, 2, 4]


TEXT = """
inputs:
  in: {mqtt: "plant/{machine}/accel", key: machine, fields: [x, y]}
steps:
  way: {from: in, route: {to: {high: x > 1, low: "x < 1 and y > 0"}}}
outputs:
  high: {from: way.high, event: t.high}
  low: {from: way.low, event: t.low}
  else: {from: way.else, event: t.else}
"""


@given(batch=keyed(few), sizes=sizes)
def test_each_row_goes_one_way(batch: Batch, sizes: list[int]) -> None:
    came = assert_indifferent(lambda: pipeline(Path("nowhere"), TEXT), batch, sizes)
    x, y = batch.values.T
    high, low = x > 1, (x < 1) & (y > 0)
    for port, mine in (("high", high), ("low", low), ("else", ~high & ~low)):
        found = (came[port].span[:, 0] - FIRST).tolist() if port in came else []
        assert found == np.flatnonzero(mine).tolist()


def test_the_first_port_wins() -> None:
    options = Route(to={"a": "x > 0", "b": "x > 1"})
    assert set(step(options)(rows(np.float32([[2, 0]])))) == {"a"}
