"""The trace of an event: all that made it, put together from what was stored and from nothing else.

Everything here is pure and works on events in their CloudEvents form, which device and relay both have: the
same events give the same trace on both. What made an event is the newest set-up before it in the same
journal (`edgeflow_proto.setup`) and the event itself, whose spans say which rows it came from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from edgeflow_proto.event import AGENT, ROW_BITS, identity, source
from edgeflow_proto.pipeline.kinds.base import kinds
from edgeflow_proto.recorded import Recorded
from edgeflow_proto.rows_csv import Naming
from edgeflow_proto.setup import TYPE, Entry, Model, Setup, setup_from

Json = dict[str, Any]

LOSSES = tuple(
    f"edgeflow.{name}" for name in ("gap", "deadletter", "step.failed", "state.dropped", "state.damaged")
)
AGENT_LOSSES = tuple(  # in the journal of what a device says of itself
    f"edgeflow.{name}" for name in ("gap", "process.died", "worker.died", "input.rejected", "input.failed")
)
NEAR_S = 60.0
NEAR_EVENTS = 10_000  # sequence numbers to either side
MAX_LOSSES = 50  # of those nearby the nearest are told
_SPAN = re.compile(r"(.+):([0-9]+)-([0-9]+)")


class Span(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The rows of an input behind an event, both ends included, numbered within their ring's generation.

    `began` is the generation of the first where it is another: rows of two rings, whose count is not known.
    With a `key` only those of that key are behind it; they lie among those of others.
    """

    generation: int
    first: int
    last: int
    count: int | None = None
    began: int | None = None
    key: str | None = None

    @property
    def numbers(self) -> tuple[int, int]:
        """The first and the last row as an event numbers them."""
        began = self.generation if self.began is None else self.began
        return began << ROW_BITS | self.first, self.generation << ROW_BITS | self.last


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One station of the path: an entry of the pipeline with the values of the parameters it names.

    `model` is what it runs, `function` the Python file of its function with SHA-256.
    """

    name: str
    role: str
    kind: str
    sources: dict[str, str] = {}
    options: Json = {}
    omitted: int = 0
    params: Json = {}
    model: Model | None = None
    function: tuple[str, str] | None = None


class Told(msgspec.Struct, frozen=True):
    """The event that told the set-up; the same set-up, told again, has the same fingerprint."""

    id: str
    time: str
    fingerprint: str


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """What explains an event.

    Without `told` the set-up is not known, and `missing` says why; the fields from `path` on are then empty,
    but for digests, which an event carries itself. `path` leads from the inputs to the event's output.
    `lost` are events about what was lost nearby, in the order of their times. `rows` tell what is recorded of
    the rows behind it, by input; only the device that recorded them can.
    """

    event: Json
    device: str
    pipeline: str
    spans: dict[str, Span]
    lost: list[Json]
    told: Told | None = None
    missing: str = ""
    path: list[Step] = []
    params: Json = {}
    digest: str = ""
    models: dict[str, str] = {}
    functions: dict[str, str] = {}
    versions: dict[str, str] = {}
    settings: Json = {}
    columns: dict[str, tuple[str, ...]] = {}
    rows: dict[str, Recorded] = {}

    def to_json(self) -> Json:
        """Return it as plain data."""
        found: Json = msgspec.to_builtins(self)
        return found


def trace_from(data: Any) -> Trace:
    """Read what `Trace.to_json` gave; raises ValueError."""
    try:
        return msgspec.convert(data, Trace, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"not a trace: {error}") from None


def trace(event: Json, told: Json | None, around: Iterable[Json]) -> Trace:
    """Put a trace together, but for what is recorded of its rows.

    `told` is the newest event of type `edgeflow_proto.setup.TYPE` at or before the event in its journal, if
    there is one; of the events `around` those are told that say what was lost nearby.
    Raises ValueError where the event is none that EdgeFlow stores.
    """
    setup, missing = _setup(event, told)
    _, _, device, _, pipeline = str(event["source"]).split("/", 4)
    known = Trace(
        event=event, device=device, pipeline=pipeline, spans=_spans(event), lost=nearby(event, around),
        missing=missing, digest=event.get("pipelinedigest", ""), models=_digests(event),
    )  # fmt: skip
    if setup is None or told is None:
        return known
    path = _path(event, setup)
    return msgspec.structs.replace(
        known, told=Told(told["id"], told["time"], setup.fingerprint), path=path,
        spans={name: _keyed(span, event, path, name) for name, span in known.spans.items()},
        params=setup.params,
        models={step: model.digest for step, model in setup.models.items()}, functions=setup.functions,
        versions=setup.versions, settings=setup.settings,
        columns={entry.name: entry.columns for entry in setup.entries if entry.name in known.spans},
    )  # fmt: skip


def _setup(event: Json, told: Json | None) -> tuple[Setup | None, str]:
    """Return the set-up that explains an event, or why there is none."""
    if not event.get("pipelinedigest"):
        return None, "the agent said this itself: no pipeline made it"
    if told is None:
        return None, "the set-up that explains it is not stored: it was never told, or went with older events"
    if told.get("pipelinedigest") != event["pipelinedigest"] or told.get("bootid") != event.get("bootid"):
        return None, f"the set-up that explains it is gone: the newest before it ({told['id']}) is another's"
    try:
        return setup_from(told["data"]), ""
    except ValueError as error:
        return None, f"{told['id']}: {error}"


def naming_of(trace: Trace, name: str) -> Naming:
    """Return what an input calls its key and its words, as far as that is known."""
    options = next((step.options for step in trace.path if step.name == name), {})
    known = {"key": options.get("key") or "key", "codes": options.get("codes") or {}}
    return msgspec.convert(known, Naming)


def _digests(event: Json) -> dict[str, str]:
    pairs = (pair.rpartition("=") for pair in event.get("modeldigest", "").split())
    return {step: digest for step, _, digest in pairs}


def _spans(event: Json) -> dict[str, Span]:
    found = (_SPAN.fullmatch(part) for part in event.get("inputspan", "").split())
    return {match[1]: _span(int(match[2]), int(match[3])) for match in found if match is not None}


def _span(first: int, last: int) -> Span:
    row = (1 << ROW_BITS) - 1
    began, generation = first >> ROW_BITS, last >> ROW_BITS
    if began != generation:
        return Span(generation=generation, first=first & row, last=last & row, began=began)
    return Span(generation=generation, first=first & row, last=last & row, count=last - first + 1)


def _keyed(span: Span, event: Json, path: Sequence[Step], name: str) -> Span:
    """Return a span with the key of its rows: the event's subject, where the input has keys.

    Not so behind a step that puts rows of several keys into one, or of which that is not known.
    """
    reached = {name}
    known = kinds("step")
    for step in path:
        if not reached.isdisjoint(edge.partition(".")[0] for edge in step.sources.values()):
            reached.add(step.name)
            kind = known.get(step.kind)
            if step.role == "step" and getattr(kind, "mixes_keys", True):
                return span
    keyed = any(step.name == name and step.options.get("key") is not None for step in path)
    return msgspec.structs.replace(span, key=event.get("subject")) if keyed else span


def _path(event: Json, setup: Setup) -> list[Step]:
    """Return what leads to the output, or for what EdgeFlow tells itself to the entry that it tells about."""
    if event["type"] == TYPE:
        return [_step(entry, setup) for entry in setup.entries]
    entries = {entry.name: entry for entry in setup.entries}
    about = event["data"].get("step") or event["data"].get("input")
    end = event["output"] if not event["type"].startswith("edgeflow.") else about
    wanted, todo = set(), [str(end)]
    while todo:
        entry = entries.get(todo.pop())
        if entry is not None and entry.name not in wanted:
            wanted.add(entry.name)
            todo += [edge.partition(".")[0] for edge in entry.sources.values()]
    return [_step(entry, setup) for entry in setup.entries if entry.name in wanted]


def _step(entry: Entry, setup: Setup) -> Step:
    return Step(
        name=entry.name, role=entry.role, kind=entry.kind, sources=entry.sources, options=entry.options,
        omitted=entry.omitted, params={name: setup.params.get(name) for name in entry.params},
        model=setup.models.get(entry.name), function=_function(entry, setup.functions),
    )  # fmt: skip


def _function(entry: Entry, functions: Mapping[str, str]) -> tuple[str, str] | None:
    if entry.kind != "python":
        return None
    file = str(entry.options.get("function", "")).rpartition(".")[0].replace(".", "/") + ".py"
    return (file, functions[file]) if file in functions else None


def nearby(event: Json, around: Iterable[Json]) -> list[Json]:
    """Return the losses near an event, at most the nearest `MAX_LOSSES`, in the order of their times."""
    _, sequence = identity(event["id"])
    found = {identity(other["id"]): other for other in around if _bears_on(event, other)}
    far = {each: (_seconds(event, other), abs(each[1] - sequence)) for each, other in found.items()}
    near = sorted((each for each in found if far[each][0] <= NEAR_S), key=far.__getitem__)[:MAX_LOSSES]
    return [found[each] for each in sorted(near, key=lambda each: (found[each]["time"], each))]


def _bears_on(event: Json, other: Json) -> bool:
    """Whether a loss is one of the event's journal, not far off, or one that its device tells of it."""
    journal, sequence = identity(event["id"])
    owner, number = identity(other["id"])
    if owner == journal:
        return other["type"] in LOSSES and 0 < abs(number - sequence) <= NEAR_EVENTS
    _, _, device, _, pipeline = event["source"].split("/", 4)
    about = other["data"].get("pipeline", pipeline)
    return other["source"] == source(device, AGENT) and other["type"] in AGENT_LOSSES and about == pipeline


def _seconds(one: Json, other: Json) -> float:
    """Return how far apart two events are: by the clock nobody sets where they are of one boot.

    It is when they were decided on that counts: the time of an event may be one that its sample carried.
    """
    if one.get("bootid") == other.get("bootid"):
        return abs(decided_ns(one) - decided_ns(other)) / 1e9
    apart = datetime.fromisoformat(one["time"]) - datetime.fromisoformat(other["time"])
    return abs(apart.total_seconds())


def decided_ns(event: Json) -> int:
    """Return when an event was decided on, in ns since its boot."""
    return int(event.get("decidedns") or event["monotonicns"])
