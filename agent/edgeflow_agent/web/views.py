"""The device and its pipelines as plain data, for JSON and for the page."""

from __future__ import annotations

import os
from typing import Any

from edgeflow_agent.core import clock, counters
from edgeflow_agent.core.counters import BUCKET, Sample, by_label, total
from edgeflow_agent.core.messages import BrokerStatus, PipelineStatus
from edgeflow_agent.core.version import version
from edgeflow_agent.store.journal import JournalError
from edgeflow_agent.web.local import AGENTD_SLOT, IO_SLOT, LINK_SLOT, Local
from edgeflow_agent.web.metrics import heartbeats
from edgeflow_proto.event import wall_time

_REFUSES = {1: "the disk refuses", 2: "the budget of the storage has no room for"}


def device(local: Local) -> dict[str, Any]:
    """Return who the device is and how it fares."""
    passed = clock.boottime_ns()
    now = local.journals.timeline.clock(clock.now(), passed)
    relay = local.relay
    return {
        "device": local.settings.device,
        "fleet": local.settings.fleet,
        "version": version(),
        "boot_id": now.boot_id,
        "machine": os.uname().machine,
        "uptime_s": round(passed / 1e9, 1),
        "time": wall_time(passed + now.offset_ns),
        "clock_quality": now.quality,
        "clock_uncertainty_s": None if now.uncertainty_ns is None else now.uncertainty_ns / 1e9,
        "host": local.host(),
        "storage": storage(local),
        "brokers": [broker(status) for status in local.brokers],
        "relay": {
            "address": relay.address,
            "connected": relay.connected,
            "error": relay.error,
            "backlog": relay.backlog,
            "conflicts": list(relay.conflicts),
        },
        "degraded": degraded(local),
        "heartbeat_age_s": {name: round(age, 3) for name, age in heartbeats(local).items()},
    }


def storage(local: Local) -> dict[str, int]:
    """Return the bytes that all the agent stores takes, those it may take, and those its disk has left."""
    known = local.board.slot(AGENTD_SLOT).read()
    names = {"bytes": "storage_bytes", "budget": "storage_budget_bytes", "free": "storage_free_bytes"}
    return {word: known.get(counter, 0) for word, counter in names.items()}


def broker(status: BrokerStatus) -> dict[str, Any]:
    """Return how the connection to a broker fares."""
    since = round(max(0, clock.boottime_ns() - status.since_ns) / 1e9, 1)
    known = {name: getattr(status, name) for name in ("name", "address", "connected", "reason")}
    return {**known, "since_s": since}


def of_pipeline(local: Local, pipeline: PipelineStatus) -> list[Sample]:
    """Gather a pipeline's counters from its worker, from `io` and from `link`."""
    own = list(counters.samples(local.board, pipeline.slot)) if pipeline.slot >= 0 else []
    shared = [s for slot in (IO_SLOT, LINK_SLOT) for s in counters.samples(local.board, slot)]
    return counters.of_pipeline(own, shared, pipeline.name)


def pipeline(local: Local, status: PipelineStatus) -> dict[str, Any]:
    """Return one pipeline: which bundle, its state, its journal and its counters."""
    found = of_pipeline(local, status)
    return {
        "name": status.name,
        "digest": status.digest,
        "origin": status.origin,
        "state": status.state,
        "reason": status.reason,
        "restarts": status.restarts,
        "since_s": round(max(0, clock.boottime_ns() - status.since_ns) / 1e9, 1),
        "journal": _journal(local, status.name, total(found, "uplink_acked")),
        "recorded": _recorded(local, status.name),
        "errors": status.errors,
        "warnings": status.warnings,
        "latency_us": {
            name: {"p50": quantile(found, f"{name}_us", 0.5), "p99": quantile(found, f"{name}_us", 0.99)}
            for name in ("decision", "commit")
        },
        "counters": counters.plain(found),
    }


def _journal(local: Local, name: str, acked: int) -> dict[str, Any] | None:
    journal = local.journals.get(name)
    if journal is None:
        return None
    try:
        first, last = journal.bounds
    except JournalError:
        return None
    return {"id": journal.id, "first": first, "last": last, "acked": acked}


def _recorded(local: Local, name: str) -> bool:
    """Say whether there are recorded rows, of whatever version: counters only know what their worker did."""
    recording = local.recordings.get(name, local.journals.timeline)
    try:
        return recording is not None and recording.filled
    except JournalError:
        return False


def quantile(found: list[Sample], histogram: str, share: float) -> float | None:
    """Return the upper limit of the bucket that holds the quantile, ``None`` when nothing was counted."""
    buckets = sorted((float(le), n) for le, n in by_label(found, histogram + BUCKET, "le").items())
    wanted = share * sum(count for _, count in buckets)
    for limit, count in buckets:
        wanted -= count
        if wanted <= 0 < count:
            return limit if limit != float("inf") else buckets[-2][0]
    return None


def readiness(local: Local) -> list[str]:
    """Return what still keeps the device from running all that is wanted of it."""
    if not local.heard:
        return ["agentd has not said yet what runs"]
    reasons = [
        f"pipeline {status.name} is {status.state}" + (f": {status.reason}" if status.reason else "")
        for status in local.pipelines.values()
        if status.state in ("starting", "failing")
    ]
    ages = heartbeats(local)
    hang = local.settings.hang / 1e9
    reasons += [f"{name} stands still" for name in ("agentd", "io") if ages.get(name, hang + 1) > hang]
    return reasons


def degraded(local: Local) -> list[str]:
    """Return what is amiss while all that is wanted of the device runs."""
    brokers = [
        f"broker {status.name} at {status.address}: not connected: {status.reason}"
        for status in local.brokers
        if not status.connected
    ]
    refused = [words for status in local.pipelines.values() for words in _refused(local, status)]
    short = total(list(counters.samples(local.board, AGENTD_SLOT)), "storage_short")
    return brokers + refused + (["the disk has less left than is to stay free"] if short else [])


def _refused(local: Local, status: PipelineStatus) -> list[str]:
    """Return what of a pipeline cannot be stored."""
    found, out = of_pipeline(local, status), []
    if why := total(found, "journal_refused"):
        out.append(f"pipeline {status.name}: {_REFUSES[why]} its journal; events wait in memory")
    if why := total(found, "recording_refused"):
        what = "its recording; rows wait in memory, then they are lost"
        out.append(f"pipeline {status.name}: {_REFUSES[why]} {what}")
    return out
