"""JSON, CBOR and raw payloads: what is taken, what is refused, and by which reason it is counted."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import numpy as np
import pytest

from edgeflow_agent.inputs.decode.base import DecodeError, Decoder, decoder_of, narrowed
from edgeflow_proto.pipeline.kinds.base import Intake
from edgeflow_proto.pipeline.kinds.decoders import Cbor, Json, Raw

XY = Intake(fields={"x": "acc.x", "y": "acc.y"})
DTYPES = ("float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "bool")


def reason(decoder: Decoder, payload: bytes) -> str:
    with pytest.raises(DecodeError) as caught:
        decoder.decode(payload)
    return caught.value.reason


def both(samples: str | None, intake: Intake) -> list[tuple[Decoder, Any]]:
    """Return the JSON and the CBOR decoder of an input, each with what encodes for it."""
    return [
        (decoder_of(Json(samples=samples), intake), lambda content: json.dumps(content).encode()),
        (decoder_of(Cbor(samples=samples), intake), cbor2.dumps),
    ]


@pytest.mark.parametrize(
    ("samples", "intake", "content", "rows"),
    [
        (None, XY, {"acc": {"x": 1, "y": 2.5, "z": 9}, "id": "more than asked for"}, [[1, 2.5]]),
        (None, XY, [3, 4], [[3, 4]]),
        ("data", XY, {"data": [{"acc": {"x": 1, "y": 2}}, {"acc": {"y": 4, "x": 3}}]}, [[1, 2], [3, 4]]),
        ("a.b", XY, {"a": {"b": [[1, 2], [3, 4]]}}, [[1, 2], [3, 4]]),
        ("data", XY, {"data": []}, np.empty((0, 2))),
        ("", XY, [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        (None, Intake(), 7, [[7]]),
        (None, Intake(), [7], [[7]]),
        (None, Intake(), {"value": 7}, [[7]]),
        ("v", Intake(fields=["a"]), {"v": [1, 2, 3]}, [[1], [2], [3]]),
        ("v", Intake(fields=["a"]), {"v": [[1], [2]]}, [[1], [2]]),
        (None, Intake(fields={"a": "odd key-1"}), {"odd key-1": 5}, [[5]]),
        (None, Intake(shape=(2, 2), dtype="uint8"), [[1, 2], [3, 4]], [[[1, 2], [3, 4]]]),
        ("v", Intake(shape=(3,)), {"v": [[1, 2, 3], [4, 5, 6]]}, [[1, 2, 3], [4, 5, 6]]),
        ("v", Intake(dtype="bool"), {"v": [True, False]}, [[True], [False]]),
        (None, Intake(dtype="int64"), 2**63 - 1, [[2**63 - 1]]),
    ],
)
def test_a_sample_may_be_an_object_an_array_or_a_number(
    samples: str | None, intake: Intake, content: Any, rows: Any
) -> None:
    for decoder, encode in both(samples, intake):
        found = decoder.decode(encode(content)).values
        assert found.dtype == intake.dtype
        assert found.shape[1:] == intake.row_shape
        np.testing.assert_array_equal(found, np.array(rows, intake.dtype))


@pytest.mark.parametrize(
    ("samples", "intake", "content", "why"),
    [
        (None, XY, {"acc": {"x": 1}}, "missing_field"),
        (None, XY, {}, "missing_field"),
        ("data", XY, {"other": []}, "missing_field"),
        (None, XY, {"acc": {"x": "1", "y": 2}}, "type"),
        (None, XY, {"acc": {"x": True, "y": 2}}, "type"),
        (None, XY, {"acc": {"x": None, "y": 2}}, "type"),
        (None, XY, {"acc": [1, 2]}, "type"),
        (None, XY, 5, "type"),
        (None, XY, "text", "type"),
        (None, XY, [1], "shape"),
        (None, XY, [1, 2, 3], "shape"),
        ("data", XY, {"data": {"x": 1}}, "type"),
        ("data", XY, {"data": [[1, 2], [3]]}, "shape"),
        ("data", XY, {"data": [{"acc": {"x": 1, "y": 2}}, [1, 2]]}, "type"),
        (None, XY, {"acc": {"x": 1e39, "y": 2}}, "range"),
        (None, Intake(dtype="int8"), 128, "range"),
        (None, Intake(dtype="uint16"), -1, "range"),
        (None, Intake(dtype="int64"), 2**63, "range"),
        (None, Intake(dtype="int32"), 1.5, "type"),
        (None, Intake(dtype="bool"), 1, "type"),
        (None, Intake(dtype="int32"), True, "type"),
        (None, Intake(shape=(2, 2)), [[1, 2], [3]], "shape"),
        (None, Intake(shape=(2, 2)), [[1, 2, 3], [4, 5, 6]], "shape"),
        (None, Intake(shape=(2, 2)), [1, 2, 3, 4], "type"),
    ],
)
def test_what_is_refused_is_named_alike_in_both_formats(
    samples: str | None, intake: Intake, content: Any, why: str
) -> None:
    for decoder, encode in both(samples, intake):
        assert reason(decoder, encode(content)) == why


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "json"),
        (b"junk", "json"),
        (b'{"acc": {"x": 1, "y": 2}', "json"),
        (b'{"acc": {"x": 1, "y": 2}} {}', "json"),
        (b"\xff\xfe", "json"),
        (b'{"acc": {"x": NaN, "y": 2}}', "nan"),
        (b'{"acc": {"x": -Infinity, "y": 2}}', "nan"),
        (b'{"acc": {"x": 1e999, "y": 2}}', "range"),
        (b'{"bomb": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "json"),
        (b"[" * 500_000, "type"),
    ],
)
def test_json_that_is_none(payload: bytes, why: str) -> None:
    assert reason(decoder_of(Json(), XY), payload) == why


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "cbor"),
        (b"\xff", "cbor"),
        (cbor2.dumps([1, 2]) + b"more", "cbor"),
        (b"\x9f" * 100_000, "cbor"),
        (b"\x9b" + b"\x7f" * 8, "cbor"),  # an array said to have 9e18 elements
        (b"\x5b" + b"\x7f" * 8, "cbor"),  # bytes, likewise
        (b"\xd8\x23\x61(", "cbor"),  # a regular expression that is none
        (bytes.fromhex("d81c82d81d00f6"), "type"),  # an array that holds itself
        (cbor2.dumps([float("nan"), 1]), "nan"),
        (cbor2.dumps([1, float("-inf")]), "nan"),
        (cbor2.dumps([cbor2.undefined, 1]), "type"),
    ],
)
def test_cbor_that_is_none(payload: bytes, why: str) -> None:
    assert reason(decoder_of(Cbor(), XY), payload) == why


@pytest.mark.parametrize(
    ("tag", "dtype"),
    [(64, "u1"), (65, ">u2"), (69, "<u2"), (70, "<u4"), (72, "i1"), (77, "<i2"), (78, "<i4"),
     (80, ">f2"), (81, ">f4"), (82, ">f8"), (84, "<f2"), (85, "<f4"), (86, "<f8")],
)  # fmt: skip
def test_a_typed_array_is_taken_as_it_is(tag: int, dtype: str) -> None:
    values = np.arange(6).astype(dtype)
    decoder = decoder_of(Cbor(samples="d"), XY)
    found = decoder.decode(cbor2.dumps({"d": cbor2.CBORTag(tag, values.tobytes())})).values
    np.testing.assert_array_equal(found, np.arange(6, dtype="float32").reshape(3, 2))


def test_packed_bytes_in_cbor_are_rows_of_the_inputs_dtype() -> None:
    decoder = decoder_of(Cbor(samples="d"), XY)
    rows = np.arange(4, dtype="<f4")
    np.testing.assert_array_equal(
        decoder.decode(cbor2.dumps({"d": rows.tobytes()})).values, rows.reshape(2, 2)
    )
    assert reason(decoder, cbor2.dumps({"d": b"abc"})) == "shape"
    assert reason(decoder, cbor2.dumps({"d": rows[:3].tobytes()})) == "shape"
    assert reason(decoder, cbor2.dumps({"d": cbor2.CBORTag(85, b"abc")})) == "shape"
    assert reason(decoder, cbor2.dumps({"d": cbor2.CBORTag(99, b"abcd")})) == "type"
    ints = decoder_of(Cbor(samples="d"), Intake(dtype="int8"))
    wide = np.array([1, 300], "<i2").tobytes()
    assert reason(ints, cbor2.dumps({"d": cbor2.CBORTag(77, wide)})) == "range"
    assert reason(ints, cbor2.dumps({"d": cbor2.CBORTag(85, np.zeros(1, "<f4").tobytes())})) == "type"


@pytest.mark.parametrize("dtype", DTYPES)
def test_raw_rows_are_looked_at_where_they_are(dtype: str) -> None:
    intake = Intake(fields=["a", "b"], dtype=dtype)
    rows = np.array([[1, 0], [1, 1]], dtype)
    payload = rows.astype(rows.dtype.newbyteorder("<")).tobytes()
    found = decoder_of(Raw(), intake).decode(payload).values
    np.testing.assert_array_equal(found, rows)
    assert found.dtype == dtype
    assert reason(decoder_of(Raw(), intake), b"") == "shape"
    assert reason(decoder_of(Raw(), intake), payload[: rows.itemsize]) == "shape"


def test_raw_values_that_are_none() -> None:
    assert reason(decoder_of(Raw(), Intake()), np.array([1, np.nan], "<f4").tobytes()) == "nan"
    assert reason(decoder_of(Raw(), Intake()), b"abc") == "shape"
    assert reason(decoder_of(Raw(), Intake(dtype="bool")), b"\0\1\2\1") == "range"


@pytest.mark.parametrize("fields", [{"a": "x", "b": "x.y"}, {"a": "x.y", "b": "x"}])
def test_a_field_within_another_field_cannot_be_read(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"within"):
        decoder_of(Json(), Intake(fields=fields))


def test_numbers_are_narrowed_only_when_all_of_them_fit() -> None:
    wide = np.array([1.0, 3e38])
    assert narrowed(wide, "float32").dtype == np.float32
    assert narrowed(np.array([1, 255]), "uint8").dtype == np.uint8
    with pytest.raises(DecodeError, match="range"):
        narrowed(np.array([1.0, 1e39]), "float32")
    with pytest.raises(DecodeError, match="type"):
        narrowed(np.array([1.0]), "int32")
