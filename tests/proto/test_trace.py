"""The trace of an event, from events alone."""

from __future__ import annotations

import msgspec
import pytest

from edgeflow_proto.event import ROW_BITS, Clock
from edgeflow_proto.pipeline.load import load
from edgeflow_proto.setup import entries
from edgeflow_proto.trace import MAX_LOSSES, NEAR_EVENTS, Span, trace
from tests.support.documents import graph_in_memory
from tests.support.traced import DIGEST, FUNCTION, MODEL, decided, journal, lost, told


def test_a_trace_leads_from_the_inputs_to_the_event_with_all_that_bears_on_it() -> None:
    start, event = journal(told(), decided())
    found = trace(event, start, [])
    assert (found.device, found.pipeline, found.missing) == ("dev-1", "watch", "")
    assert [(step.name, step.role, step.kind) for step in found.path] == [
        ("accel", "input", "mqtt"), ("window", "step", "window"), ("features", "step", "python"),
        ("score", "step", "model"), ("alarm", "step", "threshold"), ("raised", "output", "event"),
    ]  # fmt: skip
    by_name = {step.name: step for step in found.path}
    assert by_name["window"].options["size"] == "256 rows"
    assert (by_name["alarm"].params, by_name["alarm"].options["above"]) == ({"limit": 0.9}, 0.9)
    assert by_name["features"].function == ("features.py", FUNCTION)
    model = by_name["score"].model
    assert model is not None
    assert (model.file, model.digest, model.provider) == ("bearing.onnx", MODEL, "cpu")
    assert found.spans == {"accel": Span(generation=3, first=768, last=1023, count=256, key="press-7")}
    assert found.columns == {"accel": ("x", "y", "z")}
    assert (found.digest, found.models, found.functions) == (
        DIGEST, {"score": MODEL}, {"features.py": FUNCTION},
    )  # fmt: skip
    assert (found.params, found.settings) == ({"limit": 0.9}, {"commit": "200 ms"})
    assert found.versions["onnxruntime"] == "1.32.0"
    assert found.told is not None
    assert found.told.id == start["id"]
    assert msgspec.json.decode(msgspec.json.encode(found.to_json()))["path"][3]["model"]["provider"] == "cpu"


def test_without_its_set_up_an_event_tells_what_it_carries_and_why_there_is_no_more() -> None:
    start, event = journal(told(), decided())
    found = trace(event, None, [])
    assert "not stored" in found.missing
    assert (found.path, found.told, found.digest, found.models) == ([], None, DIGEST, {"score": MODEL})
    assert found.spans["accel"].count == 256
    other = trace(event | {"pipelinedigest": "a" * 64}, start, [])
    assert "is another's" in other.missing
    rebooted = trace(event | {"bootid": "boot-2"}, start, [])
    assert "is another's" in rebooted.missing
    unread = trace(event, start | {"data": {"digest": 1}}, [])
    assert unread.missing.startswith("j1-1: not a set-up")
    own = trace({name: value for name, value in event.items() if name != "pipelinedigest"}, None, [])
    assert "the agent said this itself" in own.missing


def test_what_the_agent_tells_of_a_step_or_input_leads_to_that() -> None:
    start, gap, failed = journal(told(), lost(1), lost(2, "step.failed", step="features", error="ValueError"))
    assert [step.name for step in trace(gap, start, []).path] == ["accel"]
    assert [step.name for step in trace(failed, start, []).path] == ["accel", "window", "features"]
    assert len(trace(start, start, []).path) == 9


KEYED = """
edgeflow: 1
name: watch
inputs:
  accel: {mqtt: "plant/{machine}/accel", key: machine, fields: [x]}
  heat: {mqtt: plant/heat, fields: [degrees]}
steps:
  rows: {from: accel, batch: 64}
  mixed: {from: rows, stats: [mean]}
  cool: {from: heat, batch: 1}
  cooler: {from: cool, stats: [max]}
  both: {from: {a: accel, b: cooler}, join: {tolerance: 1 s}}
outputs:
  each: {from: accel, event: {type: each}}
  mixture: {from: mixed, event: {type: mixture}}
  joint: {from: both, event: {type: joint}}
"""


@pytest.mark.parametrize(
    ("output", "accel"), [("each", "press-7"), ("mixture", None), ("joint", "press-7"), ("other", None)]
)
def test_the_key_of_an_event_is_that_of_its_rows_unless_a_step_mixed_keys(
    output: str, accel: str | None
) -> None:
    start, event = journal(told(), decided(output=output))
    source, _ = load(KEYED, "pipeline.yaml")
    assert source is not None
    start["data"]["entries"] = msgspec.to_builtins(entries(graph_in_memory(KEYED), source.data))
    event["inputspan"] = f"accel:{(3 << ROW_BITS) + 1}-{(3 << ROW_BITS) + 9} heat:1-2"
    spans = trace(event, start, []).spans
    assert (spans["accel"].key, spans["heat"].key) == (accel, None)
    assert spans["accel"].numbers == ((3 << ROW_BITS) + 1, (3 << ROW_BITS) + 9)
    del event["subject"]
    assert trace(event, start, []).spans["accel"].key is None
    assert trace(event | {"subject": "press-7"}, None, []).spans["accel"].key is None


def test_rows_of_two_rings_have_no_count() -> None:
    start, event = journal(told(), decided())
    row = (2 << ROW_BITS) + 7
    event["inputspan"] = f"accel:{row}-{(3 << ROW_BITS) + 5} heat:{row}-{row}"
    spans = trace(event, start, []).spans
    assert spans["accel"] == Span(generation=3, first=7, last=5, began=2, key="press-7")
    assert spans["heat"] == Span(generation=2, first=7, last=7, count=1)


def test_losses_are_near_by_the_clock_nobody_sets_and_by_their_number() -> None:
    start, early, before, event, after, late = journal(
        told(), lost(30), lost(50), decided(seconds=100), lost(159), lost(161)
    )
    assert trace(event, start, [early, before, after, late]).lost == [before, after]
    (other_boot,) = journal(lost(0, "deadletter"), first=9)
    other_boot |= {"bootid": "boot-0", "time": event["time"]}
    (other_journal,) = journal(lost(100), name="j2")
    (far,) = journal(lost(100), first=event_number(event) + NEAR_EVENTS + 1)
    assert trace(event, start, [other_boot, other_journal, far, event]).lost == [other_boot]
    stepped = Clock("boot-1", 0, "unsynchronised")
    (moved,) = journal(msgspec.structs.replace(lost(101), clock=stepped), first=5)
    assert trace(event, start, [moved]).lost == [moved]


def test_what_the_agent_tells_of_itself_or_of_the_pipeline_is_a_loss_too() -> None:
    start, event = journal(told(), decided(seconds=100))
    names = {"agent": "_agent", "other": "_agent", "own": "_agent", "another": "elsewhere"}
    died = {name: journal(lost(110, "worker.died", reason=name), name=name)[0] for name in names}
    for name, pipeline in names.items():
        died[name]["source"] = f"/devices/dev-1/pipelines/{pipeline}"
    died["other"]["data"] = {"pipeline": "other"}
    died["own"]["data"] = {"pipeline": "watch"}
    assert trace(event, start, died.values()).lost == [died["agent"], died["own"]]


def test_losses_are_near_the_decision_whatever_time_the_sample_carried() -> None:
    start, event, gap = journal(told(), decided(seconds=900), lost(100))
    assert trace(event, start, [gap]).lost == []
    assert trace(event | {"decidedns": str(101 * 10**9)}, start, [gap]).lost == [gap]


def test_of_many_losses_the_nearest_are_told_in_their_order() -> None:
    events = journal(told(), *(lost(1) for _ in range(60)), decided(), *(lost(1) for _ in range(60)))
    found = trace(events[61], events[0], events[1:]).lost
    numbers = [event_number(event) for event in found]
    assert len(numbers) == MAX_LOSSES
    assert numbers == sorted(numbers)
    assert (numbers[0], numbers[-1]) == (62 - MAX_LOSSES // 2, 62 + MAX_LOSSES // 2)


def test_what_a_device_may_send_instead_of_spans_and_names_harms_nothing() -> None:
    start, event, gap = journal(told(), decided(), lost(1, input={"a": 1}, step=[]))
    odd = event | {"inputspan": "a:-5-7 :1-2 heat:1-2 x", "modeldigest": "no-digest"}
    assert trace(odd, start, []).spans == {"heat": Span(generation=0, first=1, last=2, count=2)}
    assert trace(gap, start, []).path == []


def test_what_is_no_event_is_refused() -> None:
    event, gap = journal(decided(), lost(1))
    with pytest.raises(ValueError, match="not an event id"):
        trace(event, None, [gap | {"id": "?"}])


def event_number(event: dict[str, str]) -> int:
    return int(event["sequence"])
