"""Keys, times and texts that samples carry, in JSON, CBOR and CSV alike."""

from __future__ import annotations

import json
from collections.abc import Callable

import cbor2
import numpy as np
import pytest

from edgeflow_agent.inputs.decode.base import DecodeError, decoder_of
from edgeflow_agent.inputs.decode.marks import moment
from edgeflow_proto.pipeline.kinds.base import DecoderKind, Intake, TimeField
from edgeflow_proto.pipeline.kinds.decoders import Cbor, Csv, Json, Raw

INTAKE = Intake(fields={"x": "x", "state": "state"}, key="id", codes={"state": ["idle", "run", "fault"]},
                time=TimeField(field="at", unit="ms"), _fielded=True)  # fmt: skip
ROWS = [
    {"id": "s1", "at": 1000, "x": 0.5, "state": "run"},
    {"id": 7, "at": 2000.5, "x": 1, "state": "idle"},
]


def table(rows: list[dict[str, object]]) -> bytes:
    lines = [",".join(map(str, row.values())) for row in rows]
    return "\n".join([",".join(rows[0]), *lines]).encode()


FORMATS: dict[str, tuple[DecoderKind, Callable[[list[dict[str, object]]], bytes]]] = {
    "json": (Json(samples=""), lambda rows: json.dumps(rows).encode()),
    "cbor": (Cbor(samples=""), cbor2.dumps),
    "csv": (Csv(), table),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_sample_carries_its_key_time_and_text(name: str) -> None:
    options, encode = FORMATS[name]
    found = decoder_of(options, INTAKE).decode(encode(ROWS))
    assert found.values.tolist() == [[0.5, 1], [1, 0]]
    assert found.values.dtype == np.float32
    assert found.keys == ["s1", "7"]
    assert found.times is not None
    assert found.times.tolist() == [10**9, 2_000_500_000]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("change", "reason"),
    [({"state": "running"}, "code"), ({"at": -5}, "time"), ({"x": "much"}, "type")],
)
def test_what_is_none_of_them_is_refused(name: str, change: dict[str, object], reason: str) -> None:
    options, encode = FORMATS[name]
    with pytest.raises(DecodeError) as caught:
        decoder_of(options, INTAKE).decode(encode([ROWS[0] | change]))
    assert caught.value.reason == reason


def test_packed_numbers_carry_nothing_else() -> None:
    with pytest.raises(DecodeError, match="packed"):
        decoder_of(Cbor(), INTAKE).decode(cbor2.dumps(bytes(8)))
    assert decoder_of(Raw(), Intake(fields=["x"])).decode(bytes(4)).keys is None


@pytest.mark.parametrize(
    ("value", "unit", "ns"),
    [
        (1.5, "s", 1_500_000_000), (1, "us", 1000), (3, "ns", 3),
        ("2020-01-01T00:00:00.25Z", "iso", 1_577_836_800_250_000_000),
        ("2020-01-01T02:00:00+02:00", "iso", 1_577_836_800_000_000_000),
        ("2020-01-01T00:00:00", "iso", 1_577_836_800_000_000_000),
    ],
)  # fmt: skip
def test_moments(value: float | str, unit: str, ns: int) -> None:
    assert moment(value, unit) == ns


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        ("yesterday", "iso"),
        (float("inf"), "s"),
        (float("nan"), "s"),
        (-1, "s"),
        (1e30, "s"),
        ("1900-01-01", "iso"),
    ],
)
def test_what_is_no_moment_is_refused(value: float | str, unit: str) -> None:
    with pytest.raises(DecodeError, match="time"):
        moment(value, unit)
