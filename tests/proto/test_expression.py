"""The expression language: what belongs to it and what does not."""

from __future__ import annotations

import ast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeflow_proto.pipeline import expression
from edgeflow_proto.pipeline.problem import Mistake


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("x > 1", ["x"]), ("x.mean > y.std * 2", ["x.mean", "y.std"]), ("0 < x <= 1.5e3", ["x"]),
        ("not (a and b or c)", ["a", "b", "c"]), ("-x ** 2 % 3 != +.5", ["x"]), ("x", ["x"]),
        ("max(abs(x), sqrt(y)) >= min(x, 1)", ["x", "y"]), ("isnan(x) or not isfinite(y)", ["x", "y"]),
        ("abs > 1", ["abs"]), ("x == x", ["x"]), ("(x\n > 1)", ["x"]), ("öl_2 < 3", ["öl_2"]),
        ("1 < 2", []), ("  x>1  ", ["x"]), ("where(x > 0, clip(y, 0, 1), z)", ["x", "y", "z"]),
    ],
)  # fmt: skip
def test_the_language_is_accepted(text: str, columns: list[str]) -> None:
    assert expression.columns(expression.parse(text)) == columns


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("open(x) > 1", "no function 'open': 'open(x)'",
         "known: abs, atan2, ceil, clip, cos, exp, floor, isfinite, isnan, log, log10, max, min, radians, "
         "round, sin, sqrt, where"),
        ("sqr(x) > 1", "no function 'sqr': 'sqr(x)'", "did you mean 'sqrt'?"),
        ("1 < max(x)", "max takes 2 in its brackets: 'max(x)'", ""),
        ("where(x, 1) > 1", "where takes 3 in its brackets: 'where(x, 1)'", ""),
        ("x.__class__()", "not part of the expression language: 'x.__class__()'", ""),
        ("(x + 1).real > 0", "only a column name has a '.'", ""),
        ("1 + (x if y else z)", "not part of the expression language: 'x if y else z'", ""),
        ("lambda: 0", "not part of the expression language: ': 0'", ""),
        ("x[0] > 1", "not part of the expression language: '[0] > 1'", ""),
        ("x & y", "not part of the expression language: '& y'", ""),
        ("x // 2", "not part of the expression language: 'x // 2'", ""),
        ("x in y", "not part of the expression language: 'x in y'", ""),
        ("x is y", "not part of the expression language: 'x is y'", ""),
        ("'a' == x", "not part of the expression language: \"'a' == x\"", ""),
        ("x := 1", "not part of the expression language: ':= 1'", ""),
        ("x = 1", "not part of the expression language: '= 1'", ""),
        ("1x > 2", "not part of the expression language: '1x > 2'", ""),
        ("2j < x", "not part of the expression language: '2j < x'", ""),
        ("x, y", "not part of the expression language: 'x, y'", ""),
        ("x > None", "not part of the expression language: 'None'", ""),
        ("x > ", "not an expression: invalid syntax", ""),
        ("", "not an expression: invalid syntax", ""),
        ("x > 1e999", "a number is too large", ""),
        ("x > " + "9" * 400, "a number is too large", ""),
        ("-" * 200 + "x", "nested deeper than 100", ""),
        ("+".join("x" * 200), "nested deeper than 100", ""),
        ("x" * 1001, "an expression has at most 1000 characters", ""),
    ],
)  # fmt: skip
def test_anything_else_is_named(text: str, what: str, hint: str) -> None:
    with pytest.raises(Mistake) as raised:
        expression.parse(text)
    assert (raised.value.what, raised.value.hint) == (what, hint)


_SIGNS = "xy1.e+-*/%<>=!() ,andortbsm\n"


@given(
    st.text(max_size=100) | st.text(_SIGNS, max_size=100) | st.from_regex(r"([-+(]|not ){0,300}x[)]{0,300}")
)
@example("(" * 400 + "x" + ")" * 400)
@example("x" + ".x" * 499)
@example("not " * 240 + "x")
@example("\0")
def test_parse_raises_nothing_but_mistake(text: str) -> None:
    try:
        node = expression.parse(text)
    except Mistake:
        return
    assert isinstance(node, ast.expr)
    assert all(isinstance(name, str) for name in expression.columns(node))
