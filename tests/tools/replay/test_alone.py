"""A candidate over rows of several versions: beside the one that runs, alone over the others."""

from __future__ import annotations

from edgeflow_proto.event import Event
from edgeflow_proto.rows import Rows
from edgeflow_tools.replay.alone import Alone
from edgeflow_tools.replay.player import Replay
from tests.tools.replay.test_replay import SECOND, TEXT, TWO, commit, player, rows


def run(
    blocks: list[Rows], text: str = TEXT, since: int | None = None
) -> tuple[Replay, Alone, list[list[Event]]]:
    """Return what comes of blocks: of both sides, then of the candidate alone."""
    own, candidate, said = player(text), player(text, own=False), list[Event]()
    alone = Alone(candidate, since, said.extend)
    replay = Replay([own, candidate], "d", since, alone)
    made = [*replay.events(blocks)]
    return replay, alone, [[event for each in made for event in each[side]] for side in (0, 1)] + [said]


def block(first: int, x: float, digest: str = "d", ring: int = 1) -> Rows:
    return rows(first, [x], {"m": 0}, ring, digest=digest)


def outputs(events: list[Event]) -> list[str]:
    return [event.output for event in events]


def test_each_version_is_run_from_where_it_began() -> None:
    blocks = [block(0, 9, "old"), block(1, 9, "old"), block(2, 9), block(3, 0), block(4, 9)]
    replay, alone, (own, candidate, said) = run(blocks)
    assert outputs(own) == outputs(candidate) == ["raised", "cleared", "raised"]
    assert outputs(said) == ["raised"]
    assert (replay.rows, replay.other, alone.to_json()["rows"]) == (3, 2, 2)


def test_a_version_that_comes_back_finds_both_alike() -> None:
    blocks = [
        block(0, 9),
        block(0, 9, "other", 2),
        block(1, 9, "other", 2),
        block(0, 9, ring=3),
        block(1, 0, ring=3),
    ]
    _, _, (own, candidate, said) = run(blocks)
    assert outputs(own) == outputs(candidate) == ["raised", "raised", "cleared"]
    assert outputs(said) == ["raised"]


def test_what_waits_for_time_comes_before_the_next_version() -> None:
    old = [block for first in range(0, 4, 2) for block in commit(first, 2)]
    old = [
        Rows(**{name: getattr(each, name) for name in each.__struct_fields__} | {"digest": "old"})
        for each in old
    ]
    _, alone, (own, candidate, said) = run([*old, *commit(4, 2)], TWO)
    assert outputs(said).count("joined") == alone.outputs["joined"] == 4
    assert outputs(own).count("joined") == outputs(candidate).count("joined") == 2


def test_rows_that_only_lead_up_say_nothing() -> None:
    _, alone, (_, _, said) = run(
        [block(0, 9, "old"), block(1, 0, "old"), block(2, 9, "old")], since=3 * SECOND
    )
    assert outputs(said) == ["raised"]
    assert alone.to_json() == {"rows": 3, "leading_rows": 2, "left_out": 0, "outputs": {"raised": 1}}
