"""Steps at work in a test: rows, cut into calls in any way, through one step or a whole pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from edgeflow_agent.core.batch import Batch, Values
from edgeflow_agent.core.ports import Model, ModelSetup, Operator, OperatorFactory, StepContext
from edgeflow_agent.models.load import load_model
from edgeflow_agent.operators.load import operators
from edgeflow_agent.runtime.plan import Plan, PlannedStep, compile_plan
from edgeflow_agent.runtime.run import Observer, Runtime
from edgeflow_proto.bundle import Signature
from edgeflow_proto.pipeline.check import graph_of
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.graph import Graph
from edgeflow_proto.pipeline.kinds.base import Context, StepKind, kinds

FIRST = 7 << 40  # sequence number of the first row: a ring of generation 7
PERIOD_NS = 1_000_000
_PLAIN = ModelSetup()
XY = Flow((2,), "float32", ("x", "y"), inputs=("in",), key="machine")


@dataclass(frozen=True)
class Folder:
    """The files of a bundle's folder, as the contract's checks see them."""

    path: Path

    def read(self, name: str) -> bytes | None:
        path = self.path / name
        return path.read_bytes() if path.is_file() else None

    def signatures(self) -> dict[str, Signature]:
        models = [*self.path.glob("*.onnx"), *self.path.glob("*.tflite")]
        return {path.name: loaded(path).signature for path in models}


@cache
def implementation(kind: str) -> OperatorFactory:
    return operators([kind])[kind]


@cache
def loaded(path: Path, setup: ModelSetup = _PLAIN) -> Model:
    return load_model(path, setup)


def step(options: StepKind, upstream: Flow = XY, folder: Path = Path("nowhere")) -> Operator:
    """Make the operator of a step named ``step``."""
    kind = next(name for name, each in kinds("step").items() if each is type(options))
    beside = Folder(folder)
    flows = options.flows(upstream, Context("step", "test", beside, beside.signatures()))
    return implementation(kind)(options, StepContext("step", {"in": upstream}, flows, folder, loaded))


def alone(operator: Operator, observer: Observer | None = None) -> Runtime:
    """Return a runtime of one step, whose ports are its outputs (``out`` for the unnamed one)."""
    ports = ("", "raised", "cleared", "state")
    planned = PlannedStep("step", operator, {"in": ("in",)}, {port: port or "out" for port in ports})
    outputs = tuple((port or "out", port or "out") for port in ports)
    return Runtime(Plan({"in": (planned,)}, {"in": outputs}), observer)


@cache
def graph_in(folder: Path, text: str) -> Graph:
    """Check a pipeline whose files lie in `folder`."""
    beside = Folder(folder)
    return graph_of(f"edgeflow: 1\nname: test\n{text}", "test.yaml", beside, beside.signatures())


def pipeline(folder: Path, text: str, observer: Observer | None = None, taps: Sequence[str] = ()) -> Runtime:
    """Return a pipeline at work; `taps` are edges to be given out in place of its outputs."""
    graph = graph_in(folder, text)
    kinds = {node.kind: implementation(node.kind) for node in graph.steps.values()}
    plan = compile_plan(graph, folder, kinds, loaded)
    if taps:
        plan = Plan(plan.steps, {name: tuple((edge, edge) for edge in taps) for name in graph.inputs})
    return Runtime(plan, observer)


def rows(
    values: Values,
    key: Sequence[int] | Values = (),
    t: Sequence[int] | Values = (),
    columns: tuple[str, ...] | None = ("x", "y"),
) -> Batch:
    """Return input rows, one key and one row a millisecond unless said otherwise."""
    count = len(values)
    numbers = np.arange(FIRST, FIRST + count)
    return Batch(
        values,
        np.asarray(t, np.int64) if len(t) else np.arange(count) * PERIOD_NS,
        np.asarray(key, np.uint32) if len(key) else np.zeros(count, np.uint32),
        np.stack((numbers, numbers), axis=1),
        columns,
    )


def cut(batch: Batch, sizes: Iterable[int]) -> Iterator[Batch]:
    """Yield a batch in parts of these sizes, over and over."""
    sizes = list(sizes)
    start = index = 0
    while start < len(batch):
        end = start + sizes[index % len(sizes)]
        yield batch.take(slice(start, end))
        start, index = end, index + 1


def joined(batches: Sequence[Batch]) -> Batch:
    """Join batches of one edge."""
    columns = {batch.columns for batch in batches}
    assert len(columns) == 1, columns
    parts = [[getattr(batch, name) for batch in batches] for name in ("values", "t", "key", "span")]
    return Batch(*map(np.concatenate, parts), columns.pop())


def run(
    make: Callable[[], Runtime], calls: Iterable[Batch], *, restarts: bool = False
) -> Mapping[str, Batch]:
    """Push rows of ``in``; return what came, by output. With `restarts` each call meets a new runtime.

    What came is copied before the next call, as whoever keeps it must.
    """
    runtime, came = make(), dict[str, list[Batch]]()
    for call in calls:
        for name, batch in runtime.push("in", call):
            came.setdefault(name, []).append(batch.take(np.arange(len(batch))))
        if restarts:
            state, runtime = runtime.state(), make()
            runtime.restore(state)
            assert runtime.state() == state
    return {name: joined(batches) for name, batches in came.items()}


def assert_same(left: Mapping[str, Batch], right: Mapping[str, Batch]) -> None:
    """Same rows from the same spans; floats within a tolerance, all else exactly."""
    assert left.keys() == right.keys()
    for name, batch in left.items():
        other = right[name]
        assert batch.columns == other.columns
        for part in ("span", "t", "key"):
            np.testing.assert_array_equal(getattr(batch, part), getattr(other, part))
        assert batch.values.dtype == other.values.dtype
        np.testing.assert_allclose(batch.values, other.values, rtol=1e-5, atol=1e-6, equal_nan=True)


def assert_indifferent(
    make: Callable[[], Runtime], batch: Batch, sizes: Sequence[int]
) -> Mapping[str, Batch]:
    """Row by row, in parts of any size, and with a restart between any two: always the same. Return it."""
    whole = run(make, [batch])
    assert_same(whole, run(make, cut(batch, [1])))
    assert_same(whole, run(make, cut(batch, sizes)))
    assert_same(whole, run(make, cut(batch, sizes), restarts=True))
    return whole


floats = st.floats(-100, 100, width=32) | st.sampled_from([0.0, np.nan, np.inf, -np.inf])
sizes = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@st.composite
def keyed(draw: st.DrawFn, numbers: st.SearchStrategy[float] = floats, most: int = 80) -> Batch:
    """Rows of columns x and y from up to three keys, some of them at the same time."""
    count = draw(st.integers(1, most))
    values = draw(st.lists(numbers, min_size=2 * count, max_size=2 * count))
    key = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    steps = draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    return rows(np.array(values, np.float32).reshape(count, 2), key, np.cumsum(steps) * PERIOD_NS)
