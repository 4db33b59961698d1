"""Everything the board counts, in Prometheus' text form.

Source: prometheus.io, "Exposition formats", text format 0.0.4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from edgeflow_agent.core import clock, counters
from edgeflow_agent.core.board import labelled
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.counters import BUCKET, Sample
from edgeflow_agent.core.logfile import pieces
from edgeflow_agent.core.version import version
from edgeflow_agent.store.readers import Unreadable
from edgeflow_agent.web.local import AGENTD_SLOT, IO_SLOT, LINK_SLOT, ZYGOTE_SLOT, Local

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "edgeflow_"
_SUM = "_sum"
_PROCESSES = {"agentd": AGENTD_SLOT, "io": IO_SLOT, "link": LINK_SLOT, "zygote": ZYGOTE_SLOT}
_HELP = {
    "build_info": "Version of the agent.",
    "clock_synchronised": "1 while the wall clock is known to be right: by the kernel, or the relay.",
    "clock_uncertainty_seconds": "How far the wall clock may be off, as far as that is known.",
    "commit_failures_total": "Commits the disk refused; the events wait in memory.",
    "commit_us": "From decision to durable in the journal, in microseconds.",
    "commits_total": "Synced transactions of the journal.",
    "counters_overflow_total": "Counts that found no place of their own on the board.",
    "decision_us": "From a row's arrival to the decision, in microseconds.",
    "effects_done_total": "Effects carried out.",
    "effects_dropped_total": "Effects not carried out, by reason.",
    "effects_files_removed_total": "Files of file outputs removed to make room for new rows.",
    "events_dropped_total": "Events given up because the disk refused them for too long.",
    "events_evicted_total": "Events removed from the journal to make room, those the relay has included.",
    "events_evicted_unacked_total": "Those of them that the relay did not have.",
    "events_total": "Events decided.",
    "gaps_total": "Interruptions after which rows may be missing.",
    "heartbeat_age_seconds": "Time since a process's working loop last came round.",
    "http_requests_total": "Requests to the local endpoint.",
    "inferences_total": "Rows given to a model.",
    "input_accepted_total": "Messages accepted.",
    "input_late_total": "Rows older than ones that came before them.",
    "input_messages_total": "Messages that arrived.",
    "input_rejected_total": "Messages rejected, by reason.",
    "input_rows_total": "Rows accepted.",
    "journal_bytes": "Bytes the journal takes.",
    "journal_damaged_total": "Segments of the journal that could not be read and were set aside.",
    "journal_first_event": "Sequence number of the oldest event in the journal, 0 for none.",
    "journal_last_event": "Sequence number of the newest event in the journal, 0 for none.",
    "journal_refused": "1 while the disk refuses the journal, 2 while its limit does; events wait in memory.",
    "journal_segments": "Segments of the journal.",
    "log_bytes": "Bytes the logs of all processes take.",
    "log_lines_lost_total": "Log lines given up because the disk refused them.",
    "log_lines_suppressed_total": "Log lines left out because one place told too much.",
    "log_lines_total": "Log lines written, or meant to be.",
    "mqtt_connected": "1 while connected to the broker.",
    "mqtt_reconnects_total": "Connections to the broker made anew.",
    "mqtt_unrouted_total": "Messages that no input wanted.",
    "pipeline_info": "Which bundle runs, where it came from, and its state.",
    "pipeline_restarts_total": "Restarts of the pipeline's worker.",
    "posts_rejected_total": "Posted payloads that were not taken, by reason.",
    "recorded_rows_total": "Rows recorded.",
    "recording_bytes": "Bytes the recording takes.",
    "recording_damaged_total": "Segments of the recording that could not be read and were set aside.",
    "recording_dropped_total": "Rows that were to be recorded and were overwritten, or refused to the end.",
    "recording_evicted_total": "Recorded rows removed to make room.",
    "recording_limit_bytes": "Bytes the recording may take, while rows are recorded.",
    "recording_refused": "1 while the disk refuses the recording, 2 while its limit does; rows wait.",
    "recording_short_total": "Stretches around events whose beginning was overwritten, or passed by.",
    "rows_lost_total": "Rows overwritten before they were read.",
    "rows_skipped_total": "Rows set aside because workers died over them.",
    "rows_total": "Rows read.",
    "step_errors_total": "Rows a step could not handle.",
    "step_ns_total": "Time spent in a step, in nanoseconds.",
    "step_over_budget_total": "Calls of a step that took longer than its latency budget.",
    "step_rows_total": "Rows a step was given.",
    "storage_budget_bytes": "Bytes the agent may take, all in all.",
    "storage_bytes": "Bytes that all that the agent stores takes.",
    "storage_free_bytes": "Bytes the file system of the store has left.",
    "storage_short": "1 while the file system has less left than is to stay free.",
    "uplink_acked": "Newest sequence number the relay acknowledged.",
    "uplink_backlog": "Events journaled and not acknowledged by the relay.",
    "uplink_conflict": "Journals that held less than the relay acknowledged; nothing is sent of them.",
    "uplink_connected": "1 while connected to the relay.",
    "uptime_seconds": "Time since the machine started.",
}


def collect(local: Local) -> list[Sample]:
    """Gather the counters of every process and worker; a worker's carry its pipeline's name."""
    board = local.board
    found = [sample for slot in _PROCESSES.values() for sample in counters.samples(board, slot)]
    for pipeline in local.pipelines.values():
        label = {"pipeline": pipeline.name}
        info = {"digest": pipeline.digest, "origin": pipeline.origin, "state": pipeline.state}
        found.append(Sample("pipeline_info", label | info, 1))
        found.append(Sample("pipeline_restarts_total", label, pipeline.restarts))
        if pipeline.slot >= 0:
            own = counters.samples(board, pipeline.slot)
            found += (Sample(sample.name, label | sample.labels, sample.value) for sample in own)
    return found


def stored(local: Local) -> Iterator[Sample]:
    """Yield what lies on the disk: the events of each journal, and the logs."""
    for journal in local.journals:
        label = {"pipeline": journal.pipeline}
        try:
            (first, last), segments = journal.bounds, journal.segments
        except Unreadable as error:
            local.journals.drop(error)
            continue
        yield Sample("journal_first_event", label, first)
        yield Sample("journal_last_event", label, last)
        yield Sample("journal_segments", label, segments)
    yield Sample("log_bytes", {}, sum(each.allocated for each in pieces(Path(local.settings.data) / "logs")))


def _clock(local: Local) -> tuple[Sample, dict[str, float]]:
    """Return whether the wall clock is known to be right, and how far it may be off, if that is known."""
    known = local.journals.timeline.clock(clock.now(), boottime_ns())
    right = Sample("clock_synchronised", {}, int(known.quality in ("synchronised", "relay")))
    name, uncertainty = f"{PREFIX}clock_uncertainty_seconds", known.uncertainty_ns
    return right, {} if uncertainty is None else {name: uncertainty / 1e9}


def heartbeats(local: Local) -> dict[str, float]:
    """Return the seconds since each process's loop last came round, of those that ever did."""
    now = boottime_ns()
    beaten = {name: local.board.slot(slot).beaten for name, slot in _PROCESSES.items()}
    return {name: max(0, now - at) / 1e9 for name, at in beaten.items() if at}


def render(local: Local) -> str:
    """Return the whole page."""
    ages = heartbeats(local).items()
    timed = {labelled(f"{PREFIX}heartbeat_age_seconds", process=name): age for name, age in ages}
    timed[f"{PREFIX}uptime_seconds"] = boottime_ns() / 1e9
    right, uncertain = _clock(local)
    found = [*collect(local), *stored(local), right, Sample("build_info", {"version": version()}, 1)]
    return exposition(found) + gauges(timed | uncertain)


def gauges(values: dict[str, float]) -> str:
    """Return values that are no whole numbers, by their full name with labels, as gauges."""
    lines = []
    for name, group in groupby(sorted(values), key=lambda text: text.partition("{")[0]):
        lines += _head(name, "gauge")
        lines += (f"{text} {values[text]:.3f}" for text in group)
    return "".join(f"{line}\n" for line in lines)


def exposition(samples: Iterable[Sample]) -> str:
    """Return the samples by family, those alike added up, buckets cumulated."""
    families: dict[str, dict[str, Sample]] = {}
    for sample in samples:
        known = families.setdefault(sample.name, {})
        value = sample.value + (known[sample.text].value if sample.text in known else 0)
        known[sample.text] = Sample(sample.name, sample.labels, value)
    lines: list[str] = []
    for name in sorted(families):
        stem = name.removesuffix(_SUM)
        if name != stem and stem + BUCKET in families:
            continue  # said with its buckets
        if name.endswith(BUCKET):
            lines += _histogram(name.removesuffix(BUCKET), families)
        else:
            lines += _head(PREFIX + name, "counter" if name.endswith("_total") else "gauge")
            lines += (f"{PREFIX}{sample.text} {sample.value}" for sample in families[name].values())
    return "".join(f"{line}\n" for line in lines)


def _head(name: str, kind: str) -> list[str]:
    words = _HELP.get(name.removeprefix(PREFIX), name.removeprefix(PREFIX).replace("_", " ") + ".")
    return [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]


def _histogram(stem: str, families: dict[str, dict[str, Sample]]) -> Iterator[str]:
    """Yield a family of histograms: one row of cumulated buckets, sum and count per set of labels."""
    yield from _head(PREFIX + stem, "histogram")
    series: dict[str, list[Sample]] = {}
    for sample in families[stem + BUCKET].values():
        if _limit(sample) is not None:
            series.setdefault(_text("", _plain(sample)), []).append(sample)
    sums = {_text("", sample.labels): sample.value for sample in families.get(stem + _SUM, {}).values()}
    for key, buckets in series.items():
        labels, count = _plain(buckets[0]), 0
        for bucket in sorted(buckets, key=lambda sample: _limit(sample) or 0.0):
            count += bucket.value
            limit = _limit(bucket)
            le = "+Inf" if limit == math.inf else f"{limit:g}"
            yield f"{_text(PREFIX + stem + BUCKET, labels | {'le': le})} {count}"
        yield f"{_text(PREFIX + stem + _SUM, labels)} {sums.get(key, 0)}"
        yield f"{_text(PREFIX + stem + '_count', labels)} {count}"


def _plain(sample: Sample) -> dict[str, str]:
    return {label: value for label, value in sample.labels.items() if label != "le"}


def _text(name: str, labels: dict[str, str]) -> str:
    return labelled(name, **labels) if labels else name


def _limit(sample: Sample) -> float | None:
    try:
        return float(sample.labels["le"])
    except (KeyError, ValueError):
        return None
