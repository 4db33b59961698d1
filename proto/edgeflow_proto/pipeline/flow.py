"""What runs along an edge of the graph, as far as it is known before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

DTYPES = ("float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "bool")
ITEM_BYTES = dict(zip(DTYPES, (4, 8, 1, 1, 2, 2, 4, 4, 8, 1), strict=True))
MAX_COLUMNS = 4096


class Flow(msgspec.Struct, frozen=True):
    """Rows of one edge.

    `shape` is the shape of one row (``(256, 3)`` for a window of three columns), ``None`` where only
    running tells. `columns` name the last axis. `rate` is rows per second and key, ``None`` if not
    stated. `inputs` are the inputs the rows come from (none: nothing is known of them); `key` is what
    tells their sources apart, if anything; `domain` is the clock of their times. `met` is the step that
    put rows of several inputs in one order, that of its first source. A `prompt` row comes in the same call
    as the last row behind it, of its input or of what `met` gives; others wait for time to pass. `timely`
    rows come in the order of their times. `codes` are the words that the whole numbers of a column stand
    for, from 0 on. `sample_rate` is the rate of the rows inside a window.
    """

    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    columns: tuple[str, ...] | None = None
    rate: float | None = None
    inputs: tuple[str, ...] = ()
    key: str | None = None
    domain: str = "arrival"
    met: str = ""
    prompt: bool = True
    timely: bool = True
    sample_rate: float | None = None
    codes: Mapping[str, tuple[str, ...]] = {}

    @property
    def size(self) -> int | None:
        """Number of values in one row."""
        return None if self.shape is None else math.prod(self.shape)

    def having(
        self,
        *,
        shape: tuple[int, ...] | None,
        dtype: str | None,
        columns: tuple[str, ...] | None,
        rate: float | None = None,
        codes: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Flow:
        """Return the flow of a step: another form of row, same inputs, key and clock."""
        form = {"shape": shape, "dtype": dtype, "columns": columns, "rate": rate, "codes": codes or {}}
        return msgspec.structs.replace(self, **form)


def in_step(flows: Sequence[Flow]) -> bool:
    """Whether flows can be put in one order by the rows of the one input, or join, they all come from.

    It is then the order of the rows of their first input.
    """
    return (
        len({(flow.inputs, flow.met) for flow in flows}) == 1
        and (len(flows[0].inputs) == 1 or flows[0].met != "")
        and all(flow.prompt for flow in flows)
    )
