"""A trace in words: sections of rows of text, which pages and the command line show each in their way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from edgeflow_proto.setup import TYPE
from edgeflow_proto.trace import Json, Step, Trace

ROWS = "Rows behind it"


class Section(NamedTuple):
    """Something to show: rows of the same number of texts, and what else is to be said."""

    title: str
    rows: Sequence[tuple[str, ...]]
    words: str = ""


def sections(trace: Trace) -> list[Section]:
    """Return what there is to show of a trace, the event first."""
    lost = [(other["time"], other["type"], pairs(other["data"])) for other in trace.lost]
    found = [
        Section("Event", [*_event(trace.event)]),
        Section("Pipeline", [*_pipeline(trace)], trace.missing),
        Section(ROWS, [*_rows(trace)], "" if trace.spans else "It came from no rows."),
        Section("Path", [_station(step) for step in trace.path]),
        Section("Files", [*_files(trace)]),
        Section("Versions", [*trace.versions.items()]),
        Section("Lost nearby", lost, "" if lost else "Nothing."),
    ]
    return [section for section in found if section.rows or section.words]


def pairs(data: Json) -> str:
    """Return named values in a line, those that hold nothing left out."""
    return " ".join(f"{name}={value(each)}" for name, each in data.items() if each not in ({}, [], ()))


def set_up(data: Json) -> str:
    """Return what a set-up tells in a line: how many of what, its values, and which version it is."""
    entries = data.get("entries", ())
    roles = {role: sum(entry["role"] == role for entry in entries) for role in ("input", "step", "output")}
    counts = [f"{count} {role}{'' if count == 1 else 's'}" for role, count in roles.items()]
    models = [model["file"] for model in data.get("models", {}).values()]
    parts = [", ".join(counts), pairs(data.get("params", {})), ", ".join(models)]
    return "; ".join([*filter(None, parts), f"digest {data.get('digest', '')[:12]}"])


def value(each: Any) -> str:
    """Return a text as it is, a number to as many places as a float32 has, anything else as JSON."""
    if isinstance(each, str):
        return each
    return f"{each:.7g}" if isinstance(each, float) else msgspec.json.encode(each).decode()


def _event(event: Json) -> Iterator[tuple[str, str]]:
    yield "type", f"{event['type']} ({event['severity']})"
    if "subject" in event:
        yield "subject", event["subject"]
    yield "time", f"{event['time']}, clock {event['clockquality']}{_uncertainty(event)}"
    yield "id", event["id"]
    if event["type"] != TYPE:  # what a set-up tells is shown in the other sections
        yield from ((name, value(each)) for name, each in event["data"].items())


def _uncertainty(event: Json) -> str:
    ns = event.get("timeuncertaintyns")
    return "" if ns is None else f" ± {int(ns) / 1e9:.3g} s"


def _pipeline(trace: Trace) -> Iterator[tuple[str, str]]:
    yield "name", trace.pipeline
    yield "device", trace.device
    if trace.digest:
        yield "digest", trace.digest
    yield from ((f"parameter {name}", value(each)) for name, each in trace.params.items())
    yield from ((f"setting {name}", value(each)) for name, each in trace.settings.items())
    if trace.told is not None:
        yield "set up", f"{trace.told.time}, told by {trace.told.id}"


def _rows(trace: Trace) -> Iterator[tuple[str, ...]]:
    for name in trace.spans:
        columns = ", ".join(trace.columns.get(name, ()))
        yield name, span_words(trace, name), columns, recorded_words(trace, name)


def span_words(trace: Trace, name: str) -> str:
    """Return which rows of an input are behind an event."""
    span, among = trace.spans[name], _among(trace, name)
    if span.began is not None:
        return f"row {span.first} of ring {span.began} to row {span.last} of ring {span.generation}{among}"
    count = f"{span.count:,} {'row' if span.count == 1 else 'rows'}"
    return f"{count}{among}: {span.first} to {span.last} of ring {span.generation}"


def _among(trace: Trace, name: str) -> str:
    """Return whose rows are meant among those of all keys, and how many where all can be counted."""
    found, span = trace.rows.get(name), trace.spans[name]
    if span.key is None:
        return ""
    counted = found is not None and found.whole and found.count == span.count
    return f", {found.own:,} of {span.key}" if found and counted else f", those of {span.key} among them"


def recorded_words(trace: Trace, name: str) -> str:
    """Return what is known of the recording of an input's rows."""
    found, span = trace.rows.get(name), trace.spans[name]
    if found is not None and found.count:
        count = f"all {found.count:,}" if found.count == span.count else f"{found.count:,} of them"
        own = f", {found.own:,} of {span.key}" if found.own is not None and found.count != span.count else ""
        return f"{count} recorded{own}" if found.whole else f"the first {found.count:,} recorded, or more"
    station = next((step for step in trace.path if step.name == name), None)
    record = station.options.get("record", "off") if station is not None else "off"
    if record == "off":
        return "not recorded" if station is not None else ""
    if found is None:
        return "recorded on the device, which can be asked for them"
    return "not on the disk yet, or not any more"


def _station(step: Step) -> tuple[str, ...]:
    source = f"from {', '.join(step.sources.values())}" if step.sources else ""
    options = f"({step.omitted:,} bytes of options are not told)" if step.omitted else pairs(step.options)
    named = f" [{pairs({f'${name}': each for name, each in step.params.items()})}]" if step.params else ""
    return step.name, step.kind, source, options + named


def _files(trace: Trace) -> Iterator[tuple[str, ...]]:
    models = {step.name: step.model for step in trace.path if step.model is not None}
    for step, digest in trace.models.items():
        model = models.get(step)
        file, by = (model.file, f", executed by {model.provider}") if model else ("model", "")
        yield file, digest, f"model of {step}{by}"
    used = {step.function[0]: step.name for step in trace.path if step.function is not None}
    for file, digest in trace.functions.items():
        yield file, digest, f"function of {used[file]}" if file in used else ""
