"""The JSON Schema of pipeline files: it takes what `check` takes, and knows what is wrong in form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from edgeflow_proto.pipeline.jsonschema import schema
from edgeflow_proto.pipeline.kinds.base import Role, kinds
from edgeflow_proto.pipeline.load import load
from tests.support.documents import BEARING

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*ROOT.glob("examples/*/pipeline.yaml"), *ROOT.glob("docs/examples/*.yaml"),
                *ROOT.glob("tests/reference/*.yaml"),
                ROOT / "tools/edgeflow_tools/starter/pipeline.yaml"])  # fmt: skip
ROLES: tuple[Role, ...] = ("input", "step", "output", "decoder")


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    made = schema()
    Draft202012Validator.check_schema(made)
    return Draft202012Validator(made)


def data(text: str | bytes) -> Any:
    source, problems = load(text, "p.yaml")
    assert source is not None
    assert problems == []
    return source.data


@pytest.mark.parametrize("file", FILES, ids=lambda file: "/".join(file.parts[-2:]))
def test_every_pipeline_that_is_shown_is_valid(validator: Draft202012Validator, file: Path) -> None:
    assert [error.message for error in validator.iter_errors(data(file.read_bytes()))] == []


# What is changed in a good file; of the wrong ones, the place that is told.
GOOD = [
    ("limit: {default: 0.8, min: 0, max: 1}     # may differ per device", "limit: 0.8"),
    ("threshold: {above: $limit, clear: 0.6, for: 3 rows}", "threshold: {above: 1, for: 20ms}"),
    ("window: {size: 256, hop: 64}", "window: 256"),
    ("window: {size: 256, hop: 64}", "window: 0.5 s"),
    ("window: {size: 256, hop: 64}", "window: $limit"),
    ("window:   {from: accel, ", "window: {from: accel, on_error: stop, latency_budget: 5ms, "),
    ("{from: window, python: features.spectrum}", "{from: [window, accel], join: {tolerance: 5ms}}"),
    ("{from: window, python: features.spectrum}", "{from: {a: window, b: accel}, join: 5 s}"),
    ("decode: {json: {samples: data}}", "decode: cbor"),
    ("decode: {json: {samples: data}}", "decode: {raw: }"),
    ("fields: {x: acc.x, y: acc.y, z: acc.z}", "fields: [x, y]"),
    ("mqtt: plant/{machine}/accel ", "http: "),
    ("inputs:", "$schema: here.json\ninputs:"),
]
WRONG = [
    ("edgeflow: 1", "edgeflow: 2", "edgeflow"),
    ("name: bearing-watch", "name: Bearing Watch", "name"),
    ("inputs:", "input:\n  a: 3\ninputs:", ""),
    ("rate: 1 kHz", "rate: 1000", "inputs.accel.rate"),
    ("rate: 1 kHz", "rate: 1 kHz\n    mqqt: 3", "inputs.accel"),
    ("rate: 1 kHz", "dtype: float", "inputs.accel.dtype"),
    ("decode: {json: {samples: data}}", "decode: xml", "inputs.accel.decode"),
    ("window:   {from: accel, ", "window: {", "steps.window"),
    ("window:   {from: accel, ", "window: {from: [accel, accel], ", "steps.window"),
    ("window: {size: 256, hop: 64}", "window: {hop: 64}", "steps.window.window"),
    ("window: {size: 256, hop: 64}", "window: {size: 256, hopp: 64}", "steps.window.window"),
    ("window: {size: 256, hop: 64}", "window: 8, select: [x]", "steps.window"),
    ("window: {size: 256, hop: 64}", "windw: 8", "steps.window"),
    ("threshold: {above: $limit, clear: 0.6, for: 3 rows}", "threshold: 0.8", "steps.alarm.threshold"),
    ("window:   {from", "my window:   {from", "steps"),
    ("severity: warning", "severity: high", "outputs.anomaly.event"),
    ("qos: 1", "qos: 2", "outputs.stop.mqtt"),
    ("max_age: 2s", "max_age: 2 weeks", "outputs.stop.mqtt"),
]


@pytest.mark.parametrize(("old", "new"), GOOD)
def test_other_ways_to_write_it_are_valid(validator: Draft202012Validator, old: str, new: str) -> None:
    assert old in BEARING
    assert [error.message for error in validator.iter_errors(data(BEARING.replace(old, new)))] == []


@pytest.mark.parametrize(("old", "new", "place"), WRONG)
def test_what_is_wrong_in_form_is_found_at_its_place(
    validator: Draft202012Validator, old: str, new: str, place: str
) -> None:
    assert old in BEARING
    errors = [*validator.iter_errors(data(BEARING.replace(old, new)))]
    assert {".".join(map(str, error.absolute_path)) for error in errors} == {place}


@pytest.mark.parametrize("role", ROLES)
def test_every_kind_is_described_with_all_it_takes(role: Role) -> None:
    definitions = schema()["$defs"]
    for name, kind in kinds(role).items():
        found = definitions[f"{role}.{name}"]
        assert found["description"]
        (options,) = [each for each in found.get("anyOf", [found]) if "properties" in each]
        fields = msgspec.structs.fields(kind)
        assert options["properties"].keys() == {field.encode_name for field in fields}
        assert not [field.encode_name for field in fields
                    if not options["properties"][field.encode_name] and field.type is not Any]  # fmt: skip
