"""The device's messages, made from what it knows of itself."""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec

from edgeflow_agent.config import Settings
from edgeflow_agent.core import clock, counters
from edgeflow_agent.core.board import Board
from edgeflow_agent.core.messages import PipelineStatus
from edgeflow_agent.core.version import version
from edgeflow_agent.uplink.host import Host
from edgeflow_agent.uplink.memory import Outcome
from edgeflow_agent.uplink.session import Batch, Source
from edgeflow_proto.event import decode_block
from edgeflow_proto.timeline import Timeline
from edgeflow_proto.v1 import device_pb2 as wire

IO_SLOT = 1


def hello(settings: Settings, revision: int, journals: Iterable[Source]) -> wire.DeviceMessage:
    """Return the first message of a stream."""
    states = []
    for journal in journals:
        first, last = journal.bounds
        states.append(
            wire.JournalState(journal_id=journal.id, pipeline=journal.pipeline, first=first, last=last)
        )
    return wire.DeviceMessage(
        hello=wire.Hello(
            device=settings.device, fleet=settings.fleet, agent_version=version(), boot_id=clock.boot_id(),
            machine=os.uname().machine, revision=revision, journals=states,
        )
    )  # fmt: skip


def events(batch: Batch, timeline: Timeline) -> wire.DeviceMessage:
    """Return a block as a message, with what has become known of its clock since it was written."""
    return wire.DeviceMessage(
        events=wire.EventBatch(
            journal_id=batch.journal, pipeline=batch.pipeline, first=batch.first, count=batch.count,
            block=batch.block, reckoned=_reckoned(batch.block, timeline),
        )
    )  # fmt: skip


def _reckoned(data: bytes, timeline: Timeline) -> wire.Reckoned | None:
    try:
        block = decode_block(data)
    except ValueError:
        return None  # the relay says what is wrong with it
    dated = timeline.dated(block).clock
    if dated is block.clock:
        return None
    return wire.Reckoned(
        offset_ns=dated.offset_ns, uncertainty_ns=dated.uncertainty_ns, quality=dated.quality
    )


def status(outcome: Outcome) -> wire.DeviceMessage:
    """Return what became of a wish as a message."""
    return wire.DeviceMessage(status=wire.DeploymentStatus(**msgspec.structs.asdict(outcome)))


def heartbeat(
    board: Board, pipelines: Iterable[PipelineStatus], host: Host, backlog: int, timeline: Timeline
) -> wire.DeviceMessage:
    """Return how the device and its pipelines fare."""
    shared = list(counters.samples(board, IO_SLOT))
    passed = clock.boottime_ns()
    now = timeline.clock(clock.now(), passed)
    return wire.DeviceMessage(
        heartbeat=wire.Heartbeat(
            boot_time_ns=passed, wall_time_ns=passed + now.offset_ns, clock_quality=now.quality,
            host=wire.HostMetrics(**msgspec.structs.asdict(host)), backlog=backlog,
            pipelines=[_state(board, shared, pipeline) for pipeline in pipelines],
        )
    )  # fmt: skip


def _state(board: Board, shared: list[counters.Sample], pipeline: PipelineStatus) -> wire.PipelineState:
    own = list(counters.samples(board, pipeline.slot)) if pipeline.slot >= 0 else []
    return wire.PipelineState(
        name=pipeline.name, digest=pipeline.digest, origin=pipeline.origin, state=pipeline.state,
        reason=pipeline.reason,
        counters=counters.plain(counters.of_pipeline(own, shared, pipeline.name)),
    )  # fmt: skip
