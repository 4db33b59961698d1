"""Step kinds that cut rows anew: stretches of rows, rows at other times, rows of several edges together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import msgspec

from edgeflow_proto.pipeline.flow import MAX_COLUMNS, Flow, in_step
from edgeflow_proto.pipeline.kinds.base import Context, StepKind
from edgeflow_proto.pipeline.problem import Mistake
from edgeflow_proto.pipeline.units import Duration, Extent, Frequency

MAX_WINDOW = 1_000_000
MAX_SOURCES = 16


class Window(StepKind, frozen=True, kw_only=True):
    """Overlapping stretches of rows, per key: every `hop` rows, the last `size` of them.

    One row in is one sample; one row out is ``(size, …)``. Durations are turned into rows by the rate of what
    is read. Without `hop` windows follow each other (tumbling). With ``pad: start`` the first window comes
    after `hop` rows already, with zeros in the place of rows before the first. Windows do not straddle a gap.
    """

    short: ClassVar[str | None] = "size"
    size: Extent
    hop: Extent | None = None
    pad: Literal["start"] | None = None

    def rows(self, rate: float | None) -> tuple[int, int]:
        """Return size and hop in rows; raises Mistake when they are out of bounds or no rate is known."""
        size = _counted(self.size, rate, "size")
        hop = size if self.hop is None else _counted(self.hop, rate, "hop")
        if self.pad and hop > size:
            raise Mistake("nothing to pad: windows leave rows out", option="pad")
        return size, hop

    def history(self, rate: float | None) -> int:
        """The size."""
        return self.size.rows or round((self.size.ns or 0) * 1e-9 * (rate or 0.0))

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """Rows of shape ``(size, *row)``."""
        if upstream.rate is None and not upstream.inputs and (self.size.ns or (self.hop and self.hop.ns)):
            return {"": upstream.having(shape=None, dtype=upstream.dtype, columns=upstream.columns)}
        size, hop = self.rows(upstream.rate)
        shape = None if upstream.shape is None else (size, *upstream.shape)
        rate = None if upstream.rate is None else upstream.rate / hop
        form = upstream.having(shape=shape, dtype=upstream.dtype, columns=upstream.columns, rate=rate)
        return {"": msgspec.structs.replace(form, sample_rate=upstream.rate)}


def _counted(extent: Extent, rate: float | None, option: str) -> int:
    if extent.rows is None and rate is None:
        raise Mistake(
            "a duration needs a rate", option=option, hint="state the input's rate, resample, or count rows"
        )
    rows = extent.rows or round((extent.ns or 0) * 1e-9 * (rate or 0.0))
    if not 1 <= rows <= MAX_WINDOW:
        raise Mistake(f"must be between 1 and {MAX_WINDOW} rows", option=option)
    return rows


class Batch(StepKind, frozen=True, kw_only=True):
    """Every `size` rows, whatever their keys, as one row ``(size, *row)`` with time and key of the last."""

    short: ClassVar[str | None] = "size"
    mixes_keys: ClassVar[bool] = True
    size: int

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """Rows of shape ``(size, *row)``."""
        if not 1 <= self.size <= MAX_WINDOW:
            raise Mistake(f"must be between 1 and {MAX_WINDOW} rows", option="size")
        shape = None if upstream.shape is None else (self.size, *upstream.shape)
        rate = None if upstream.rate is None or upstream.key else upstream.rate / self.size
        return {"": upstream.having(shape=shape, dtype=upstream.dtype, columns=upstream.columns, rate=rate)}


class Resample(StepKind, frozen=True, kw_only=True):
    """Rows at even times, per key: at each multiple of the period on the clock of the rows.

    The period is given as `rate` or as `every`; ``every: 15 min`` of rows that carry their time are the
    quarters of the hour. `linear` interpolates between the rows around such a time, `previous` takes the
    last row up to it, `mean` the average of the rows since the time before (no row where there are none). A
    row comes as soon as a row at or past its time has come (past it, for `mean`). Across a gap, and where
    two rows are further apart than `max_gap` (ten periods unless said), nothing is made up. Floats only, but
    for `previous`.
    """

    short: ClassVar[str | None] = "rate"
    rate: Frequency | None = None
    every: Duration | None = None
    method: Literal["linear", "previous", "mean"] = "linear"
    max_gap: Duration | None = None

    @property
    def period_ns(self) -> int:
        """Time between two rows, in nanoseconds."""
        return max(1, round(1e9 / self.rate) if self.rate else int(self.every or 0))

    @property
    def max_gap_ns(self) -> int:
        """The longest time between two rows that is bridged, in nanoseconds."""
        return 10 * self.period_ns if self.max_gap is None else int(self.max_gap)

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The same rows at another rate."""
        if (self.rate is None) == (self.every is None):
            raise Mistake("name either a rate or every how long")
        if self.every == 0:
            raise Mistake("must be longer than nothing", option="every")
        if self.method != "previous" and upstream.dtype not in ("float32", "float64", None):
            raise Mistake(
                f"cannot average rows of {upstream.dtype}", option="method", hint="previous, or cast first"
            )
        form = upstream.having(shape=upstream.shape, dtype=upstream.dtype, columns=upstream.columns)
        # A key's row waits for the key's next one, while rows of other keys go by.
        return {"": msgspec.structs.replace(form, rate=1e9 / self.period_ns, timely=upstream.key is None)}


class Join(StepKind, frozen=True, kw_only=True):
    """Rows of the first source with, beside each, the last row of every other source up to its time.

    A row older than `tolerance` counts as missing: the whole row is left out (``missing: drop``) or the
    columns are NaN (``missing: nan``). Rows of the same key belong together; a source without keys belongs to
    every key. Where all sources come from one input, or one join, its order of rows decides and no row waits;
    else a row waits until the other inputs have come past its time. Columns that two sources name alike are
    told apart by what `from` calls the sources: ``from: {a: accel, b: gyro}`` gives ``a.x`` and ``b.x``.
    """

    short: ClassVar[str | None] = "tolerance"
    sources: ClassVar[tuple[int, int]] = (2, MAX_SOURCES)
    tolerance: Duration
    missing: Literal["drop", "nan"] = "drop"

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The columns of all sources side by side."""
        flows = context.upstreams
        met = self._ordered(_met(flows), flows, context.entry)
        for label, flow in flows.items():
            if flow.shape is not None and (len(flow.shape) != 1 or flow.columns is None):
                raise Mistake(f"'{label}' has no rows of columns", option="from")
        if any(flow.columns is None or flow.dtype is None for flow in flows.values()):
            return {"": met.having(shape=None, dtype=upstream.dtype, columns=None)}
        if self.missing == "nan" and upstream.dtype not in ("float32", "float64"):
            raise Mistake(f"{upstream.dtype} has no NaN", option="missing")
        columns = joined_columns({label: flow.columns or () for label, flow in flows.items()})
        if len(columns) > MAX_COLUMNS:
            raise Mistake(f"makes more than {MAX_COLUMNS} columns", option="from")
        came = [(flow.codes, name) for flow in flows.values() for name in flow.columns or ()]
        words = zip(columns, came, strict=True)
        codes = {column: codes[name] for column, (codes, name) in words if name in codes}
        form = met.having(shape=(len(columns),), dtype=upstream.dtype, columns=columns, codes=codes)
        return {"": msgspec.structs.replace(form, rate=upstream.rate if self.missing == "nan" else None)}

    def _ordered(self, met: Flow, flows: Mapping[str, Flow], entry: str) -> Flow:
        """Return what is joined as rows in the first source's order, where spans tell that order."""
        first, *others = flows.values()
        alone = not any(name in flow.inputs for name in first.inputs[:1] for flow in others)
        if met.prompt or not in_step([first]) or not alone:
            return met
        return msgspec.structs.replace(met, met=entry, prompt=True)


def joined_columns(columns: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the columns of several sources side by side; raises Mistake where two have one name.

    All are as they were where no two are alike, else all have what their source is called before them.
    """
    plain = [name for names in columns.values() for name in names]
    if len({*plain}) == len(plain):
        return tuple(plain)
    named = [f"{label}.{name}" for label, names in columns.items() for name in names]
    if len({*named}) < len(named):
        double = next(name for name in named if named.count(name) > 1)
        raise Mistake(f"two columns would be called '{double}'", option="from")
    return tuple(named)


class Merge(StepKind, frozen=True, kw_only=True):
    """The rows of several sources as one stream, in the order of the input's rows or of their times.

    The sources' rows must be alike. Rows at the same place come in the order in which `from` names them.
    """

    sources: ClassVar[tuple[int, int]] = (2, MAX_SOURCES)

    def flows(self, upstream: Flow, context: Context) -> dict[str, Flow]:
        """The same rows."""
        met = _met(context.upstreams)
        for label, flow in context.upstreams.items():
            if flow.key is None and upstream.key is not None and flow.inputs:
                raise Mistake(f"'{label}' has no keys, '{next(iter(context.upstreams))}' has", option="from")
            if _differs(flow.shape, upstream.shape) or _differs(flow.columns, upstream.columns):
                raise Mistake(f"the rows of '{label}' are of another form than the first", option="from")
            if flow.columns and upstream.columns and flow.codes != upstream.codes:
                raise Mistake(f"the numbers of '{label}' stand for other words", option="from")
        return {"": msgspec.structs.replace(met, rate=None)}


def _differs(one: object, other: object) -> bool:
    return one is not None and other is not None and one != other


def _met(flows: Mapping[str, Flow]) -> Flow:
    """Return a flow with the inputs, key and clock of several; raises Mistake where they do not meet."""
    first = next(iter(flows.values()))
    known = {label: flow for label, flow in flows.items() if flow.inputs}
    for label, flow in known.items():
        if _differs(flow.dtype, first.dtype):
            raise Mistake(f"'{label}' is {flow.dtype}, the first {first.dtype}", option="from", hint="cast")
        if first.inputs and flow.domain != first.domain:
            what = f"the times of '{label}' are those of another clock ({flow.domain}, not {first.domain})"
            raise Mistake(what, option="from")
        if (
            first.inputs
            and flow.key is not None
            and (flow.key, flow.inputs[0]) != (first.key, first.inputs[0])
        ):
            what = f"'{label}' has keys of its own"
            raise Mistake(what, option="from", hint="keys agree within one input; put the keyed one first")
    inputs = tuple(dict.fromkeys(name for flow in known.values() for name in flow.inputs))
    ordered = in_step(list(flows.values()))
    for label, flow in flows.items():
        if not ordered and not flow.timely:
            what = f"the rows of '{label}' do not come in the order of time"
            raise Mistake(what, option="from", hint="resample keys apart only behind this")
    return msgspec.structs.replace(first, inputs=inputs, prompt=ordered)
