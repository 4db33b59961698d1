"""A pipeline's journal as events in CloudEvents form: set-up, decisions, what was lost."""

from __future__ import annotations

import struct
from typing import Any

from edgeflow_proto.event import ROW_BITS, Block, Clock, Column, events
from edgeflow_proto.pipeline.load import load
from edgeflow_proto.setup import NAME, TYPE, Model, Setup, entries
from tests.support.documents import graph_in_memory

TEXT = """
edgeflow: 1
name: watch
params: {limit: 0.8}
inputs:
  accel: {mqtt: "plant/{machine}/accel", key: machine, fields: [x, y, z], rate: 1 kHz}
  heat: {mqtt: plant/heat, fields: [degrees]}
steps:
  window: {from: accel, window: {size: 256, hop: 64}}
  features: {from: window, python: features.spectrum}
  score: {from: features, model: bearing.onnx}
  alarm: {from: score, threshold: {column: score, above: $limit}}
  hot: {from: heat, threshold: {above: 80}}
outputs:
  raised: {from: alarm.raised, event: {type: watch.raised, severity: warning, data: [score]}}
  hot_event: {from: hot.raised, event: {type: watch.hot}}
"""
DIGEST = "d" * 64
MODEL, FUNCTION = "e" * 64, "f" * 64
SECOND = 10**9
CLOCK = Clock("boot-1", 1_700_000_000 * SECOND, "synchronised")
GENERATION = 3


def set_up() -> Setup:
    """Return what a worker of the pipeline tells, its limit changed for this device."""
    source, _ = load(TEXT, "pipeline.yaml")
    assert source is not None
    return Setup(
        digest=DIGEST, boot_id=CLOCK.boot_id, params={"limit": 0.9},
        entries=entries(graph_in_memory(TEXT, {"limit": 0.9}), source.data),
        versions={"edgeflow": "0.1.0", "python": "3.11.2", "onnxruntime": "1.32.0", "machine": "aarch64"},
        models={"score": Model(file="bearing.onnx", digest=MODEL, provider="cpu")},
        functions={"features.py": FUNCTION}, generations={"accel": GENERATION, "heat": GENERATION},
        settings={"commit": "200 ms"},
    )  # fmt: skip


def told(seconds: float = 0, **changes: Any) -> Block:
    """Return the block that tells the set-up."""
    return _own(TYPE, NAME, set_up().to_data(), seconds, **changes)


def lost(seconds: float, kind: str = "gap", **data: Any) -> Block:
    """Return a block about something that was lost."""
    return _own(f"edgeflow.{kind}", kind, data or {"input": "accel", "reason": "broker"}, seconds)


def decided(count: int = 1, seconds: float = 1.0, **changes: Any) -> Block:
    """Return a block of decisions, each on the 256 rows that end 64 rows after those of the one before."""
    last = [(GENERATION << ROW_BITS) + 1023 + 64 * i for i in range(count)]
    spans = [number for end in last for number in (end - 255, end)]
    known: dict[str, Any] = {
        "output": "raised", "type": "watch.raised", "severity": "warning", "count": count, "clock": CLOCK,
        "t": struct.pack(f"<{count}q", *(round(seconds * SECOND) + i for i in range(count))),
        "inputs": ("accel",), "spans": struct.pack(f"<{2 * count}q", *spans),
        "keys": ("press-7",), "key": bytes(4 * count), "pipeline_digest": DIGEST, "models": {"score": MODEL},
        "data": (Column("score", "float64", (), struct.pack(f"<{count}d", *(0.95 for _ in range(count)))),),
    }  # fmt: skip
    return Block(**(known | changes))


def journal(*blocks: Block, first: int = 1, name: str = "j1") -> list[dict[str, Any]]:
    """Return the events of blocks that follow each other in a journal."""
    out = []
    for block in blocks:
        out += [event.to_json() for event in events(block, first, name, "dev-1", "watch")]
        first += block.count
    return out


def _own(kind: str, output: str, data: dict[str, Any], seconds: float, **changes: Any) -> Block:
    known: dict[str, Any] = {
        "output": output.replace(".", "-"), "type": kind, "severity": "info", "count": 1, "clock": CLOCK,
        "t": struct.pack("<q", round(seconds * SECOND)), "fixed": data, "pipeline_digest": DIGEST,
    }  # fmt: skip
    return Block(**(known | changes))
