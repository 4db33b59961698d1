"""`select` and `filter`: some of the columns, some of the rows."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np

from edgeflow_agent.core.batch import Batch
from edgeflow_agent.core.ports import Operator, OperatorFactory, StepContext
from edgeflow_proto.pipeline import expression
from edgeflow_proto.pipeline.kinds.steps import columns

Term = Callable[[Batch], Any]  # rows → one number or truth for each of them, or one for all


class Select(Operator):
    """``(n, …, columns)`` → ``(n, …, chosen)``, in the order named."""

    def __init__(self, options: columns.Select, context: StepContext) -> None:
        self._columns = tuple(options.columns)
        self._index: dict[tuple[str, ...] | None, list[int]] = {}

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return all rows, fewer columns."""
        index = self._index.get(batch.columns)
        if index is None:
            index = self._index[batch.columns] = positions(batch.columns, self._columns)
        return {"": batch.having(batch.values[..., index], self._columns)}


class Filter(Operator):
    """The rows for which an expression holds."""

    def __init__(self, options: columns.Filter, context: StepContext) -> None:
        self._where = compiled(expression.parse(options.where))

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return those rows."""
        with np.errstate(all="ignore"):  # 1/0 is inf, as everywhere in this field
            holds = np.broadcast_to(truth(self._where(batch)), len(batch))
        return {"": batch if holds.all() else batch.take(holds)}


select_columns: OperatorFactory = Select
filter_rows: OperatorFactory = Filter


def compiled(node: ast.expr) -> Term:
    """Make a term of numpy calls out of a parsed expression.

    Floats are computed with in their own precision, other numbers in float64. A comparison with NaN is
    false, ``!=`` too; by itself a number is true when it is not 0.
    """
    name = expression.column_name(node)
    if name is not None:
        return partial(_column, name)
    if isinstance(node, ast.Constant):
        number = float(node.value)  # type: ignore[arg-type]
        return lambda _: number
    parts = [compiled(part) for part in expression.operands(node)]
    combine = _combiner(node)
    return lambda batch: combine(*[part(batch) for part in parts])


def _combiner(node: ast.expr) -> Callable[..., Any]:
    match node:
        case ast.BoolOp(op=op):
            return partial(_logical, np.logical_and if isinstance(op, ast.And) else np.logical_or)
        case ast.UnaryOp(op=op) if isinstance(op, ast.Not):
            return lambda value: np.logical_not(truth(value))
        case ast.UnaryOp(op=op) | ast.BinOp(op=op):
            return partial(_arithmetic, _OPERATORS[type(op)])
        case ast.Compare(ops=ops):
            return partial(_chain, [_COMPARISONS[type(op)] for op in ops])
    return partial(_arithmetic, _FUNCTIONS[node.func.id])  # type: ignore[attr-defined]


def _unequal(left: Any, right: Any) -> Any:
    return np.logical_or(np.less(left, right), np.greater(left, right))


def _where(condition: Any, chosen: Any, other: Any) -> Any:
    return np.where(truth(condition), chosen, other)


_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.UAdd: np.positive, ast.USub: np.negative, ast.Add: np.add, ast.Sub: np.subtract,
    ast.Mult: np.multiply, ast.Div: np.true_divide, ast.Mod: np.remainder, ast.Pow: np.power,
}  # fmt: skip
_COMPARISONS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Lt: np.less, ast.LtE: np.less_equal, ast.Gt: np.greater, ast.GtE: np.greater_equal,
    ast.Eq: np.equal, ast.NotEq: _unequal,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs, "sqrt": np.sqrt, "log": np.log, "log10": np.log10, "exp": np.exp, "isnan": np.isnan,
    "isfinite": np.isfinite, "min": np.minimum, "max": np.maximum, "floor": np.floor, "ceil": np.ceil,
    "round": np.rint, "sin": np.sin, "cos": np.cos, "atan2": np.arctan2, "radians": np.radians,
    "clip": np.clip, "where": _where,
}  # fmt: skip


def positions(columns: tuple[str, ...] | None, names: Sequence[str]) -> list[int]:
    """Return where columns stand; raises ValueError where one is not there."""
    return [_position(columns, name) for name in names]


def _position(columns: tuple[str, ...] | None, name: str) -> int:
    if columns is None or name not in columns:
        raise ValueError(f"no column '{name}'")
    return columns.index(name)


def _column(name: str, batch: Batch) -> Any:
    return _number(batch.values[..., _position(batch.columns, name)])


def _number(value: Any) -> Any:
    """Floats as they are, anything else as float64, where nothing overflows and truths add up."""
    return value if np.asarray(value).dtype.kind == "f" else np.asarray(value, np.float64)


def truth(value: Any) -> Any:
    """Return truths as they are; a number is true when it is not 0."""
    return value if np.asarray(value).dtype.kind == "b" else _unequal(value, 0)


def _arithmetic(function: Callable[..., Any], *values: Any) -> Any:
    return function(*[_number(value) for value in values])


def _logical(function: Callable[..., Any], *values: Any) -> Any:
    return reduce(function, [truth(value) for value in values])


def _chain(comparisons: list[Callable[..., Any]], *values: Any) -> Any:
    pairs = zip(comparisons, values[:-1], values[1:], strict=True)
    return reduce(np.logical_and, [compare(left, right) for compare, left, right in pairs])
