"""What pages and the command line show of a trace."""

from __future__ import annotations

import msgspec
import pytest

from edgeflow_proto.event import ROW_BITS
from edgeflow_proto.recorded import Recorded
from edgeflow_proto.trace import Json, trace
from edgeflow_proto.trace_words import sections, set_up
from tests.support.traced import decided, journal, lost, told


def shown(
    event: Json, told: Json | None, around: list[Json], rows: dict[str, Recorded] | None = None
) -> dict[str, tuple[list[tuple[str, ...]], str]]:
    """Return rows and words of each section by its title."""
    found = sections(msgspec.structs.replace(trace(event, told, around), rows=rows or {}))
    return {section.title: ([*section.rows], section.words) for section in found}


def test_all_of_a_trace_is_said() -> None:
    start, event, gap = journal(told(), decided(), lost(2))
    found = shown(event, start, [gap])
    titles = ["Event", "Pipeline", "Rows behind it", "Path", "Files", "Versions", "Lost nearby"]
    assert [*found] == titles
    assert ("score", "0.95") in found["Event"][0]
    assert ("parameter limit", "0.9") in found["Pipeline"][0]
    assert found["Rows behind it"][0] == [
        ("accel", "256 rows, those of press-7 among them: 768 to 1023 of ring 3", "x, y, z", "not recorded")
    ]
    alarm = (
        "alarm",
        "threshold",
        "from score",
        "above=0.9 for=1 row column=score on_error=drop [$limit=0.9]",
    )
    assert alarm in found["Path"][0]
    assert ("bearing.onnx", "e" * 64, "model of score, executed by cpu") in found["Files"][0]
    assert found["Lost nearby"][0] == [(gap["time"], "edgeflow.gap", "input=accel reason=broker")]


def test_a_set_up_is_told_in_a_line() -> None:
    (start,) = journal(told())
    words = "2 inputs, 5 steps, 2 outputs; limit=0.9; bearing.onnx; digest dddddddddddd"
    assert set_up(start["data"]) == words


def test_what_is_not_known_and_what_there_is_none_of_is_said_too() -> None:
    start, event = journal(told(), decided())
    assert "not stored" in shown(event, None, [])["Pipeline"][1]
    assert shown(event, start, [])["Lost nearby"] == ([], "Nothing.")
    assert shown(start, start, [])["Rows behind it"] == ([], "It came from no rows.")
    event |= {"timeuncertaintyns": "1500000000", "inputspan": f"heat:{(2 << ROW_BITS) + 1}-{3 << ROW_BITS}"}
    found = shown(event, start, [])
    assert ("time", f"{event['time']}, clock synchronised ± 1.5 s") in found["Event"][0]
    assert found["Rows behind it"][0] == [("heat", "row 1 of ring 2 to row 0 of ring 3", "degrees", "")]


@pytest.mark.parametrize(
    ("record", "found", "words"),
    [
        ("off", None, "not recorded"),
        ("all", None, "recorded on the device, which can be asked for them"),
        ("all", Recorded(), "not on the disk yet, or not any more"),
        ("all", Recorded(count=256, own=100), "all 256 recorded"),
        ({"before": "1 s"}, Recorded(count=200, own=9), "200 of them recorded, 9 of press-7"),
        ("all", Recorded(count=100, whole=False), "the first 100 recorded, or more"),
    ],
)
def test_what_is_recorded_of_the_rows_is_said(record: object, found: Recorded | None, words: str) -> None:
    start, event = journal(told(), decided())
    entry = next(entry for entry in start["data"]["entries"] if entry["name"] == "accel")
    entry["options"]["record"] = record
    rows = shown(event, start, [], {} if found is None else {"accel": found})["Rows behind it"][0]
    assert rows[0][-1] == words


def test_the_rows_of_a_key_are_counted_where_all_are_recorded() -> None:
    start, event = journal(told(), decided())
    words = shown(event, start, [], {"accel": Recorded(count=256, own=100)})["Rows behind it"][0][0][1]
    assert words == "256 rows, 100 of press-7: 768 to 1023 of ring 3"
    unkeyed = {name: value for name, value in event.items() if name != "subject"}
    words = shown(unkeyed, start, [], {"accel": Recorded(count=256)})["Rows behind it"][0][0][1]
    assert words == "256 rows: 768 to 1023 of ring 3"
