"""Rows through window → 64 features → perceptron → threshold, against one hand-written numpy loop.

The loop does the same work the way one would write it for this one purpose: it keeps the rows it needs,
takes all windows a block completes at once, and runs the model on all of them. It knows no keys, no
spans, no failures and no restarts. Ours reads the rows as a worker does: they lie in memory, more of them
become known with each block, and they are run when enough are there to bring anything about.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.common import Result, in_turns
from benchmarks.models import PERCEPTRON, Folder, make_dense
from edgeflow_agent.core.batch import Values, numbered
from edgeflow_agent.models.load import load_model, read_signature
from edgeflow_agent.operators.load import operators
from edgeflow_agent.runtime.plan import compile_plan
from edgeflow_agent.runtime.run import Runtime
from edgeflow_proto.pipeline.check import graph_of

SIZE, LEVEL = 128, 4.0
BLOCKS = {1: 4_000, 100: 40_000, 1000: 100_000}  # rows of one measurement by rows of a block
Run = Callable[[Values, int], None]  # rows, rows of a block
PIPELINE = """
edgeflow: 1
name: bench
inputs:
  accel: {{mqtt: a/b, fields: [x], rate: 10 kHz}}
steps:
  window: {{from: accel, window: {{size: {size}, hop: {hop}}}}}
  features: {{from: window, python: {{function: code.spectrum, shape: [64]}}}}
  score: {{from: features, model: dense.onnx}}
  alarm: {{from: score, threshold: {{above: {level}}}}}
outputs:
  raised: {{from: alarm.raised, event: bench.raised}}
"""
CODE = """
import numpy as np

def spectrum(windows):
    return np.abs(np.fft.rfft(windows[:, :, 0]))[:, 1:].astype(np.float32)
"""


def _ours(folder: Path, hop: int) -> Run:
    text = PIPELINE.format(size=SIZE, hop=hop, level=LEVEL)
    model = "dense.onnx"
    graph = graph_of(text, "bench.yaml", Folder(folder), {model: read_signature(folder / model)})
    kinds = {node.kind for node in graph.steps.values()}
    runtime = Runtime(compile_plan(graph, folder, operators(kinds), load_model))
    most = max(BLOCKS.values())
    key, t = np.zeros(most, np.uint32), np.arange(most, dtype=np.int64)

    def run(rows: Values, block: int) -> None:
        position = 0
        for head in range(block, len(rows) + 1, block):
            if head - position >= runtime.due("accel"):
                new = slice(position, head)
                runtime.push("accel", numbered(rows[new], t[new], key[new], position, ("x",)))
                position = head

    return run


def _by_hand(folder: Path, hop: int) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(folder / "dense.onnx"), options)
    kept: Any = np.empty(0, np.float32)
    raised = False

    def push(block: Values) -> object:
        nonlocal kept, raised
        kept = np.concatenate([kept, block[:, 0]])
        if len(kept) < SIZE:
            return []
        windows = sliding_window_view(kept, SIZE)[::hop]
        kept = kept[len(windows) * hop :]
        features = np.abs(np.fft.rfft(windows))[:, 1:].astype(np.float32)
        (scores,) = session.run(None, {"x": features})
        alarms = []
        for score in scores[:, 0].tolist():
            if not raised and score > LEVEL:
                alarms.append(score)
            raised = score > LEVEL
        return alarms

    def run(rows: Values, block: int) -> None:
        for start in range(0, len(rows), block):
            push(rows[start : start + block])

    return run


def _rate(run: Run, block: int) -> float:
    """Return rows per second."""
    rows = np.random.default_rng(1).normal(size=(BLOCKS[block], 1)).astype(np.float32)
    begin = time.perf_counter()
    run(rows, block)
    return len(rows) / (time.perf_counter() - begin)


def measure() -> Iterator[Result]:
    """Yield rows per second for two hops and three sizes of blocks."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "code.py").write_text(CODE)
        make_dense(folder / "dense.onnx", PERCEPTRON)
        for hop in (16, 64):
            for block in BLOCKS:
                ours, by_hand = _ours(folder, hop), _by_hand(folder, hop)
                full, limit = in_turns(
                    lambda f=ours, n=block: _rate(f, n), lambda f=by_hand, n=block: _rate(f, n)
                )
                what = f"window → 64 features → MLP → threshold, hop {hop}, blocks of {block}"
                yield Result(what, "hand-written numpy loop", "rows/s", full, limit, "≥ 0.8×")
