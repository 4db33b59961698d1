"""The expression language of `filter`: comparisons and arithmetic over columns.

Grammar: Python's own for numbers, column names (dotted ones too), ``+ - * / % **``, comparisons
(chained ones too), ``and or not``, and the functions `FUNCTIONS`. It is parsed with `ast` and
never evaluated as Python.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from edgeflow_proto.pipeline.problem import Mistake

FUNCTIONS = {"abs": 1, "sqrt": 1, "log": 1, "exp": 1, "isnan": 1, "isfinite": 1, "min": 2, "max": 2}
MAX_LENGTH = 1000
_COMPARE = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod, ast.Pow)


def parse(text: str) -> ast.expr:
    """Parse an expression; raises Mistake naming what is not part of the language."""
    if len(text) > MAX_LENGTH:
        raise Mistake(f"an expression has at most {MAX_LENGTH} characters")
    try:
        body = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Mistake(f"not an expression: {getattr(error, 'msg', error)}") from None
    _check(body)
    return body


def columns(node: ast.expr) -> list[str]:
    """Return the column names an expression reads, each once, in order."""
    return list(dict.fromkeys(_columns(node)))


def column_name(node: ast.expr) -> str | None:
    """Return ``x.mean`` for the nodes that spell it, else ``None``."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = column_name(node.value)
        return None if head is None else f"{head}.{node.attr}"
    return None


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
    raise Mistake(f"not part of the expression language: {ast.unparse(node)}")


def _check(node: ast.expr) -> None:
    for part in operands(node):
        _check(part)
    if isinstance(node, ast.Attribute) and column_name(node) is None:
        raise Mistake(f"not a column name: {ast.unparse(node)}")


def _columns(node: ast.expr) -> Iterator[str]:
    name = column_name(node)
    if name is not None:
        yield name
    for part in operands(node):
        yield from _columns(part)
