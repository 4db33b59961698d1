"""What steps cost, held against each other fairly."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeflow_agent.core.batch import Batch
from edgeflow_proto.event import Event
from edgeflow_proto.rows import Rows
from edgeflow_tools.engine import Engine
from edgeflow_tools.replay import costs
from edgeflow_tools.replay.player import Player, Replay
from tests.support.documents import graph_in_memory
from tests.tools.replay.test_replay import TEXT, player, rows


def test_who_is_given_rows_first_alternates() -> None:
    order: list[str] = []

    class Noting(Engine):
        def push(self, name: str, batch: Batch) -> list[Event]:
            order.append(self.digest)
            return super().push(name, batch)

        def __init__(self, digest: str) -> None:
            super().__init__(graph_in_memory(TEXT), Path(), digest, {})
            self.digest = digest

    both = [Player(Noting("own"), own=True), Player(Noting("candidate"), own=False)]
    made = [*Replay(both, "d").events(rows(first, [9], {"m": 0}) for first in range(4))]
    assert order == ["own", "candidate", "candidate", "own"] * 2
    assert [len(side) for side in made[0]] == [1, 1]  # the events stay those of who made them
    assert made[0][0][0].pipeline_digest == "own"
    assert [len(each.commits.calls) for each in both] == [4, 4]


def costs_of(
    calls: list[tuple[int, int]], commits: list[tuple[int, int]] | None = None
) -> dict[str, dict[str, float]]:
    one = player(TEXT)
    for row, ns in calls:
        one.engine.tally.ran("high", row, ns)
    for row, ns in commits or ():
        one.commits.ran(row, ns)
    return costs.cost(one)


def test_the_first_calls_are_left_out_and_one_slow_call_is_not_spread_over_all() -> None:
    first = [(10, 9_000_000)] * costs.FIRST
    found = costs_of([*first, *[(10, 20_000)] * 9, (10, 5_000_000)])["high"]
    assert found == {"rows": 10 * (costs.FIRST + 10), "us_per_row": 2.0, "p99_us": 5000.0}


@pytest.mark.parametrize(("count", "figure"), [(0, 0.0), (1, 900.0), (2, 2.0), (4, 2.0)])
def test_of_few_calls_half_are_left_out(count: int, figure: float) -> None:
    calls = [(10, 9_000_000)] * min(1, count) + [(10, 20_000)] * (count - 1)
    assert costs_of(calls)["high"]["us_per_row"] == figure


def test_so_it_is_of_all_steps_together_by_commit() -> None:
    commits = [(100, 9_000_000)] * costs.FIRST + [(100, 100_000)] * 5 + [(0, 50_000)]
    assert costs_of([], commits)["(all)"] == {"rows": 100 * (costs.FIRST + 5), "us_per_row": 1.0}


def test_rows_of_a_real_run_are_all_counted() -> None:
    one = player(TEXT)
    blocks: list[Rows] = [rows(first, [9, 0], {"m": 0}) for first in range(0, 20, 2)]
    for _ in Replay([one], "d").events(blocks):
        pass
    found = costs.cost(one)
    assert (found["high"]["rows"], found["(all)"]["rows"]) == (20, 20)
    assert found["(all)"]["us_per_row"] > 0
