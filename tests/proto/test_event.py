"""Event blocks and the CloudEvents form of what is in them."""

from __future__ import annotations

import json
import struct
from datetime import datetime
from pathlib import Path
from typing import Any

import cbor2
import jsonschema
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeflow_proto.event import (
    MAX_AXES,
    MAX_BLOCK_EVENTS,
    Block,
    Clock,
    Column,
    decode_block,
    event_id,
    events,
    source,
    wall_time,
)

CLOCK = Clock("7a2e", 1_700_000_000_000_000_000, "synchronised")
NAN, INF = float("nan"), float("inf")


def packed(code: str, *values: float) -> bytes:
    return struct.pack(f"<{len(values)}{code}", *values)


def block(**changes: Any) -> Block:
    """Three events with all a block can have."""
    whole = Block(
        output="anomaly", type="bearing.anomaly", severity="warning", count=3, clock=CLOCK,
        t=packed("q", 10**9, 2 * 10**9, 3 * 10**9), pipeline_digest="ab" * 32, models={"score": "cd" * 32},
        inputs=("accel",), spans=packed("q", 0, 255, 64, 319, 128, 383), keys=("m1", ""),
        key=packed("I", 0, 1, 0),
        data=(Column("score", "float32", (), packed("f", 0.5, NAN, INF)),
              Column("raised", "bool", (), bytes([1, 0, 1])),
              Column("shape", "int16", (2, 1), packed("h", 1, 2, 3, 4, 5, 6))),
        fixed={"reason": "test"}, decided_ns=4 * 10**9,
    )  # fmt: skip
    return msgspec.structs.replace(whole, **changes)


def test_events_carry_what_their_block_knows() -> None:
    first, second, third = events(block(), 40, "j-1", "pi", "bearings")
    assert first.id == "j-1-40"
    assert first.source == "/devices/pi/pipelines/bearings"
    assert first.time == "2023-11-14T22:13:21.000000Z"
    assert [first.subject, second.subject, third.subject] == ["m1", "", "m1"]
    spans = [{"accel": (0, 255)}, {"accel": (64, 319)}, {"accel": (128, 383)}]
    assert [first.spans, second.spans, third.spans] == spans
    assert first.data == {"score": 0.5, "raised": True, "shape": [[1], [2]], "reason": "test"}
    assert third.sequence == 42


def test_numbers_json_has_no_word_for_become_null() -> None:
    scores = [event.data["score"] for event in events(block(), 0, "j", "d", "p")]
    assert scores == [0.5, None, None]
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
_CODES = {"float32": ("f", 4), "float64": ("d", 8), "int8": ("b", 1), "bool": ("B", 1), "int64": ("q", 8)}


@st.composite
def _columns(draw: st.DrawFn, count: int) -> Column:
    dtype = draw(st.sampled_from(sorted(_CODES)))
    shape = tuple(draw(st.lists(st.integers(1, 3), max_size=3)))
    size = _CODES[dtype][1] * count
    for length in shape:
        size *= length
    return Column(draw(_TEXT), dtype, shape, draw(st.binary(min_size=size, max_size=size)))


@st.composite
def _blocks(draw: st.DrawFn) -> Block:
    n = draw(st.integers(1, 5))
    keys = tuple(draw(st.lists(_TEXT, max_size=3)))
    index = draw(st.lists(st.integers(0, len(keys) - 1), min_size=n, max_size=n)) if keys else []
    times = draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=n, max_size=n))
    return Block(
        output=draw(_TEXT), type=draw(_TEXT), severity="info", count=n, t=packed("q", *times),
        clock=Clock(draw(_TEXT), draw(st.integers(-(2**62), 2**62)), "unsynchronised"),
        models=draw(st.dictionaries(_TEXT, _TEXT, max_size=2)), keys=keys, key=packed("I", *index),
        spans=draw(st.sampled_from([b"", packed("q", *range(2 * n))])), inputs=(draw(_TEXT),),
        data=tuple(draw(st.lists(_columns(n), max_size=3))), decided_ns=draw(st.integers(0, 2**62)),
        fixed=draw(st.dictionaries(_TEXT, st.none() | st.booleans() | st.integers(0, 9) | _TEXT, max_size=2)),
    )  # fmt: skip


@given(_blocks())
def test_a_block_survives_the_journey(whole: Block) -> None:
    assert decode_block(whole.encode()) == whole


@given(_blocks())
def test_every_block_gives_its_number_of_events_in_json(whole: Block) -> None:
    shown = [event.to_json() for event in events(whole, 7, "j", "d", "p")]
    assert [one["id"] for one in shown] == [f"j-{7 + i}" for i in range(whole.count)]
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown


@given(_blocks(), st.integers(0, 600))
def test_the_first_events_of_a_block_can_be_left_out(whole: Block, skip: int) -> None:
    def shown(skip: int) -> list[dict[str, Any]]:
        return [event.to_json() for event in events(whole, 7, "j", "d", "p", skip)]

    assert shown(skip) == shown(0)[skip:]


def test_whoever_takes_one_event_of_thousands_pays_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    n, looked = MAX_BLOCK_EVENTS, 0

    def finite(value: float) -> float:
        nonlocal looked
        looked += 1
        return value

    monkeypatch.setattr("edgeflow_proto.event._finite", finite)
    values = Column("x", "float32", (2,), packed("f", *range(2 * n)))
    large = block(count=n, t=packed("q", *range(n)), spans=b"", inputs=(), keys=(), key=b"", data=(values,))
    found = next(events(large, 1, "j", "d", "p", 3000))
    assert (found.sequence, found.t, found.data["x"]) == (3001, 3000, [6000.0, 6001.0])
    assert looked <= 1000


@given(st.data())
def test_a_damaged_block_is_a_value_error_or_a_whole_one(data: st.DataObject) -> None:
    raw = bytearray(block().encode())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    del raw[data.draw(st.integers(0, len(raw))) :]
    _read_or_refuse(bytes(raw))


@given(st.binary(max_size=60))
@example(b"\x9b" + b"\xff" * 8)  # an array of 2**64 elements
@example(b"\x81" * 100_000)  # nested as deep as it is long
@example(b"\xd8\x1c\x81\xd8\x1d\x00")  # a list that holds itself
@example(b"\xc1\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00")  # a time that is infinite
def test_bytes_from_anywhere_are_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match="block"):
        decode_block(raw)


def _read_or_refuse(raw: bytes) -> None:
    try:
        whole = decode_block(raw)
    except ValueError:
        return
    json.dumps([msgspec.to_builtins(event.to_json()) for event in events(whole, 0, "j", "d", "p")])


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2}, {"count": 0}, {"count": 2}, {"count": MAX_BLOCK_EVENTS + 1}, {"t": b""},
        {"spans": b"\0" * 8}, {"key": b""}, {"keys": ()}, {"key": packed("I", 0, 1, 2)},
        {"data": (Column("x", "float32", (), b"\0" * 8),)},
        {"data": (Column("x", "complex64", (), b"\0" * 24),)},
        {"data": (Column("x", "int8", (-1, -1), b"\0" * 3),)},
        {"data": (Column("x", "int8", (10**12, 0), b""),)},
        {"data": (Column("x", "int8", (1,) * (MAX_AXES + 1), b"\0" * 3),)},
    ],
)  # fmt: skip
def test_a_block_that_does_not_add_up_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="block"):
        decode_block(block(**changes).encode())


def test_few_bytes_that_stand_for_more_than_memory_holds_are_refused() -> None:
    raw, lists = msgspec.to_builtins(block(), builtin_types=(bytes,)), ["x"]
    for _ in range(60):
        lists = [lists, lists]  # type: ignore[list-item]
    long = {"x": ["y" * 10_000] * 10_000}
    for data in (
        cbor2.dumps(raw | {"fixed": {"x": lists}}, value_sharing=True),
        cbor2.dumps(raw | {"fixed": long}, string_referencing=True),
    ):
        assert len(data) < 100_000
        with pytest.raises(ValueError, match="refers to parts of itself"):
            decode_block(data)


def test_fixed_values_that_are_no_json_are_refused() -> None:
    raw = cbor2.loads(block().encode())
    raw["fixed"] = {"x": cbor2.CBORTag(4000, 1)}
    with pytest.raises(ValueError, match="fixed values are no JSON"):
        decode_block(cbor2.dumps(raw))


def test_a_block_of_a_thousand_events_has_no_cost_per_event_in_bytes() -> None:
    n = 1000
    whole = block(count=n, t=b"\0" * 8 * n, spans=b"\0" * 16 * n, key=b"\0" * 4 * n, data=())
    assert len(whole.encode()) < 28 * n + 400


# ------------------------------------------------------------------ CloudEvents


@pytest.fixture(scope="session")
def cloudevents(test_data: Path) -> jsonschema.Draft7Validator:
    schema = json.loads((test_data / "protocol" / "cloudevents" / "cloudevents.json").read_text())
    return jsonschema.Draft7Validator(schema)


def test_the_json_form_is_a_cloudevent(cloudevents: jsonschema.Draft7Validator) -> None:
    plain = block(keys=(), key=b"", spans=b"", models={}, pipeline_digest="", data=(), fixed={}, decided_ns=0)
    for whole in (block(), plain):
        for event in events(whole, 0, "j", "pi", "p"):
            attributes = event.to_json()
            cloudevents.validate(attributes)
            assert datetime.fromisoformat(attributes["time"]).tzinfo is not None
            assert all(name.isalnum() and name.islower() for name in attributes)
            assert all(value != "" for value in attributes.values())


def test_the_schema_would_notice(cloudevents: jsonschema.Draft7Validator) -> None:
    attributes = next(events(block(), 0, "j", "pi", "p")).to_json()
    assert not cloudevents.is_valid(attributes | {"subject": ""})
    assert not cloudevents.is_valid({key: value for key, value in attributes.items() if key != "id"})


def test_the_cbor_form_has_the_same_attributes() -> None:
    for event in events(block(), 0, "j", "pi", "p"):
        assert cbor2.loads(event.to_cbor()) == event.to_json()


def test_extensions_say_where_an_event_comes_from() -> None:
    attributes = next(events(block(), 40, "j", "pi", "p")).to_json()
    assert attributes["sequence"] == "00000000000000000040"
    assert attributes["inputspan"] == "accel:0-255"
    assert attributes["modeldigest"] == f"score={'cd' * 32}"
    assert attributes["pipelinedigest"] == "ab" * 32
    assert (attributes["clockquality"], attributes["bootid"]) == ("synchronised", "7a2e")
    assert (attributes["monotonicns"], attributes["decidedns"]) == ("1000000000", "4000000000")


def test_sequences_sort_as_text_as_they_do_as_numbers() -> None:
    shown = [next(events(block(), first, "j", "d", "p")).to_json()["sequence"] for first in (9, 10, 2**63)]
    assert shown == sorted(shown)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456Z"),
        (-62_135_596_800 * 10**9, "0001-01-01T00:00:00.000000Z"),
        (-62_135_596_800 * 10**9 - 1, "0001-01-01T00:00:00.000000Z"),
        (-40_000_000_000 * 10**9, "0702-06-15T00:53:20.000000Z"),
        (2**63 - 1, "2262-04-11T23:47:16.854775Z"),
        (2**80, "9999-12-31T23:59:59.999999Z"),
        (-(2**80), "0001-01-01T00:00:00.000000Z"),
    ],
)
def test_wall_times_of_all_years(ns: int, text: str) -> None:
    assert wall_time(ns) == text


@given(st.integers(-(2**65), 2**65), st.integers(0, 2**66))
def test_wall_times_sort_as_text(ns: int, later: int) -> None:
    assert wall_time(ns) <= wall_time(ns + later)


def test_ids_and_sources() -> None:
    assert event_id("j", 7) == "j-7"
    assert source("pi", "p") == "/devices/pi/pipelines/p"


def test_bytes_are_little_endian_wherever_they_were_written() -> None:
    whole = block(count=1, t=b"\x01" + b"\0" * 7, spans=b"", keys=(), key=b"", data=())
    assert next(events(whole, 0, "j", "d", "p")).t == 1


def test_numbers_that_stand_for_words_are_said_in_words() -> None:
    numbers = Column("label", "float32", (), packed("f", 1, 0, 7), {0: "yes", 1: "no"})
    read = decode_block(block(data=(numbers,), fixed={}).encode())
    assert [event.data for event in events(read, 1, "j", "d", "p")] == [
        {"label": "no"},
        {"label": "yes"},
        {"label": 7},
    ]
