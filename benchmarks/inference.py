"""One inference, ring row to model output, against the bare runtime called the best way it has.

TFLite's bare limit is ``set_tensor / invoke / get_tensor`` on an interpreter allocated once; ONNX Runtime's
is a session with bound input and output. Both get one row at a time, as the runtime here does.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.common import Result, in_turns, note, seconds_per_call
from benchmarks.models import AUTOENCODER, Folder, make_dense
from edgeflow_agent.core import shm
from edgeflow_agent.core.layout import RingSpec
from edgeflow_agent.core.ring import RingReader, RingWriter
from edgeflow_agent.models.load import load_model, read_signature
from edgeflow_agent.operators.load import operators
from edgeflow_agent.runtime.plan import compile_plan
from edgeflow_agent.runtime.run import Runtime
from edgeflow_proto.pipeline.check import graph_of
from edgeflow_proto.pipeline.graph import Graph


def _graph(folder: Path, model: str, shape: list[int], dtype: str) -> Graph:
    text = f"""
edgeflow: 1
name: bench
inputs:
  rows: {{mqtt: a/b, shape: {shape}, dtype: {dtype}, rate: 100 Hz}}
steps:
  score: {{from: rows, model: {model}}}
outputs:
  all: {{from: score, event: bench.score}}
"""
    return graph_of(text, "bench.yaml", Folder(folder), {model: read_signature(folder / model)})


def _through_the_runtime(folder: Path, model: str) -> Callable[[], object]:
    """Return a call that writes one row to a ring, reads it, and runs the graph on it."""
    tensor = read_signature(folder / model).inputs[0]
    shape, dtype = list(tensor.shape[1:]), tensor.dtype
    graph = _graph(folder, model, shape, dtype)
    runtime = Runtime(compile_plan(graph, folder, operators({"model"}), load_model))
    spec = RingSpec("bench", "rows", tuple(shape), dtype, 256, 1)
    fd, ready = shm.create("bench", spec.size), shm.eventfd()
    writer, reader = RingWriter(fd, spec), RingReader(fd, spec)
    writer.bind(os.dup(ready))
    reader.bind(ready)
    row = np.zeros((1, *shape), dtype)
    times = np.zeros(1, np.int64)

    def call() -> object:
        writer.append(row, times)
        writer.publish()
        reader.poll()
        results = runtime.push("rows", reader.view(1))
        reader.position += 1
        return results

    return call


def _writing_only(folder: Path, model: str) -> Callable[[], object]:
    """Return a call that only writes the row: the sensor's side, which the bare limit does not have."""
    tensor = read_signature(folder / model).inputs[0]
    shape = tuple(tensor.shape[1:])
    spec = RingSpec("bench", "rows", shape, tensor.dtype, 256, 1)
    writer = RingWriter(shm.create("bench", spec.size), spec)
    row, times = np.zeros((1, *shape), tensor.dtype), np.zeros(1, np.int64)

    def call() -> object:
        writer.append(row, times)
        writer.publish()
        return None

    return call


def _bare_tflite(path: Path) -> Callable[[], object]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    row = np.zeros(source["shape"], source["dtype"])

    def call() -> object:
        interpreter.set_tensor(source["index"], row)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])

    return call


def _bare_onnx(path: Path) -> Callable[[], object]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    source, target = session.get_inputs()[0], session.get_outputs()[0]
    row = np.zeros([1, *source.shape[1:]], np.float32)
    out = np.zeros([1, *target.shape[1:]], np.float32)
    binding = session.io_binding()
    binding.bind_input(source.name, "cpu", 0, np.float32, row.shape, row.ctypes.data)
    binding.bind_output(target.name, "cpu", 0, np.float32, out.shape, out.ctypes.data)

    def call() -> object:
        session.run_with_iobinding(binding)
        return row, out  # the binding holds their addresses, so they must live as long

    return call


def _models(folder: Path) -> Iterator[tuple[str, str, Callable[[], object]]]:
    make_dense(folder / "autoencoder.onnx", AUTOENCODER)
    yield "84k autoencoder, ONNX", "autoencoder.onnx", _bare_onnx(folder / "autoencoder.onnx")
    data = Path(os.environ.get("EDGEFLOW_TEST_DATA", "../shared/data")) / "mlperf-tiny" / "models"
    if not data.is_dir():
        note("no EDGEFLOW_TEST_DATA: the MLPerf Tiny models are left out")
        return
    for what, name in (
        ("MLPerf kws int8, TFLite", "kws_ref_model.tflite"),
        ("MLPerf ad01, TFLite", "ad01_fp32.tflite"),
    ):
        (folder / name).write_bytes((data / name).read_bytes())
        yield what, name, _bare_tflite(folder / name)


def measure() -> Iterator[Result]:
    """Yield, per model, the time of one inference in µs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for what, model, bare in _models(folder):
            ours, write = _through_the_runtime(folder, model), _writing_only(folder, model)
            full, limit, writing = in_turns(
                lambda f=ours: seconds_per_call(f) * 1e6,
                lambda f=bare: seconds_per_call(f) * 1e6,
                lambda f=write: seconds_per_call(f) * 1e6,
            )
            goal = "≤ max(1.3×, +15 µs)"
            yield Result(f"one inference, {what}", "bare runtime", "µs", full - writing, limit, goal)
