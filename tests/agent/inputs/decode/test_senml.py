"""SenML against RFC 8428: its examples in resolved form, its rules, and what becomes of records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cbor2
import pytest

from edgeflow_agent.inputs.decode.base import DecodeError, decoder_of
from edgeflow_agent.inputs.decode.senml import pack, resolved
from edgeflow_proto.pipeline.kinds.base import Intake
from edgeflow_proto.pipeline.kinds.decoders import Senml

EXAMPLES = [("ex1.json", 1), ("ex2.json", 2), ("ex3.json", 3), ("ex3.gen.cbor", 3), ("ex4.json", 4),
            ("ex5.json", 5), ("ex6.json", 6)]  # fmt: skip
NOW = 1498780179.0  # what the resolved forms of records without a time were made at


@pytest.mark.parametrize(("name", "number"), EXAMPLES)
def test_the_examples_of_the_standard(test_data: Path, name: str, number: int) -> None:
    folder = test_data / "protocol" / "senml"
    wanted = json.loads((folder / f"ex{number}.gen.resolved.json").read_text())
    found = [*resolved(pack((folder / name).read_bytes()), NOW)]
    assert len(found) == len(wanted)
    for record, expected in zip(found, wanted, strict=True):
        values = [expected[name] for name in ("v", "vs", "vb", "vd") if name in expected]
        assert (record.name, record.unit, record.sum) == (expected["n"], expected.get("u"), expected.get("s"))
        assert record.value == (values[0] if values else None)
        moment = expected.get("t", 0)
        assert record.time == pytest.approx(moment if moment >= 1 << 28 else NOW + moment, abs=1e-6)


def decoded(intake: Intake, records: list[dict[str, Any]]) -> Any:
    return decoder_of(Senml(), intake).decode(json.dumps(records).encode())


def test_records_of_one_time_are_one_sample() -> None:
    intake = Intake(fields={"volts": "dev:u", "amps": "dev:i"}, time="t")
    records = [
        {"bn": "dev:", "bt": 1.5e9, "n": "u", "v": 230}, {"n": "i", "v": 1}, {"n": "other", "vs": "x"},
        {"n": "i", "t": 5, "v": 2}, {"n": "u", "t": 5, "v": 231},
    ]  # fmt: skip
    found = decoded(intake, records)
    assert found.values.tolist() == [[230, 1], [231, 2]]
    assert found.times.tolist() == [1_500_000_000 * 10**9, 1_500_000_005 * 10**9]


def test_each_record_is_a_sample_where_its_name_is_the_key() -> None:
    intake = Intake(fields=["value"], key="name", _fielded=True)
    found = decoded(intake, [{"bn": "hall:", "n": "a", "v": 1}, {"n": "b", "v": 2}])
    assert (found.values.tolist(), found.keys) == ([[1], [2]], ["hall:a", "hall:b"])


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([{"v": 1}], "senml"), ([{"n": "x", "v": 1, "vs": "a"}], "senml"), ([{"n": "x", "v": "1"}], "type"),
        ([{"n": "x", "v": True}], "type"), ([{"bver": 11, "n": "x", "v": 1}], "senml"),
        ([{"n": "x", "v": 1, "must_": 2}], "senml"), ([{"n": "y", "v": 1}], "missing_field"),
        ([{"n": "x", "vs": "on"}], "type"), ([], "missing_field"), ([1], "senml"), ({"n": "x"}, "senml"),
    ],
)  # fmt: skip
def test_what_is_not_senml_or_not_asked_for_is_refused(records: Any, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decoded(Intake(fields=["x"]), records)
    assert caught.value.reason == reason


def test_cbor_labels_are_numbers() -> None:
    payload = cbor2.dumps([{-2: "dev:", 0: "x", 2: 4.5}])
    assert decoder_of(Senml(), Intake(fields={"x": "dev:x"})).decode(payload).values.tolist() == [[4.5]]
