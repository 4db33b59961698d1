"""The step kind of the author's own code."""

from __future__ import annotations

import ast
from typing import Any, ClassVar

from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.base import (
    Context,
    Dtype,
    StepKind,
    check_columns,
    check_shape,
)
from edgeflow_proto.pipeline.problem import Mistake, near_miss, shown


class Python(StepKind, frozen=True, kw_only=True):
    """A function or class on arrays from a Python file beside the pipeline: ``(n, *row)`` → ``(n, …)``.

    `function` is ``module.name``. It must give one row per row. A function keeps nothing between calls. A
    class is made with `params` as ``__init__(**params)`` and called as ``__call__(rows)``; what it
    remembers between calls survives a restart where it has ``state()``, which gives plain data and arrays,
    and ``restore(state)``; ``gap()`` tells it that rows are missing. Parameters called ``t`` (int64
    ``(n,)``, ns) and ``key`` (uint32 ``(n,)``) are given the rows' times and keys. `columns` name what
    comes of it (or `shape` says its form); without either it is one column with the step's name, or known
    only when it runs. What it prints on a device is in the pipeline's log (``edgeflow logs``).
    """

    short: ClassVar[str | None] = "function"
    function: str
    params: dict[str, Any] | None = None
    columns: list[str] | None = None
    shape: tuple[int, ...] | None = None
    dtype: Dtype = "float32"

    @property
    def module(self) -> str:
        """The module's name; its file is ``<module>.py``."""
        return self.function.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The function's name in its module."""
        return self.function.rpartition(".")[2]

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The declared form; the function must be defined in its file."""
        self._check_function(context)
        self._check_form()
        columns = None if self.columns is None else tuple(self.columns)
        shape = (len(columns),) if self.shape is None and columns else self.shape
        return {"": upstream.having(shape=shape, dtype=self.dtype, columns=columns, rate=upstream.rate)}

    def _check_form(self) -> None:
        if self.columns is not None:
            check_columns(self.columns, "columns")
        if self.shape is not None:
            check_shape(self.shape)
        if self.columns is not None and self.shape is not None and self.shape[-1] != len(self.columns):
            what = f"{len(self.columns)} columns do not fit shape {list(self.shape)}"
            raise Mistake(what, option="columns")

    def _check_function(self, context: Context) -> None:
        if not self.module or not all(part.isidentifier() for part in self.function.split(".")):
            what = f"{shown(self.function)} is not a function's name"
            raise Mistake(what, option="function", hint="module.name, as in features.spectrum")
        file = self.module.replace(".", "/") + ".py"
        source = context.files.read(file)
        if source is None:
            raise Mistake(f"no file {file} beside the pipeline", option="function")
        names = _defined(source, file)
        if self.name not in names:
            what = f"{file} defines no function or class '{self.name}'"
            raise Mistake(what, option="function", hint=near_miss(self.name, names))
        if self.params is not None and not isinstance(names[self.name], ast.ClassDef):
            raise Mistake(f"'{self.name}' is a function; only a class has any", option="params")


def _defined(source: bytes, file: str) -> dict[str, ast.FunctionDef | ast.ClassDef]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise Mistake(f"{file}:{line}: {getattr(error, 'msg', error)}", option="function") from None
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
