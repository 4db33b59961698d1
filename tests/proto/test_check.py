"""Files that are fine and the graph they make; what device values may be; what no text may do."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_proto.bundle import Signature, Tensor
from edgeflow_proto.pipeline.check import check, graph_of
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.outputs import Event, Mqtt
from edgeflow_proto.pipeline.kinds.steps.columns import Filter
from edgeflow_proto.pipeline.kinds.steps.detect import Threshold
from edgeflow_proto.pipeline.kinds.steps.shape import Window
from edgeflow_proto.pipeline.kinds.steps.values import Map
from edgeflow_proto.pipeline.problem import Rejected
from edgeflow_proto.pipeline.schema import MAX_ENTRIES
from edgeflow_proto.pipeline.units import Duration, Extent
from tests.support.documents import BEARING, BESIDE, SIGNATURES, Beside, graph_in_memory, problems_of, tensor

HEAD = "edgeflow: 1\nname: p\n"


def test_the_graph_of_the_example() -> None:
    graph = graph_in_memory(BEARING)
    assert list(graph.steps) == ["window", "features", "score", "alarm"]
    assert graph.steps["window"].options == Window(size=Extent(256), hop=Extent(64))
    assert graph.steps["alarm"].options == Threshold(above=0.8, clear=0.6, hold=Extent(rows=3))
    assert graph.outputs["anomaly"].options == Event(
        type="bearing.anomaly", severity="warning", data=["score"]
    )
    stop = Mqtt(topic="plant/{machine}/stop", payload={"cmd": "stop"}, qos=1, max_age=Duration(2 * 10**9))
    assert graph.outputs["stop"].options == stop
    assert graph.flows["accel"] == Flow((3,), "float32", ("x", "y", "z"), 1000.0, ("accel",), "machine")
    assert graph.flows["window"].shape == (256, 3)
    assert graph.flows["window"].rate == pytest.approx(1000 / 64)
    assert graph.flows["score"].columns == ("score",)
    assert graph.flows["alarm.state"].columns == ("state",)


def test_json_and_any_order_of_entries_give_the_same_graph() -> None:
    data = yaml.safe_load(BEARING)
    turned = {
        key: dict(reversed(part.items())) if isinstance(part, dict) else part for key, part in data.items()
    }
    for text in (json.dumps(data), json.dumps(turned), json.dumps(data, indent=2).encode()):
        assert graph_in_memory(text) == graph_in_memory(BEARING)


def test_a_model_without_a_signature_leaves_shapes_open() -> None:
    graph = graph_in_memory(BEARING.replace("bearing.onnx", "unread.tflite"))
    assert graph.flows["score"].shape is None


def test_short_forms_and_defaults() -> None:
    text = (
        HEAD
        + "inputs: {a: {http: }, b: {host: }}\noutputs: {o: {from: a, event: }, p: {from: b, event: b}}\n"
    )
    graph = graph_in_memory(text)
    assert graph.flows["a"].columns == ("value",)
    assert graph.flows["b"].columns is not None
    assert graph.flows["b"].columns[:2] == ("cpu", "memory")
    assert graph.outputs["p"].options == Event(type="b")


def test_steps_may_be_left_out_or_empty() -> None:
    for steps in ("", "steps:\n", "steps: {}\n"):
        graph_in_memory(HEAD + "inputs: {a: {http: }}\n" + steps + "outputs: {o: {from: a, event: }}\n")


@pytest.mark.parametrize(("value", "above"), [(0, 0.0), (0.25, 0.25), (1, 1.0)])
def test_a_device_has_its_own_value_within_the_bounds(value: float, above: float) -> None:
    graph = graph_in_memory(BEARING.replace(", clear: 0.6", ""), {"limit": value})
    options = graph.steps["alarm"].options
    assert isinstance(options, Threshold)
    assert options.above == above
    assert graph.params == {"limit": value}


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ({"limit": 1.5}, "p.yaml:5:3: params.limit: 1.5 is above the maximum 1"),
        ({"limit": -1}, "p.yaml:5:3: params.limit: -1 is below the minimum 0"),
        ({"limit": float("nan")}, "p.yaml:5:3: params.limit: nan is above the maximum 1"),
        ({"limit": "high"}, "p.yaml:5:3: params.limit: 'high' is not of the same type as the default 0.8"),
        ({"limit": True}, "p.yaml:5:3: params.limit: true is not of the same type as the default 0.8"),
        ({"limit": [1]}, "p.yaml:5:3: params.limit: a list is not of the same type as the default 0.8"),
        ({"limt": 0.5}, "p.yaml:4:1: params: no parameter 'limt' (did you mean 'limit'?)"),
        ({"limit": 0.5}, "p.yaml:17:54: steps.alarm: clear: must not be above 0.5"),
    ],
)
def test_a_value_of_a_device_is_checked(params: dict[str, Any], line: str) -> None:
    assert problems_of(BEARING, params) == [line]


def test_parameters_stand_for_values_anywhere_in_the_options() -> None:
    text = HEAD + "params: {n: 4, c: x}\ninputs: {a: {http: , fields: [x, y]}}\n"
    text += "steps: {w: {from: a, window: $n}, s: {from: a, select: [$c]}}\n"
    text += "outputs: {o: {from: w, event: }, p: {from: s, mqtt: {topic: t, payload: $payload}}}\n"
    text = text.replace("$payload", "{a: [$n], b: $$n, c: $5}")
    graph = graph_in_memory(text)
    assert graph.steps["w"].options == Window(size=Extent(4))
    assert graph.flows["s"].columns == ("x",)
    assert graph.outputs["p"].options == Mqtt(topic="t", payload={"a": [4], "b": "$n", "c": "$5"})


def test_parameters_stand_for_values_inside_expressions() -> None:
    text = HEAD + "params: {low: -2, high: 1.5, of: x}\ninputs: {a: {http: , fields: [x]}}\n"
    text += "steps:\n  f: {from: a, filter: x > $low ** 2 and $of < $high}\n"
    text += "  m: {from: f, map: {columns: {y: $of + $low}}}\n"
    text += "outputs: {o: {from: m, event: }}\n"
    graph = graph_in_memory(text)
    assert graph.steps["f"].options == Filter(where="x > (-2) ** 2 and x < 1.5")
    assert graph.steps["m"].options == Map(columns={"y": "x + (-2)"})


def test_an_unknown_parameter_inside_an_expression_is_named() -> None:
    text = HEAD + "params: {limit: 1}\ninputs: {a: {http: , fields: [x]}}\n"
    text += "outputs: {o: {from: f, event: }}\nsteps:\n  f: {from: a, filter: x > $limt}\n"
    assert problems_of(text) == [
        "p.yaml:7:16: steps.f: where: no parameter 'limt' (did you mean 'limit'?)",
    ]


def test_rejected_has_every_problem() -> None:
    with pytest.raises(Rejected) as rejected:
        graph_of("edgeflow: 2\n", "p.yaml", Beside({}), {})
    assert str(rejected.value).splitlines() == [
        "p.yaml:1:1: no inputs",
        "p.yaml:1:1: name: no name (lower-case letters, digits and '-', a letter first, at most 63)",
        "p.yaml:1:1: no outputs",
        "p.yaml:1:1: edgeflow: version 2 is not known (this is version 1)",
    ]


def test_results_of_results_do_not_grow_without_end() -> None:
    everything = "[mean, std, rms, min, max, peak_to_peak, kurtosis, crest]"
    steps = "".join(
        f"  w{i}: {{from: s{i - 1}, window: 2}}\n  s{i}: {{from: w{i}, stats: {everything}}}\n"
        for i in range(1, 9)
    )
    text = HEAD + "inputs:\n  s0: {http: }\nsteps:\n" + steps + "outputs:\n  o: {from: s8, event: }\n"
    assert problems_of(text) == ["p.yaml:15:18: steps.s5: functions: makes more than 4096 columns"]


def test_long_chains_and_many_misspelt_names_are_checked() -> None:
    chain = "".join(f"  s{i}: {{from: s{i + 1}, window: 1}}\n" for i in range(MAX_ENTRIES))
    text = HEAD + "inputs:\n  i: {http: }\nsteps:\n" + chain + "outputs:\n  o: {from: s0, event: }\n"
    assert problems_of(text.replace(f"from: s{MAX_ENTRIES},", "from: i,")) == []
    assert problems_of(text) == [
        "p.yaml:4:3: inputs.i: nothing reads it (remove it or name it in a 'from')",
        "p.yaml:261:10: steps.s255: no input or step 's256'",
    ]


_WORDS = st.sampled_from(
    ["accel", "alarm", "alarm.raised", "window", "features.spectrum", "bearing.onnx", "x", "score", "1 kHz",
     "5ms", "$limit", "$gone", "a/#", "{machine}", "json", "mqtt", "", "event", "yes", "../x.onnx", "x > 1"]
)  # fmt: skip
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _WORDS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=6,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if not isinstance(value, dict):
        return [path]
    return [path] + [place for key in value for place in _places(value[key], (*path, key))]


@st.composite
def _changed(draw: st.DrawFn) -> str:
    """The example with a few of its values replaced, removed or named otherwise."""
    root = {"": yaml.safe_load(BEARING)}
    for _ in range(draw(st.integers(1, 4))):
        *above, last = draw(st.sampled_from(_places(root)[1:]))
        parent = root
        for key in above:
            parent = parent[key]
        value = parent.pop(last)
        key = draw(st.sampled_from([last, last, last, draw(_WORDS)]))
        if draw(st.integers(0, 4)):
            parent[key] = draw(_ANY) if draw(st.booleans()) else value
        if "" not in root:
            root[""] = None
    return (
        json.dumps(root[""]).replace("NaN", ".nan").replace("-Infinity", "-.inf").replace("Infinity", ".inf")
    )


@given(_changed() | st.text(max_size=200) | st.binary(max_size=100))
def test_any_text_gives_a_graph_or_problems(text: str | bytes) -> None:
    graph, problems = check(text, "p.yaml", Beside(BESIDE), SIGNATURES, {"limit": 0.5})
    assert (graph is None) == bool(problems)
    for problem in problems:
        assert problem.line >= 1
        assert problem.col >= 1
        assert str(problem).isprintable()


@given(st.data())
def test_a_text_with_signs_lost_or_added_gives_a_graph_or_problems(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(BEARING)))
    cut = data.draw(st.integers(0, 12))
    text = BEARING[:at] + data.draw(st.text("{}[]:,-'\"&*!$#\n\t 09azé", max_size=6)) + BEARING[at + cut :]
    graph, problems = check(text, "p.yaml", Beside(BESIDE), SIGNATURES)
    assert (graph is None) == bool(problems)


def test_several_outputs_of_a_model_name_columns_only_while_they_are_few() -> None:
    def columns(*outputs: Tensor) -> tuple[str, ...] | None:
        signatures = {"m.onnx": Signature((tensor("in", -1, 1),), outputs)}
        names = [output.name for output in outputs]
        text = f"""{HEAD}inputs: {{a: {{http: }}}}
steps: {{m: {{from: a, model: {{file: m.onnx, output: {json.dumps(names)}}}}}}}
outputs: {{o: {{from: m, event: }}}}
"""
        return graph_of(text, "p.yaml", Beside({"m.onnx": b""}), signatures).flows["m"].columns

    assert columns(tensor("a:0", -1, 2), tensor("b", -1)) == ("a_0_0", "a_0_1", "b")
    assert columns(tensor("a:0", -1, 1), tensor("a.0", -1, 1)) == ("m_0", "m_1")
    assert columns(tensor("a", -1, 5000), tensor("b", -1)) is None


def test_labels_are_lines_of_a_file_whatever_wrote_it() -> None:
    signatures = {"m.onnx": Signature((tensor("in", -1, 1),), (tensor("out", -1, 3),))}
    text = f"""{HEAD}inputs: {{a: {{http: }}}}
steps: {{m: {{from: a, model: {{file: m.onnx, top: 1, labels: words.txt}}}}}}
outputs: {{o: {{from: m, event: }}}}
"""
    for content in (b"\nyes\n no \n\n", b"\xef\xbb\xbf\r\nyes\r\nno"):
        flows = graph_of(text, "p.yaml", Beside({"m.onnx": b"", "words.txt": content}), signatures).flows
        assert flows["m"].codes == {"label": ("", "yes", "no")}
