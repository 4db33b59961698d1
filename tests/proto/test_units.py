"""Quantities with units."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from edgeflow_proto.pipeline import units
from edgeflow_proto.pipeline.units import Duration, Extent, Frequency, Size


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Duration, "5ms", 5_000_000), (Duration, "10 s", 10 * 10**9), (Duration, " 2h ", 7200 * 10**9),
        (Duration, "1.5min", 90 * 10**9), (Duration, "3µs", 3000), (Duration, "0s", 0),
        (Duration, "1e-9s", 1), (Frequency, "1 kHz", 1000.0), (Frequency, "0.5Hz", 0.5),
        (Frequency, "2 MHz", 2e6), (Frequency, "100 mHz", 0.1),
        (Extent, 256, Extent(rows=256)), (Extent, "3 rows", Extent(rows=3)),
        (Extent, "1 row", Extent(rows=1)),
        (Extent, "2s", Extent(ns=2 * 10**9)),
        (Size, "10 MB", 10**7), (Size, "512KiB", 1 << 19), (Size, "1.5 kB", 1500),
    ],
)  # fmt: skip
def test_quantities_are_read(kind: type, text: Any, value: Any) -> None:
    read = units.decode(kind, text)
    assert read == value
    assert isinstance(read, kind)
    Draft202012Validator(kind.written).validate(text)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "text", "what"),
    [
        (Duration, "5", "expected a duration such as 5ms or 10 s, not '5'"),
        (Duration, 5, "expected a duration such as 5ms or 10 s, with its unit, not 5"),
        (Duration, True, "expected a duration such as 5ms or 10 s, not true"),
        (Duration, None, "expected a duration such as 5ms or 10 s, not an empty value"),
        (Duration, "-5ms", "expected a duration such as 5ms or 10 s, not '-5ms'"),
        (Duration, "5 kHz", "expected a duration such as 5ms or 10 s, not '5 kHz'"),
        (Duration, "1:30", "expected a duration such as 5ms or 10 s, not '1:30'"),
        (Duration, "5ms 3", "expected a duration such as 5ms or 10 s, not '5ms 3'"),
        (Duration, "٥ms", "expected a duration such as 5ms or 10 s, not '٥ms'"),
        (Duration, "300000000h", "300000000h is too long"),
        (Duration, "1e999 s", "1e999 s is too long"),
        (Frequency, "0 Hz", "expected a rate such as 100 Hz or 1 kHz, not '0 Hz'"),
        (Frequency, "5 khz", "expected a rate such as 100 Hz or 1 kHz, not '5 khz'"),
        (Frequency, "1e308 kHz", "1e308 kHz is out of range: 1e-06 to 1e+09 Hz"),
        (Frequency, "1e-300 Hz", "1e-300 Hz is out of range: 1e-06 to 1e+09 Hz"),
        (Size, "10 Mb", "expected a size such as 10 MB or 512 KiB, not '10 Mb'"),
        (Size, 10, "expected a size such as 10 MB or 512 KiB, with its unit, not 10"),
        (Size, "-1 B", "expected a size such as 10 MB or 512 KiB, not '-1 B'"),
        (Size, "1e30 GB", "1e30 GB is too large"),
        (Extent, 0, "expected 1 to 1e+12 whole rows, not 0"),
        (Extent, "1.5 rows", "expected 1 to 1e+12 whole rows, not '1.5 rows'"),
        (Extent, "1e999 rows", "expected 1 to 1e+12 whole rows, not '1e999 rows'"),
        (Extent, "0 s", "expected a number of rows or a duration such as 2s, not '0 s'"),
        (Extent, 2.5, "expected a number of rows or a duration such as 2s, with its unit, not 2.5"),
        (Extent, [3], "expected a number of rows or a duration such as 2s, not a list"),
        (Extent, "3 lines", "expected a number of rows or a duration such as 2s, not '3 lines'"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_in_plain_words(kind: type, text: Any, what: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the message is compared whole
        units.decode(kind, text)
    assert str(raised.value) == what


@given(
    st.sampled_from([Duration, Frequency, Extent, Size]), st.text(max_size=30) | st.floats() | st.integers()
)
def test_nothing_but_a_value_error_is_raised(kind: type, value: Any) -> None:
    try:
        read = units.decode(kind, value)
    except ValueError:
        return
    assert isinstance(read, kind)


@given(
    st.from_regex(r"[0-9]{1,400}(\.[0-9]*)?([eE][-+]?[0-9]{1,6})? ?(ns|us|s|h|Hz|kHz|rows)", fullmatch=True)
)
def test_no_number_overflows(text: str) -> None:
    for kind in (Duration, Frequency, Extent, Size):
        with contextlib.suppress(ValueError):
            assert units.decode(kind, text) is not None


def test_a_value_that_is_one_already_stays() -> None:
    assert units.decode(Duration, Duration(7)) == 7


def test_a_duration_knows_its_seconds() -> None:
    assert Duration(1_500_000_000).seconds == 1.5


@given(
    st.one_of(
        st.integers(0, 10**17).map(Duration),
        st.integers(0, 10**15).map(Size),
        st.integers(1, 10**12).map(lambda rows: Extent(rows=rows)),
        st.integers(1, 10**17).map(lambda ns: Extent(ns=ns)),
        st.sampled_from([0.001, 0.5, 1, 44.1, 1000, 44100, 1e6]).map(Frequency),
    )
)
def test_a_quantity_as_it_is_spelled_is_read_as_the_same(value: Duration | Size | Extent | Frequency) -> None:
    assert units.decode(type(value), units.spelled(value)) == value


def test_whole_quantities_are_exact_whatever_their_size() -> None:
    assert Duration.parse("9007199254740993 ns") == 9007199254740993
    assert Size.parse("8 TiB") == 8 << 40
    assert Size.parse("9223372036854775807 B") == (1 << 63) - 1


def test_quantities_are_spelled_in_their_largest_whole_unit() -> None:
    spelled = [
        units.spelled(v) for v in (Duration(0), Duration(90 * 10**9), Duration(1_500_000), Size(1 << 20))
    ]
    assert spelled == ["0 s", "90 s", "1500 us", "1 MiB"]
