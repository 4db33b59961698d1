"""What is told of a set-up: options as resolved, once more from what was told, and never too much."""

from __future__ import annotations

import msgspec
import pytest

from edgeflow_proto.pipeline.load import load
from edgeflow_proto.setup import MAX_OPTIONS, Setup, entries, setup_from
from tests.support.documents import graph_in_memory

TEXT = """
edgeflow: 1
name: watch
params: {limit: 0.8, silent: 5}
inputs:
  accel: {mqtt: "plant/{machine}/accel", key: machine, fields: [x, y], rate: 1 kHz, buffer: 60 s,
          decode: {json: {samples: data}}}
steps:
  window: {from: accel, window: {size: 256, hop: 64}}
  features: {from: window, stats: [rms]}
  high: {from: features, filter: x.rms > $limit}
  alarm: {from: features, threshold: {column: x.rms, above: $limit, for: 1.5 s}, on_error: stop}
outputs:
  raised: {from: alarm.raised, event: {type: watch.raised, severity: warning}}
  above: {from: high, event: {}}
"""


def told(text: str, **params: object) -> dict[str, dict[str, object]]:
    """Return the entries of a pipeline as plain data, by name."""
    graph = graph_in_memory(text, params)
    source, _ = load(text, "pipeline.yaml")
    assert source is not None
    return {entry.name: msgspec.to_builtins(entry) for entry in entries(graph, source.data)}


def test_entries_say_their_options_with_defaults_units_and_this_devices_parameters() -> None:
    found = told(TEXT, limit=0.9)
    assert [*found] == ["accel", "window", "features", "high", "alarm", "raised", "above"]
    accel = found["accel"]
    assert (accel["role"], accel["kind"], accel["columns"], accel["dtype"]) == (
        "input", "mqtt", ("x", "y"), "float32",
    )  # fmt: skip
    options = accel["options"]
    assert isinstance(options, dict)
    assert options["rate"] == "1 kHz"
    assert options["buffer"] == "1 min"
    assert options["decode"] == {"json": {"samples": "data"}}
    assert found["window"]["options"] == {"size": "256 rows", "hop": "64 rows", "on_error": "drop"}
    alarm = found["alarm"]
    assert alarm["options"] == {"column": "x.rms", "above": 0.9, "for": "1500 ms", "on_error": "stop"}
    assert (alarm["sources"], alarm["params"]) == ({"features": "features"}, ("limit",))
    assert (found["high"]["params"], found["high"]["options"]) == (
        ("limit",), {"where": "x.rms > 0.9", "on_error": "drop"},
    )  # fmt: skip
    assert found["raised"]["sources"] == {"alarm.raised": "alarm.raised"}


def test_a_set_up_comes_back_from_what_an_event_carries_and_the_same_one_has_the_same_fingerprint() -> None:
    graph = graph_in_memory(TEXT)
    first = Setup(digest="d", boot_id="b", params={"limit": 0.8}, entries=entries(graph))
    again = setup_from(msgspec.json.decode(msgspec.json.encode(first.to_data())))
    assert again == first
    assert again.fingerprint == first.fingerprint
    assert msgspec.structs.replace(first, boot_id="c").fingerprint != first.fingerprint
    with pytest.raises(ValueError, match="not a set-up"):
        setup_from({"digest": 5, "entries": "none"})


def test_options_too_large_to_be_told_are_left_out_and_counted() -> None:
    wide = ", ".join(f"column_{number}_of_a_wide_sensor" for number in range(3000))
    found = told(f"""
edgeflow: 1
name: wide
inputs:
  plc: {{mqtt: plc, fields: [{wide}]}}
outputs:
  all: {{from: plc, event: {{type: wide.all}}}}
""")
    assert "options" not in found["plc"]
    assert isinstance(found["plc"]["omitted"], int)
    assert found["plc"]["omitted"] > MAX_OPTIONS
    options = found["all"]["options"]
    assert isinstance(options, dict)
    assert options["type"] == "wide.all"
