"""`python`: a function or class on arrays from a file beside the pipeline."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from edgeflow_agent.core.batch import Batch, Values
from edgeflow_agent.core.errors import AuthorError
from edgeflow_agent.core.ports import Operator, StepContext
from edgeflow_agent.operators.author import blamed, load_function
from edgeflow_proto.pipeline.kinds.base import default_columns
from edgeflow_proto.pipeline.kinds.steps import python

log = logging.getLogger("edgeflow.python")


class PythonStep(Operator):
    """``(n, *row)`` → ``(n, …)`` by the author's function, which sees the rows read-only.

    What it gives must have one row per row, always of the same shape, and fit the declared shape and
    dtype (float64 becomes float32 where that is declared). ``(n,)`` is one column.
    """

    def __init__(self, options: python.Python, context: StepContext, function: Callable[..., Any]) -> None:
        self._function = function
        self._wants = _wanted(function)
        self._options, self._folder, self._entry = options, context.folder, context.name
        self._dtype = np.dtype(options.dtype)
        self._shape, self._columns = context.flows[""].shape, context.flows[""].columns

    def __call__(self, batch: Batch) -> dict[str, Batch]:
        """Return what the function makes of the rows; raises AuthorError or ValueError."""
        values = batch.values
        if values.flags.writeable:  # other processes may see the same memory
            values = values.view()
            values.flags.writeable = False
        try:
            if self._wants:
                result = self._function(values, **{name: getattr(batch, name) for name in self._wants})
            else:
                result = self._function(values)
        except (Exception, SystemExit) as error:
            raise blamed(error, self._folder) from error
        checked = self._checked(np.asarray(result), len(batch.t))
        return {"": batch.having(checked, self._columns)}

    def _checked(self, result: Values, rows: int) -> Values:
        if result.shape[:1] != (rows,):
            raise ValueError(f"{self._options.function} gave shape {list(result.shape)} for {rows} rows")
        if result.ndim == 1:
            result = result[:, None]
        if result.shape[1:] != self._shape:
            self._check_shape(result.shape[1:])
        if result.dtype == self._dtype:
            return result
        if not np.can_cast(result.dtype, self._dtype, "same_kind"):
            raise ValueError(f"{self._options.function} gave {result.dtype}, not {self._dtype}")
        return result.astype(self._dtype)

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        """Hold rows to the declared shape, or to the first ones where none is declared."""
        if self._shape is not None:
            said = self._options.function
            raise ValueError(f"{said} gave rows of shape {list(shape)}, not {list(self._shape)}")
        self._shape, self._columns = shape, default_columns(self._entry, shape)


class PythonObject(PythonStep):
    """The same by an object of the author's class, which may remember what it has seen.

    What its ``state()`` gives must be plain data and arrays; where it later gives anything else, that is
    logged and the object begins anew after a restart.
    """

    stateless: ClassVar[bool] = False

    def __init__(self, options: python.Python, context: StepContext, made: Callable[..., Any]) -> None:
        try:
            self._object = made(**(options.params or {}))
        except (Exception, SystemExit) as error:
            raise blamed(error, context.folder) from error
        if not callable(self._object):
            raise ValueError(f"{options.function} has no __call__")
        super().__init__(options, context, self._object)
        if not is_plain(self._asked("state")):
            raise ValueError(f"what {options.function}.state() gives is not plain data and arrays")

    def _asked(self, method: str, *arguments: Any) -> Any:
        """Call a method of the object where it has it; raises AuthorError."""
        found = getattr(self._object, method, None)
        try:
            return None if found is None else found(*arguments)
        except (Exception, SystemExit) as error:
            raise blamed(error, self._folder) from error

    def gap(self) -> None:
        """Tell the object that rows are missing."""
        self._asked("gap")

    def state(self) -> Any:
        """Return what the object remembers, ``None`` where that cannot be kept."""
        try:
            state = self._asked("state")
        except AuthorError as error:
            log.warning("steps.%s: its state is not kept: %s", self._entry, error)
            return None
        if is_plain(state):
            return state
        log.warning("steps.%s: its state is not kept: it is not plain data and arrays", self._entry)
        return None

    def restore(self, state: Any) -> None:
        """Give the object back what it remembered; raises AuthorError."""
        self._asked("restore", state)


def python_step(options: python.Python, context: StepContext) -> Operator:
    """Return the step of the author's function or class; raises ValueError or AuthorError."""
    found = load_function(context.folder, options.module, options.name)
    return (PythonObject if isinstance(found, type) else PythonStep)(options, context, found)


def is_plain(value: Any) -> bool:
    """Say whether a value is plain data and arrays of numbers, which survive a restart."""
    match value:
        case None | bool() | int() | float() | str() | bytes() | np.generic():
            return True
        case np.ndarray():
            return value.dtype.kind in "biuf"
        case list() | tuple():
            return all(map(is_plain, value))
        case dict():
            return all(isinstance(key, str | int) and is_plain(each) for key, each in value.items())
    return False


def _wanted(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return which of a batch's columns a function asks for by the names of its parameters."""
    try:
        names = inspect.signature(function).parameters
    except (TypeError, ValueError):  # something built in
        return ()
    return tuple(name for name in ("t", "key") if name in names)
