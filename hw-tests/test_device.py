"""What must hold on every device that runs the agent."""

from __future__ import annotations

from typing import Any


def test_the_device_is_alive_and_ready(target: Any) -> None:
    assert target.text("/healthz")
    assert target.text("/readyz")


def test_every_pipeline_runs(target: Any) -> None:
    states = {p["name"]: p["state"] for p in target.json("/api/v1/pipelines")["pipelines"]}
    assert {name for name, state in states.items() if state != "running"} == set()


def test_metrics_can_be_scraped(target: Any) -> None:
    assert "edgeflow_" in target.text("/metrics")
