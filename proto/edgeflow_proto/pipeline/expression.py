"""The expression language of `filter`, `map` and `route`: comparisons and arithmetic over columns.

Grammar: Python's own for numbers, column names (dotted ones too), ``+ - * / % **``, comparisons
(chained ones too), ``and or not``, and the functions `FUNCTIONS`: ``log`` is the natural one, ``round``
goes half to even, angles are in radians (``radians`` makes them of degrees), ``where(c, a, b)`` is a where
c holds and else b, ``clip(x, low, high)`` is x within both. It is parsed with `ast` and never evaluated as
Python.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from typing import Any

from edgeflow_proto.pipeline.problem import Mistake, near_miss, shown

FUNCTIONS = {
    "abs": 1, "sqrt": 1, "log": 1, "log10": 1, "exp": 1, "isnan": 1, "isfinite": 1, "min": 2, "max": 2,
    "floor": 1, "ceil": 1, "round": 1, "sin": 1, "cos": 1, "atan2": 2, "radians": 1, "clip": 3, "where": 3,
}  # fmt: skip
MAX_LENGTH = 1000
MAX_DEPTH = 100
_COMPARE = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod, ast.Pow)
# Nothing else reaches Python's parser, which warns of some things and is slow to refuse others.
_TOKENS = re.compile(
    r"\s*(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?(?!\w)|[^\W\d]\w*|\*\*|[<>=!]=|[-+*/%<>().,])"
)


def parse(text: str) -> ast.expr:
    """Parse an expression; raises Mistake naming what is not part of the language."""
    if len(text) > MAX_LENGTH:
        raise Mistake(f"an expression has at most {MAX_LENGTH} characters")
    _check_tokens(text.strip())
    try:
        body = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Mistake(f"not an expression: {getattr(error, 'msg', error)}") from None
    _check(body, text.strip(), 1)
    return body


def _check_tokens(text: str) -> None:
    at = 0
    while at < len(text):
        match = _TOKENS.match(text, at)
        if match is None:
            raise Mistake(f"not part of the expression language: {shown(text[at:].strip())}")
        at = match.end()


def columns(node: ast.expr) -> list[str]:
    """Return the column names an expression reads, each once, in order."""
    return list(dict.fromkeys(_columns(node)))


def column_name(node: ast.expr) -> str | None:
    """Return ``x.mean`` for the nodes that spell it, else ``None``."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def operands(node: ast.expr) -> list[ast.expr]:
    """Return the parts of a node of the language; raises Mistake for any other node."""
    match node:
        case ast.Constant(value=bool() | int() | float()) | ast.Name() | ast.Attribute():
            return []
        case ast.BoolOp(values=values):
            return values
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd(), operand=operand):
            return [operand]
        case ast.BinOp(op=op, left=left, right=right) if isinstance(op, _ARITHMETIC):
            return [left, right]
        case ast.Compare(ops=ops, left=left, comparators=rest) if all(isinstance(op, _COMPARE) for op in ops):
            return [left, *rest]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if FUNCTIONS.get(name) == len(args):
            return args
    raise _foreign(node)


def _foreign(node: ast.expr) -> Mistake:
    match node:
        case ast.Call(func=ast.Name(id=name)) if name in FUNCTIONS:
            return Mistake(f"{name} takes {FUNCTIONS[name]} in its brackets")
        case ast.Call(func=ast.Name(id=name)):
            every = f"known: {', '.join(sorted(FUNCTIONS))}"
            return Mistake(f"no function '{name}'", hint=near_miss(name, FUNCTIONS) or every)
    return Mistake("not part of the expression language")


def _check(node: ast.expr, text: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Mistake(f"nested deeper than {MAX_DEPTH}")
    try:
        parts = operands(node)
    except Mistake as mistake:
        what = f"{mistake.what}: {shown(ast.get_source_segment(text, node) or text)}"
        raise Mistake(what, hint=mistake.hint) from None
    for part in parts:
        _check(part, text, depth + 1)
    if isinstance(node, ast.Attribute) and column_name(node) is None:
        raise Mistake("only a column name has a '.'")
    if isinstance(node, ast.Constant) and not _is_finite(node.value):
        raise Mistake("a number is too large")


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def _columns(node: ast.expr) -> Iterator[str]:
    name = column_name(node)
    if name is not None:
        yield name
    for part in operands(node):
        yield from _columns(part)
