"""From what devices send to plain values; raises Malformed for what none of them should send."""

from __future__ import annotations

import math
import re
import time
from typing import TypeVar, cast, get_args

from google.protobuf.message import DecodeError, Message

from edgeflow_proto.event import MAX_BLOCK_EVENTS, Clock, ClockQuality
from edgeflow_proto.pipeline.schema import NAME as PIPELINE
from edgeflow_proto.v1 import device_pb2 as wire
from edgeflow_relay.settings import NAME
from edgeflow_relay.store.devices import About, Heartbeat, Host, Pipeline
from edgeflow_relay.store.journals import Batch
from edgeflow_relay.store.wishes import Outcome

MAX_JOURNALS = 4096
MAX_PIPELINES = 1024
_JOURNAL = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OWN = re.compile(r"_[a-z0-9-]{1,62}")  # a device's own journals have names no pipeline can have
_HOST = tuple(field.name for field in wire.HostMetrics.DESCRIPTOR.fields)
_LAST = (1 << 63) - 1

M = TypeVar("M", bound=Message)


class Malformed(ValueError):
    """A message that breaks the contract; the text says how."""


def parse(kind: type[M], data: bytes) -> M:
    """Read a message; raises Malformed."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise Malformed(f"{len(data)} bytes that are no {kind.DESCRIPTOR.name}") from None


def check_hello(hello: wire.Hello) -> None:
    """Raise Malformed unless a hello names a device and journals as they are named."""
    if not NAME.fullmatch(hello.device):
        raise Malformed(f"not a device name: {hello.device[:80]!r} (letters, digits, . _ -)")
    if len(hello.journals) > MAX_JOURNALS:
        raise Malformed(f"{len(hello.journals)} journals; {MAX_JOURNALS} are taken")
    for journal in hello.journals:
        _check_journal(journal.journal_id, journal.pipeline)


def _check_journal(journal: str, pipeline: str) -> None:
    if not _JOURNAL.fullmatch(journal):
        raise Malformed(f"not a journal id: {journal[:80]!r}")
    if not (PIPELINE.fullmatch(pipeline) or _OWN.fullmatch(pipeline)):
        raise Malformed(f"not a pipeline name: {pipeline[:80]!r}")


def about(hello: wire.Hello) -> About:
    """Return what a device says of itself."""
    return About(
        agent_version=_word(hello.agent_version, 64),
        machine=_word(hello.machine, 64),
        boot_id=_word(hello.boot_id, 64),
        applied=min(hello.revision, _LAST),
    )


def batch(device: str, sent: wire.EventBatch) -> Batch:
    """Return a block with where it belongs; what is in it is not looked at."""
    _check_journal(sent.journal_id, sent.pipeline)
    if not 1 <= sent.count <= MAX_BLOCK_EVENTS:
        raise Malformed(f"a block of {sent.count} events; it is 1 to {MAX_BLOCK_EVENTS}")
    if not 1 <= sent.first <= _LAST - sent.count:
        raise Malformed(f"sequence number {sent.first}")
    reckoned = _reckoned(sent.reckoned) if sent.HasField("reckoned") else None
    return Batch(device, sent.journal_id, sent.pipeline, sent.first, sent.count, sent.block, reckoned)


def _reckoned(sent: wire.Reckoned) -> Clock:
    if sent.quality not in get_args(ClockQuality):
        raise Malformed(f"a clock of quality {sent.quality[:40]!r}")
    uncertainty = min(sent.uncertainty_ns, _LAST) if sent.HasField("uncertainty_ns") else None
    return Clock("", sent.offset_ns, cast(ClockQuality, sent.quality), uncertainty)


def heartbeat(sent: wire.Heartbeat) -> Heartbeat:
    """Return how a device fares."""
    if len(sent.pipelines) > MAX_PIPELINES:
        raise Malformed(f"{len(sent.pipelines)} pipelines; {MAX_PIPELINES} are taken")
    return Heartbeat(
        host=_host(sent.host) if sent.HasField("host") else None,
        pipelines=tuple(_pipeline(pipeline) for pipeline in sent.pipelines),
        backlog=sent.backlog,
        clock_quality=_word(sent.clock_quality, 32),
        ahead_ns=max(-_LAST, sent.wall_time_ns - time.time_ns()),
    )


def _host(sent: wire.HostMetrics) -> Host:
    values = {name: getattr(sent, name) for name in _HOST}
    absent = [] if sent.HasField("temperature") else ["temperature"]
    absent += [name for name, value in values.items() if not math.isfinite(value)]  # JSON has no word for it
    return Host(**values | dict.fromkeys(absent))


def _pipeline(sent: wire.PipelineState) -> Pipeline:
    words = (_word(sent.name, 64), _word(sent.digest, 64), _word(sent.origin, 32), _word(sent.state, 32))
    return Pipeline(*words, sent.reason[:2000], dict(sent.counters))


def outcome(sent: wire.DeploymentStatus) -> Outcome:
    """Return what a device says became of a wish."""
    if not PIPELINE.fullmatch(sent.name):
        raise Malformed(f"not a pipeline name: {sent.name[:80]!r}")
    words = (_word(sent.digest, 64), _word(sent.state, 32), sent.reason[:10_000])
    return Outcome(*words, min(sent.revision, _LAST), time.time_ns())


def _word(text: str, size: int) -> str:
    """Return a word that fits its column and its line."""
    return "".join(c for c in text[:size] if c.isprintable())
