"""Cold start: process start to first decision, against the bare runtime's imports, model load and first run.

The device starts with no network and no relay from the deployment it has stored; its input is a recorded
file, so the first row is there at once. The bare program imports numpy and the model runtime, loads the same
model and runs it once. The files are in the page cache in both cases, and all modules have their bytecode.
Then its worker is killed, again and again: how long it is until the next one decides.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.common import Result, in_turns
from benchmarks.models import AUTOENCODER, make_dense
from tests.support.device import Device
from tests.support.processes import alive, eventually

PIPELINE = """
edgeflow: 1
name: bench
inputs:
  rows: {{file: {path}, shape: [640], rate: 10 Hz}}
steps:
  score: {{from: rows, model: model.onnx}}
  seen: {{from: score, python: {{function: probe.seen, shape: [640]}}}}
outputs:
  all: {{from: seen, event: bench.score}}
"""
PROBE = """
import os

def seen(rows):
    os.close(os.open({path!r}, os.O_WRONLY | os.O_CREAT))
    return rows
"""
BARE = """
import sys
import numpy as np
import onnxruntime as ort

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
session.run(None, {"x": np.zeros((1, 640), np.float32)})
"""


def _bare(model: Path) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", BARE, str(model)], check=True, timeout=60)
    return time.perf_counter() - begin


def _ours(device: Device, seen: Path) -> float:
    """Return seconds from starting the agent to its first decision."""
    seen.unlink(missing_ok=True)
    command = [sys.executable, "-m", "edgeflow_tools.cli", "agent", "--config", str(device.config)]
    with (device.folder / "agent.log").open("ab") as log:
        begin = time.perf_counter()
        device.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    while not seen.exists() and time.perf_counter() - begin < 60:
        time.sleep(0.001)
    took = time.perf_counter() - begin
    device.stop()
    return took


def _again(device: Device, seen: Path) -> float:
    """Return seconds from killing a worker to the first decision of the next; its rows wait in the ring."""
    device.start()
    took = []
    for _ in range(7):
        eventually(seen.exists, "a decision")
        time.sleep(1)  # or it would be made to wait, as one that dies at once
        (worker,) = device.workers()
        begin = time.perf_counter()
        os.kill(worker, signal.SIGKILL)
        while alive(worker):
            pass
        seen.unlink()
        while not seen.exists():
            time.sleep(0.001)
        took.append(time.perf_counter() - begin)
    return statistics.median(took)


def _store(device: Device, seen: Path) -> Path:
    """Let a device store a deployment; return its model."""
    folder = device.pipelines / "bench"
    folder.mkdir(parents=True)
    recording = device.folder / "rows.npy"
    np.save(recording, np.zeros((1000, 640), np.float32))
    model = make_dense(folder / "model.onnx", AUTOENCODER)
    (folder / "probe.py").write_text(PROBE.format(path=str(seen)))
    (folder / "pipeline.yaml").write_text(PIPELINE.format(path=recording))
    device.start()
    eventually(seen.exists, "the first decision")
    device.stop()
    return model


def measure() -> Iterator[Result]:
    """Yield seconds."""
    with tempfile.TemporaryDirectory() as name:
        device, seen = Device(Path(name)), Path(name) / "seen"
        try:
            model = _store(device, seen)
            ours, bare = in_turns(lambda: _ours(device, seen), lambda: _bare(model), rounds=7)
            again = _again(device, seen)
        finally:
            device.close()
    note = "import, model load, one run of onnxruntime"
    yield Result("start → first decision", note, "s", ours, bare, "≤ 2×")
    yield Result("worker killed → decides again", note, "s", again, bare)
