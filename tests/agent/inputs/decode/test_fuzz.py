"""Thousands of broken payloads with good ones between: none crashes or hangs, and the good rows are exact."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.inputs.decode.base import DecodeError, Decoder, decoder_of
from edgeflow_agent.inputs.decode.senml import LABELS
from edgeflow_proto.pipeline.kinds.base import Intake
from edgeflow_proto.pipeline.kinds.decoders import Cbor, Csv, Json, Raw, Senml

INTAKE = Intake(fields={"x": "acc.x", "y": "acc.y"})
COUNT = 10_000


def packed(rows: list[list[float]]) -> bytes:
    return np.array(rows, "<f4").tobytes()


def objects(rows: list[list[float]]) -> dict[str, object]:
    return {"id": "s1", "data": [{"acc": {"x": x, "y": y}} for x, y in rows]}


def lines(rows: list[list[float]]) -> bytes:
    return b"acc.x,acc.y\n" + b"".join(b"%r,%r\n" % (x, y) for x, y in rows)


def records(rows: list[list[float]]) -> list[dict[str, object]]:
    base = {"bn": "acc.", "bt": 1.5e9}
    packs = [[{"n": "x", "t": i, "v": x}, {"n": "y", "t": i, "v": y}] for i, (x, y) in enumerate(rows)]
    found = [record for pack in packs for record in pack]
    return [base | found[0], *found[1:]]


def labelled(rows: list[list[float]]) -> list[dict[int, object]]:
    numbers = {name: number for number, name in LABELS.items()}
    return [{numbers[name]: value for name, value in record.items()} for record in records(rows)]


FORMATS: dict[str, tuple[Decoder, Callable[[list[list[float]]], bytes]]] = {
    "json": (decoder_of(Json(samples="data"), INTAKE), lambda rows: json.dumps(objects(rows)).encode()),
    "cbor": (decoder_of(Cbor(samples="data"), INTAKE), lambda rows: cbor2.dumps(objects(rows))),
    "cbor-packed": (
        decoder_of(Cbor(samples="data"), INTAKE),
        lambda rows: cbor2.dumps({"data": packed(rows)}),
    ),
    "raw": (decoder_of(Raw(), INTAKE), packed),
    "csv": (decoder_of(Csv(), INTAKE), lines),
    "senml": (decoder_of(Senml(), INTAKE), lambda rows: json.dumps(records(rows)).encode()),
    "senml-cbor": (decoder_of(Senml(), INTAKE), lambda rows: cbor2.dumps(labelled(rows))),
}


def broken(payload: bytes, chance: random.Random) -> bytes:
    """Return a payload with a few bytes changed, taken out, put in or repeated."""
    data = bytearray(payload)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[at : at + chance.randint(1, 9)]
            case 2:
                data[at:at] = chance.randbytes(chance.randint(1, 9))
            case 3:
                data[at:at] = data[at : at + 20]
    return bytes(data)


@pytest.mark.parametrize("name", FORMATS)
def test_broken_payloads_with_good_ones_between(name: str) -> None:
    decoder, encode = FORMATS[name]
    chance, accepted, rejected, reasons = random.Random(name), 0, 0, set()
    for i in range(COUNT):
        rows = [[float(i), float(j)] for j in range(chance.randint(1, 4))]
        payload = encode(rows)
        try:
            found = decoder.decode(broken(payload, chance)).values
            assert found.dtype == np.float32
            assert found.shape[1:] == (2,)
            assert np.isfinite(found).all()
            accepted += 1
        except DecodeError as error:
            reasons.add(error.reason)
            rejected += 1
        np.testing.assert_array_equal(decoder.decode(payload).values, np.array(rows, np.float32))
    assert accepted + rejected == COUNT
    assert rejected > COUNT / 20
    assert reasons <= {
        "json", "cbor", "csv", "senml", "type", "shape", "range", "nan", "missing_field", "time",
    }  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@given(payload=st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused(name: str, payload: bytes) -> None:
    with suppress(DecodeError):
        assert FORMATS[name][0].decode(payload).values.shape[1:] == (2,)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["data", "acc", "x", "y", "z"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_document_is_decoded_or_refused_alike_in_json_and_cbor(content: object) -> None:
    found: list[object] = []
    for name, payload in (("json", json.dumps(content).encode()), ("cbor", cbor2.dumps(content))):
        try:
            found.append(FORMATS[name][0].decode(payload).values.tolist())
        except DecodeError:
            found.append(None)
    assert found[0] == found[1]
