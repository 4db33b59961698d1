"""`python`: a function on arrays from a file beside the pipeline."""

from __future__ import annotations

import numpy as np

from edgeflow_agent.core.batch import Batch, Values
from edgeflow_agent.core.ports import Operator, StepContext
from edgeflow_agent.operators.author import blamed, load_function
from edgeflow_proto.pipeline.kinds.base import default_columns
from edgeflow_proto.pipeline.kinds.steps import python


class PythonStep(Operator):
    """``(n, *row)`` → ``(n, …)`` by the author's function, which sees the rows read-only.

    What it gives must have one row per row, always of the same shape, and fit the declared shape and
    dtype (float64 becomes float32 where that is declared). ``(n,)`` is one column.
    """

    def __init__(self, options: python.Python, context: StepContext) -> None:
        self._function = load_function(context.folder, options.module, options.name)
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
            result = self._function(values)
        except (Exception, SystemExit) as error:
            raise blamed(error, self._folder) from error
        checked = self._checked(np.asarray(result), len(batch))
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
