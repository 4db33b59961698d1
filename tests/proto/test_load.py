"""Strict YAML: what is read as what, what is refused and where."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_proto.pipeline.load import MAX_BYTES, MAX_DEPTH, MAX_TEXT, MAX_VALUES, load
from edgeflow_proto.pipeline.problem import Place


def loaded(text: str | bytes) -> object:
    source, problems = load(text, "f")
    assert not problems
    assert source is not None
    return source.data


def refused(text: str | bytes) -> list[str]:
    _, problems = load(text, "f")
    return [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("off", "off"), ("y", "y"),
        ("1:30", "1:30"), ("12:30:45", "12:30:45"), ("2001-01-01", "2001-01-01"), ("1_000", "1_000"),
        ("0b11", "0b11"), ("true", True), ("False", False), ("~", None), ("null", None), ("", None),
        ("'true'", "true"), ('"1"', "1"), ("0", 0), ("-7", -7), ("+7", 7), ("0x1F", 31), ("0o17", 15),
        ("0.5", 0.5), (".5", 0.5), ("1e3", 1000.0), ("-1.5E-2", -0.015), ("1.", 1.0),
        (".inf", math.inf), ("-.INF", -math.inf), ("5ms", "5ms"), ("1 kHz", "1 kHz"), ("$limit", "$limit"),
        ("18446744073709551615", 2**64 - 1), ("-9223372036854775808", -(2**63)),
        ("=", "="), ("'<<'", "<<"), ("|\n  two\n  lines", "two\nlines"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_the_core_schema(text: str, value: object) -> None:
    data = loaded(f"a: {text}")
    assert data == {"a": value}
    assert type(data["a"]) is type(value)  # type: ignore[index]


def test_nan_is_a_number() -> None:
    data = loaded("a: .nan")
    assert isinstance(data, dict)
    assert math.isnan(data["a"])


def test_keys_are_words_whatever_they_look_like() -> None:
    assert loaded("no: 1\non: 2\n1: 3\n~: 4\ntrue: 5\n1:30: 6") == {
        "no": 1, "on": 2, "1": 3, "~": 4, "true": 5, "1:30": 6,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 2\na: 3", "f:3:1: 'a' is there twice (first in line 1)"),
        ("s:\n  w: {x: 1, x: 2}", "f:2:13: s.w: 'x' is there twice (first in line 2)"),
        ("a: &x 1", "f:1:4: a: anchors (&x) are not used here (write it out)"),
        ("a: *x", "f:1:4: a: aliases (*x) are not used here (write it out)"),
        ("<<: {a: 1}", "f:1:1: merge keys (<<) are not used here (write it out)"),
        ("a: !!str 1", "f:1:4: a: tags (!!str) are not used here"),
        ("a: !!set {b}", "f:1:4: a: tags (!!set) are not used here"),
        ("a: !!python/object/apply:os.system ['true']",
         "f:1:4: a: tags (!!python/object/apply:os.system) are not used here"),
        ("a: [!own 1]", "f:1:5: a[0]: tags (!own) are not used here"),
        ("a: 010", "f:1:4: a: 010 starts with a zero (quote it if it is text)"),
        ("a: -01.5", "f:1:4: a: -01.5 starts with a zero (quote it if it is text)"),
        ("a: 18446744073709551616",
         "f:1:4: a: 18446744073709551616 is too large a number (quote it if it is text)"),
        ("a: 1e999", "f:1:4: a: 1e999 is too large a number (quote it if it is text)"),
        ("? [a]\n: 1", "f:1:3: a key must be a plain word"),
        ("a: 1\n---\nb: 2", "f:2:1: a second document begins here (one file, one document)"),
        ("%YAML 1.1\n---\na: 1", "f:1:1: directives (%YAML, %TAG) are not used here"),
        ("a:\n\tb: 1", "f:2:1: a tab cannot stand here (indent with spaces)"),
        ("a: b: c", "f:1:5: a ':' too many (quote text that has one; begin a new line for a new key)"),
        ("a: [1, 2", "f:1:9: expected ',' or ']', but got '<stream end>' (while parsing a flow sequence)"),
        ("a: 'x", "f:1:6: found unexpected end of stream (while scanning a quoted scalar)"),
        ("a: 1\nb: \x07", "f:2:4: character U+0007 cannot stand in YAML"),
        ('a: "\\ud83d"', "f:1:4: a: half of a surrogate pair is no character"),
        ("", "f:1:1: the file is empty"),
        ("# only a remark\n", "f:1:1: the file is empty"),
        (b"a: 1\nb: \xff", "f:2:4: not UTF-8 text: invalid start byte"),
        ("a: 1".encode("utf-16"), "f:1:1: not UTF-8 text: invalid start byte"),
    ],
)  # fmt: skip
def test_surprises_are_refused_where_they_stand(text: str | bytes, line: str) -> None:
    assert refused(text) == [line]


def test_everything_after_a_refused_value_is_still_read() -> None:
    source, problems = load("a: &x 007\nb: [*x, 2]\na: 3\nc: fine", "f")
    assert source is not None
    assert source.data == {"a": None, "b": [None, 2], "c": "fine"}
    assert [(problem.line, problem.where) for problem in problems] == [
        (1, "a"),
        (1, "a"),
        (2, "b[0]"),
        (3, ""),
    ]


def test_places_are_those_of_keys_and_elements() -> None:
    source, _ = load("a:\n  b: [x, y]\n", "f")
    assert source is not None
    assert source.place(("a", "b")) == Place(2, 3)
    assert source.place(("a", "b", 1)) == Place(2, 10)
    assert source.place(("a", "gone", "deeper")) == Place(1, 1)


def test_a_byte_order_mark_is_no_text() -> None:
    assert loaded(b"\xef\xbb\xbfa: 1") == {"a": 1}
    assert loaded("\ufeffa: 1") == {"a": 1}


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdeé😀 ", max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(_JSON, st.sampled_from([None, 1, 2, "\t"]))
def test_json_is_read_as_json(value: object, indent: int | str | None) -> None:
    assert loaded(json.dumps(value, indent=indent)) == value


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[" * 100_000, f"nested deeper than {MAX_DEPTH}"),
        ("- " * 100_000, f"nested deeper than {MAX_DEPTH}"),
        ("{a: " * 100_000, f"nested deeper than {MAX_DEPTH}"),
        ("{" * 100_000, f"nested deeper than {MAX_DEPTH}"),
        ("? " * 100_000, f"nested deeper than {MAX_DEPTH}"),
        ("\n".join(" " * depth + "a:" for depth in range(1000)), f"nested deeper than {MAX_DEPTH}"),
        ("[" + "1," * 500_000 + "1]", f"more than {MAX_VALUES} keys and values"),
        ("".join(f"k{i}: 1\n" for i in range(80_000)), f"more than {MAX_VALUES} keys and values"),
        ("a: " + "1" * 1_000_000, f"a value has at most {MAX_TEXT} characters, this one 1000000"),
        ("a: " + "x" * 1_000_000, f"a value has at most {MAX_TEXT} characters, this one 1000000"),
        ("#\n" * (MAX_BYTES // 2 + 1), "the file is larger than 1 MiB"),
        (b"\xff" * (MAX_BYTES + 1), "the file is larger than 1 MiB"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_a_hostile_file_is_refused_at_a_limit(text: str | bytes, what: str) -> None:
    assert what in [problem.what for problem in load(text, "f")[1]]


def test_aliases_do_not_multiply() -> None:
    lines = ["a0: &a0 [lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    source, problems = load("\n".join(lines), "f")
    assert source is not None
    assert source.data["a9"] == [None] * 9
    assert len(problems) == 10 + 9 * 9


def test_a_message_is_one_line_without_control_characters() -> None:
    _, problems = load('"\\e[31m\\n": 1\n"\\e[31m\\n": 2', "f")
    assert [str(problem) for problem in problems] == [
        "f:2:1: '\\x1b[31m\\n' is there twice (first in line 1)"
    ]


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_no_text_makes_it_raise(text: str | bytes) -> None:
    source, problems = load(text, "f")
    assert source is not None or problems


@given(st.text("ab:-? \n[]{}&*!|>'\"%#,0<\\", max_size=60))
def test_no_text_of_yaml_signs_makes_it_raise(text: str) -> None:
    source, problems = load(text, "f")
    assert source is not None or problems
