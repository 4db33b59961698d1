"""What a candidate can take up of what a pipeline remembered, and what its events are worth until then."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from edgeflow_proto.rows import Rows
from edgeflow_tools.cases import Tolerance
from edgeflow_tools.engine import Engine
from edgeflow_tools.replay.memory import Memory, extents, fitting
from edgeflow_tools.replay.player import Player, Replay
from edgeflow_tools.replay.replayed import Candidate
from tests.support.documents import graph_in_memory
from tests.tools.replay.test_replay import SECOND, player, rows
from tests.tools.replay.test_replayed import kinds

TEXT = """
edgeflow: 1
name: p
params: {limit: 5, size: 100}
inputs: {a: {mqtt: a, fields: [x, y], rate: 1 Hz}}
steps:
  usual: {from: a, zscore: {column: x, size: $size}}
  alarm: {from: a, threshold: {column: x, above: $limit, clear: 1}}
outputs:
  score: {from: usual, event: score}
  raised: {from: alarm.raised, event: raised}
  cleared: {from: alarm.cleared, event: cleared}
"""


def value(row: int) -> float:
    """Return what wanders, and is high of every hundred rows from the 30th to the 69th."""
    return (row * 7919 % 101) / 101 + (8 if 30 <= row % 100 < 70 else 0)


def blocks(state_at: int = -1, ring: int = 1, upto: int = 400) -> list[Rows]:
    """Return commits of ten rows as the pipeline recorded them, one with what its steps remembered."""
    own, found = player(TEXT), list[Rows]()
    for first in range(0, upto, 10):
        block = rows(first, [value(row) for row in range(first, first + 10)], None, ring)
        own.push(block)
        state = own.engine.runtime.state() if first == state_at else b""
        found.append(rows(first, [value(row) for row in range(first, first + 10)], None, ring, state=state))
    return found


def held(candidate: str, found: list[Rows], since: int) -> tuple[dict[str, int], Memory | None]:
    beside = player(candidate, own=False)
    replay = Replay([player(TEXT), beside], "d", since * SECOND)
    against = Candidate(replay, Tolerance(), SECOND)
    for made in replay.events(found):
        against.take(*made)
    return kinds(against.against()), beside.memory


def test_the_same_pipeline_remembers_the_same() -> None:
    found = blocks(150)[15:]  # as a recording is read from a moment on, in the middle of an alarm
    counted, memory = held(TEXT, found, 161)
    assert memory is not None
    assert memory.without == ()
    assert counted.keys() == {"same"}


def test_what_fits_is_taken_up_and_the_rest_is_open_until_it_has_filled() -> None:
    found = blocks(150)[15:]
    counted, memory = held(TEXT.replace("size: 100}", "size: 50}"), found, 161)
    assert memory is not None
    assert memory.without == ("usual",)
    assert memory.fits == {"alarm"}
    assert 50 <= counted["open"] <= 71  # rows until its own window is full, in whole commits
    assert counted["changed"] > 100  # it is another score
    assert counted["same"] >= 4  # all that comes of the alarm


def test_a_latch_is_known_once_it_has_turned() -> None:
    counted, memory = held(TEXT.replace("limit: 5", "limit: 4"), blocks(150)[15:], 161)
    assert memory is not None
    assert memory.without == ("alarm",)
    assert counted.keys() == {"same", "open"}
    assert 1 <= counted["open"] <= 2  # it was raised for one, and is raised anew for the other
    higher, _ = held(TEXT.replace("limit: 5", "limit: 20"), blocks(150)[15:], 161)
    assert higher["lost"] >= 2


def test_where_nothing_was_remembered_both_begin_alike() -> None:
    counted, memory = held(TEXT.replace("size: 100}", "size: 50}"), blocks()[15:], 160)
    assert memory is None
    assert "open" not in counted


def test_behind_a_restart_it_has_again_what_fits() -> None:
    found = [*blocks(), *blocks(50, ring=2)]
    counted, memory = held(TEXT, found, 0)
    assert memory is not None
    assert counted.keys() == {"same"}
    counted, memory = held(TEXT.replace("size: 100}", "size: 50}"), found, 0)
    assert memory is not None
    assert memory.without == ("usual",)
    assert counted["open"] >= 50


@pytest.mark.parametrize(
    ("other", "fits"),
    [
        (TEXT, ["usual", "alarm"]),
        (TEXT.replace("rate: 1 Hz", "rate: 1 Hz, record: all"), ["usual", "alarm"]),
        (TEXT.replace("rate: 1 Hz", "rate: 2 Hz"), []),
        (TEXT.replace("{from: a, threshold: {column: x,", "{from: usual, threshold: {"), ["usual"]),
        (TEXT.replace("usual", "unusual"), ["alarm"]),
    ],
)  # fmt: skip
def test_a_step_is_the_same_with_all_that_it_reads(other: str, fits: list[str]) -> None:
    assert fitting(player(other).engine, player(TEXT).engine) == fits


def test_a_function_is_the_same_with_all_the_code_beside_it(tmp_path: Path) -> None:
    text = TEXT.replace("zscore: {column: x, size: $size}", "python: own.f").replace(", size: 100", "")
    for name, more in (("one", ""), ("same", ""), ("other", "# changed\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.py").write_text(f"def f(rows):\n    return rows[:, :1]\n{more}")
    one, same, other = (_engine(tmp_path / name, text) for name in ("one", "same", "other"))
    assert fitting(same, one) == ["usual", "alarm"]
    assert fitting(other, one) == ["alarm"]


def _engine(folder: Path, text: str) -> Engine:
    from edgeflow_tools.pipelines import checked

    (folder / "p.yaml").write_text(text)
    graph = checked(folder / "p.yaml").graph
    assert graph is not None
    return Engine(graph, folder, "d", {})


def test_how_far_back_steps_remember() -> None:
    text = """
edgeflow: 1
name: p
inputs: {a: {mqtt: a, fields: [x, y], rate: 10 Hz}}
steps:
  w: {from: a, window: 2 s}
  s: {from: w, stats: [max]}
  e: {from: a, ewma: 3 rows}
  f: {from: a, ewma: {alpha: 0.5}}
  d: {from: a, dedupe: 2 s}
  i: {from: a, filter_iir: {lowpass: 1 Hz}}
outputs:
  o: {from: s, event: o}
  e_: {from: e, event: e}
  f_: {from: f, event: f}
  d_: {from: d, event: d}
  i_: {from: i, event: i}
"""
    found = extents(graph_in_memory(text), "wefdi")
    assert [found[name].rows for name in "weid"] == [20, 60, math.inf, 0]
    assert found["f"].rows == pytest.approx(20)
    assert found["d"].ns == 2 * SECOND


def test_a_player_beside_it_takes_up_no_state_of_another_pipeline() -> None:
    beside = Player(player(TEXT).engine, own=False)
    with pytest.raises(ValueError, match="not a state"):
        beside.restore(b"other", player(TEXT), 0)
    empty = player(TEXT.replace("usual", "unusual").replace("alarm", "alert")).engine.runtime.state()
    with pytest.raises(ValueError, match="has not these steps"):
        beside.restore(empty, player(TEXT), 0)
