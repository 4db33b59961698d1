"""Proportional set size of each process of an agent that does nothing, and of workers with a model."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import Result, note
from benchmarks.models import AUTOENCODER, make_dense
from tests.support.device import Device
from tests.support.processes import eventually

GOALS = {
    "agentd": "≤ 22 MiB", "io": "≤ 34 MiB", "link": "≤ 55 MiB",
    "worker, ONNX": "≤ 45 MiB", "worker, TFLite": "≤ 35 MiB",
}  # fmt: skip
PIPELINE = (
    "edgeflow: 1\nname: {name}\ninputs:\n  rows: {{http: {{}}, shape: [640], rate: 1 Hz}}\n"
    "steps:\n  score: {{from: rows, model: {model}}}\noutputs:\n  all: {{from: score, event: {name}.score}}\n"
)


def pss(pid: int) -> float:
    """Return a process's proportional set size in MiB. Source: proc_pid_smaps_rollup(5)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError("no Pss line")


def _settled(pid: int) -> float:
    values = []
    for _ in range(5):
        time.sleep(0.3)
        values.append(pss(pid))
    return statistics.median(values)


def _models(folder: Path) -> Iterator[tuple[str, Path]]:
    make_dense(folder / "autoencoder.onnx", AUTOENCODER)
    yield "worker, ONNX", folder / "autoencoder.onnx"
    data = Path(os.environ.get("EDGEFLOW_TEST_DATA", "../shared/data")) / "mlperf-tiny" / "models"
    if data.is_dir():
        yield "worker, TFLite", data / "ad01_fp32.tflite"
    else:
        note("no EDGEFLOW_TEST_DATA: the worker with a TFLite model is left out")


def _install(device: Device, name: str, model: Path) -> None:
    folder = device.pipelines / name
    folder.mkdir(parents=True)
    (folder / model.name).write_bytes(model.read_bytes())
    (folder / "pipeline.yaml").write_text(PIPELINE.format(name=name, model=model.name))


def measure() -> Iterator[Result]:
    """Yield MiB per process."""
    with tempfile.TemporaryDirectory() as name:
        device = Device(Path(name)).start()
        try:
            device.child("io")
            yield _result("agentd", _settled(device.pid))
            for process in ("zygote", "io", "link"):
                yield _result(process, _settled(device.child(process)))
            for index, (what, model) in enumerate(_models(Path(name))):
                yield _result(what, _worker(device, f"bench-{index}", model))
        finally:
            device.close()


def _worker(device: Device, name: str, model: Path) -> float:
    before = set(device.workers())
    _install(device, name, model)
    eventually(lambda: device.request("GET", f"/api/v1/pipelines/{name}")[0] == 200, f"{name} is there")
    eventually(lambda: device.pipeline(name)["state"] == "running", f"{name} runs")
    body = b"[" + b",".join([b"0.5"] * 640) + b"]"
    path = f"/api/v1/pipelines/{name}/inputs/rows"
    eventually(lambda: device.request("POST", path, body, "application/json")[0] == 202, "a row is taken")
    eventually(lambda: device.metric("edgeflow_inferences_total", pipeline=name), "an inference is made")
    (pid,) = set(device.workers()) - before
    return _settled(pid)


def _result(process: str, mebibytes: float) -> Result:
    return Result(f"memory, {process}", "absolute, PSS", "MiB", mebibytes, None, GOALS.get(process, ""))
