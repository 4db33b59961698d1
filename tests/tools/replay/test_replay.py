"""Recorded rows run again: keys, gaps, holes, restarts, and pipelines that want other columns."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from edgeflow_proto.event import ROW_BITS, Clock, Event
from edgeflow_proto.rows import Rows
from edgeflow_tools.engine import Engine
from edgeflow_tools.replay.pace import Pace
from edgeflow_tools.replay.player import Player, Replay
from edgeflow_tools.terminal import Failure
from tests.support.documents import graph_in_memory

BASE = 1 << ROW_BITS
SECOND = 10**9
TEXT = """
edgeflow: 1
name: p
inputs: {a: {mqtt: "a/{m}", key: m, fields: [x, y], rate: 10 Hz}}
steps: {high: {from: a, threshold: {column: x, above: 5, clear: 1}}}
outputs:
  raised: {from: high.raised, event: raised}
  cleared: {from: high.cleared, event: cleared}
"""
WINDOWS = """
edgeflow: 1
name: p
inputs: {a: {mqtt: a, fields: [y, x], rate: 10 Hz}}
steps: {w: {from: a, window: 4 rows}, s: {from: w, stats: [max]}}
outputs: {seen: {from: s, event: seen}}
"""
TWO = """
edgeflow: 1
name: p
inputs: {a: {mqtt: a, fields: [x, y], rate: 1 Hz}, b: {mqtt: b, fields: [x, y], rate: 1 Hz}}
steps:
  w: {from: a, window: 4 rows}
  s: {from: w, stats: [max]}
  v: {from: b, window: 4 rows}
  t: {from: v, stats: [max]}
  both: {from: {one: a, other: b}, join: 3 s}
outputs:
  of_a: {from: s, event: of.a}
  of_b: {from: t, event: of.b}
  joined: {from: both, event: joined}
"""


def rows(
    first: int, xs: list[float], keys: dict[str, int] | None = None, ring: int = 1, **changes: Any
) -> Rows:
    """Return rows of x and -x, all of the first key."""
    count, base = len(xs), ring << ROW_BITS
    known: dict[str, Any] = {
        "input": "a", "first": base + first, "count": count, "shape": (2,), "dtype": "float32",
        "clock": Clock("boot", 0, "synchronised"), "columns": ("x", "y"), "digest": "d",
        "t": struct.pack(f"<{count}q", *((first + i) * SECOND for i in range(count))),
        "values": struct.pack(f"<{2 * count}f", *(v for x in xs for v in (x, -x))),
        "keys": tuple(keys or ()), "numbers": tuple((keys or {}).values()),
        "key": bytes(4 * count) if keys else b"", "written_ns": (first + count) * SECOND,
        "next": {"a": base + first + count},
    }  # fmt: skip
    return Rows(**(known | changes))


def player(text: str, *, own: bool = True) -> Player:
    from pathlib import Path

    return Player(Engine(graph_in_memory(text), Path(), "d", {}), own=own)


def run(replay: Replay, *blocks: Rows) -> list[Event]:
    """Return what the first player says."""
    return [event for made in replay.events(blocks) for event in made[0]]


def said(events: list[Event]) -> list[tuple[str, str | None, int]]:
    return [(event.output, event.subject, event.t // SECOND) for event in events]


def test_rows_keep_their_keys_numbers_and_times() -> None:
    replay = Replay([player(TEXT)], "d")
    events = run(replay, rows(0, [9, 0], {"left": 7}), rows(2, [9], {"right": 3}), rows(3, [0], {"right": 3}))
    assert said(events) == [
        ("raised", "left", 0),
        ("cleared", "left", 1),
        ("raised", "right", 2),
        ("cleared", "right", 3),
    ]
    assert events[3].spans == {"a": (BASE + 3, BASE + 3)}
    assert replay.known.holds(f"a:{BASE}-{BASE + 3}")
    assert not replay.known.holds(f"a:{BASE}-{BASE + 4}")
    assert not replay.known.holds("")


def test_behind_a_gap_or_a_hole_windows_begin_anew() -> None:
    replay = Replay([player(WINDOWS)], "d")
    events = run(
        replay, rows(0, [1, 2, 3, 4, 5, 6], gaps={5: "disconnect"}), rows(8, [1, 2, 3, 4]), rows(12, [5])
    )
    assert [event.spans["a"][0] - BASE for event in events] == [0, 8]
    assert (replay.holes, replay.restarts, replay.rows) == (1, 0, 11)
    assert events[0].data == {"y.max": -1.0, "x.max": 4.0}
    assert not replay.known.holds(f"a:{BASE + 8}-{BASE + 11}")
    assert replay.ran.holds(f"a:{BASE + 8}-{BASE + 11}")
    assert not replay.ran.holds(f"a:{BASE + 5}-{BASE + 8}")
    assert replay.ran.reach(f"a:{BASE + 5}-{BASE + 8}")
    assert not replay.ran.reach(f"a:{BASE + 5}-{BASE + 6}")
    assert not replay.ran.reach(f"b:{BASE}-{BASE}")


@pytest.mark.parametrize("at", [0, 5, 11])
def test_a_row_that_the_device_took_out_is_left_out_and_windows_begin_anew_behind_it(at: int) -> None:
    xs = [float(i) for i in range(12)]
    xs[at] = 1000
    replay = Replay([player(WINDOWS)], "d")
    events = run(replay, rows(0, xs, gaps={at: "skipped"}), rows(12, [1, 2, 3, 4]))
    behind = range(at + 1, 16)
    expected = [*range(0, at - 3, 4), *behind[: len(behind) - 3 : 4]]
    assert [event.spans["a"][0] - BASE for event in events] == expected
    assert all(event.data["x.max"] < 1000 for event in events)
    assert (replay.skipped, replay.rows, replay.holes) == (1, 16, 0)
    assert replay.known.holds(f"a:{BASE}-{BASE + 15}")


def commit(first: int, count: int, *, rings: tuple[int, int] = (1, 2), **changes: Any) -> list[Rows]:
    """Return rows of two inputs, each from a ring of its own, as they are written together."""
    following = {name: (ring << ROW_BITS) + first + count for name, ring in zip("ab", rings, strict=True)}
    return [
        rows(first, [float(first + i) for i in range(count)], None, ring, input=name, next=following,
             **(changes if name == "b" else {}))
        for name, ring in zip("ab", rings, strict=True)
    ]  # fmt: skip


def counts(events: list[Event]) -> dict[str, int]:
    return {name: sum(event.output == name for event in events) for name in ("of_a", "of_b", "joined")}


def test_each_input_has_rings_of_its_own() -> None:
    replay = Replay([player(TWO)], "d")
    events = run(replay, *(block for first in range(0, 20, 2) for block in commit(first, 2)))
    assert counts(events) == {"of_a": 5, "of_b": 5, "joined": 20}
    assert (replay.restarts, replay.holes, replay.rows) == (0, 0, 40)
    assert replay.known.holds(f"a:{BASE}-{BASE + 15} b:{2 * BASE}-{2 * BASE + 15}")


def test_a_restart_is_one_whatever_the_inputs_and_all_of_them_begin_anew() -> None:
    replay = Replay([player(TWO)], "d")
    later = commit(2, 6, rings=(3, 4))
    events = run(replay, *commit(0, 6), *commit(0, 2, rings=(3, 4)), *later)
    assert counts(events) == {"of_a": 3, "of_b": 3, "joined": 14}
    assert (replay.restarts, replay.holes) == (1, 0)
    assert not replay.known.holds(f"b:{4 * BASE}-{4 * BASE + 3}")
    slow = Replay([player(TWO)], "d")  # nothing came of one input for a while
    run(slow, *commit(0, 6), commit(0, 2, rings=(3, 4))[0], later[0], later[1])
    assert (slow.restarts, slow.holes) == (1, 0)


def test_a_hole_of_one_input_leaves_the_windows_of_the_other() -> None:
    replay = Replay([player(TWO)], "d")
    events = run(replay, *commit(0, 2), commit(2, 2)[0], *commit(4, 4))
    assert counts(events) | {"joined": 0} == {"of_a": 2, "of_b": 1, "joined": 0}
    assert (replay.restarts, replay.holes) == (0, 1)
    late = Replay([player(TWO)], "d")
    run(late, *commit(0, 2)[:1], *commit(2, 2))
    assert not late.known.holds(f"a:{BASE + 2}-{BASE + 3}")  # of the other, two rows are missing before


def test_from_a_moment_on_both_inputs_go_on_where_the_state_was_told() -> None:
    first = player(TWO)
    run(Replay([first], "d"), *commit(0, 6))
    told = commit(0, 6, state=first.engine.runtime.state())[1]
    replay = Replay([player(TWO)], "d", since_ns=8 * SECOND)
    events = run(replay, told, *commit(6, 2), *commit(8, 4))
    assert [said([each]) for each in events if each.output == "of_b"] == [
        [("of_b", None, 7)], [("of_b", None, 11)],
    ]  # fmt: skip
    assert (replay.restarts, replay.holes, replay.rows) == (0, 0, 12)
    assert replay.known.holds(f"a:{BASE + 6}-{BASE + 7} b:{2 * BASE + 6}-{2 * BASE + 7}")


def test_what_waits_for_time_is_known_once_time_has_passed() -> None:
    replay = Replay([player(TWO)], "d")
    events = run(replay, *commit(0, 2), *commit(2, 2))
    assert counts(events)["joined"] == 4  # the last are brought about by time alone
    assert replay.known.holds(f"a:{BASE}-{BASE + 1}")
    assert not replay.known.holds(f"a:{BASE + 2}-{BASE + 2}")


def test_what_the_steps_remembered_is_taken_up_where_it_is_told() -> None:
    first = player(TEXT)
    run(Replay([first], "d"), rows(0, [9], {"left": 0}))
    state = first.engine.runtime.state()
    blocks = [
        rows(0, [9], {"left": 0}),
        rows(10, [3], {"left": 0}, 2, state=state),
        rows(11, [0], {"left": 0}, 2),
    ]
    replay = Replay([player(TEXT)], "d")
    assert [event.output for event in run(replay, *blocks)] == ["raised", "cleared"]
    assert replay.restarts == 1
    assert replay.known.holds(f"a:{(2 << ROW_BITS) + 11}-{(2 << ROW_BITS) + 11}")
    assert not replay.known.holds(f"a:{(2 << ROW_BITS) + 10}-{(2 << ROW_BITS) + 10}")
    warm = Replay([player(TEXT)], "d", since_ns=5 * SECOND)
    told = rows(0, [9], {"left": 0}, state=state)
    assert [event.output for event in run(warm, told, rows(5, [0], {"left": 0}))] == ["cleared"]
    assert warm.rows == 1


def test_a_state_of_another_version_is_told() -> None:
    with pytest.raises(Failure, match="cannot be taken up"):
        run(Replay([player(TEXT)], "d"), rows(3, [9], {"left": 0}, state=b"other"))


def test_rows_of_another_version_of_the_pipeline_are_left_out() -> None:
    replay = Replay([player(TEXT)], "d")
    assert run(replay, rows(0, [9, 9], {"left": 0}, digest="old")) == []
    assert (replay.rows, replay.other) == (0, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"columns": ("x", "z")}, "no column 'y' is recorded"),
        ({"columns": (), "shape": (1,), "values": bytes(4)}, "rows of shape"),
        ({"dtype": "float64", "values": bytes(16)}, ""),
    ],
)
def test_a_candidate_must_take_the_rows_that_are_recorded(changes: dict[str, Any], words: str) -> None:
    replay = Replay([player(TEXT), player(WINDOWS, own=False)], "d")
    if not words:
        assert run(replay, rows(0, [9], {"left": 0}, **changes)) == []
        return
    with pytest.raises(Failure, match=words):
        run(replay, rows(0, [9], {"left": 0}, **changes))


class Still:
    """A clock that only sleeping moves on, in place of the module `time`."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Still:
    made = Still()
    monkeypatch.setattr("edgeflow_tools.replay.pace.time", made)
    return made


def moments(clock: Still, blocks: list[Rows], since: int | None = None) -> list[float]:
    """Return after how many seconds each commit was run, in real time."""
    replay = Replay([player(TEXT)], "d", since)
    return [round(clock.now - 100, 6) for _ in replay.events(blocks, Pace())][:-1]


def test_in_real_time_as_much_passes_as_did_in_each_boot(clock: Still) -> None:
    later = Clock("later", 0, "synchronised")
    blocks = [
        rows(0, [0], written_ns=50 * SECOND),
        rows(1, [0], written_ns=50 * SECOND + SECOND // 5),
        rows(0, [0], ring=2, clock=later, written_ns=SECOND),
        rows(1, [0], ring=2, clock=later, written_ns=SECOND + SECOND // 5),
    ]
    assert moments(clock, blocks) == [0, 0.2, 0.2, 0.4]


def test_what_leads_up_is_not_waited_for(clock: Still) -> None:
    blocks = [rows(first, [0]) for first in range(10)]
    assert moments(clock, blocks, since=8 * SECOND) == [0] * 7 + [0, 1, 2]


def test_a_long_pause_is_passed_over_where_rows_are_missing(
    clock: Still, capsys: pytest.CaptureFixture[str]
) -> None:
    assert moments(clock, [rows(0, [0]), rows(1, [0]), rows(7200, [0]), rows(7201, [0])]) == [0, 1, 1, 2]
    assert capsys.readouterr().err == "nothing is recorded for 1 h 59 min: passed over\n"
    clock.now = 100
    slow = [rows(0, [0]), rows(1, [0], written_ns=60 * SECOND)]
    assert moments(clock, slow) == [0, 59]
    assert capsys.readouterr().err == "the next rows come in 59 s\n"


def test_nothing_is_waited_for_once_it_is_stopped(clock: Still) -> None:
    replay = Replay([player(TEXT)], "d")
    blocks = [rows(first, [0]) for first in range(10)]
    for _ in replay.events(blocks, Pace(lambda: replay.rows >= 3)):
        pass
    assert clock.now == pytest.approx(102)


def test_rows_that_led_up_are_told_apart() -> None:
    replay = Replay([player(TEXT)], "d", 8 * SECOND)
    run(replay, *(rows(first, [0]) for first in range(10)))
    assert (replay.rows, replay.leading) == (10, 7)
    assert replay.led.reach(f"a:{BASE + 6}-{BASE + 6}")
    assert not replay.led.reach(f"a:{BASE + 7}-{BASE + 7}")
