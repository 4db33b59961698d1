"""All that can be known about a pipeline before it runs: the same on laptop, relay and device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from edgeflow_proto.bundle import Signature
from edgeflow_proto.pipeline.flow import ITEM_BYTES, Flow
from edgeflow_proto.pipeline.graph import Graph, InputNode, OutputNode, StepNode
from edgeflow_proto.pipeline.kinds.base import (
    Around,
    Context,
    Files,
    InputKind,
    Intake,
    OutputKind,
    StepKind,
    check_columns,
    check_shape,
)
from edgeflow_proto.pipeline.load import dotted, load
from edgeflow_proto.pipeline.problem import Mistake, Path, Problem, Rejected, closest, near_miss
from edgeflow_proto.pipeline.schema import Document, Entry, Reader

MAX_RING_BYTES = 1 << 30


def check(
    text: str | bytes,
    file: str,
    files: Files,
    signatures: Mapping[str, Signature],
    params: Mapping[str, Any] | None = None,
) -> tuple[Graph | None, list[Problem]]:
    """Check a pipeline file; return its graph, or every problem in the order of the file.

    `files` are those beside it, `signatures` those of its models (a missing one leaves shapes behind
    the model unknown), `params` this device's values for some of its parameters. Raises nothing,
    whatever the text; its time is bounded by the loader's limits.
    """
    source, problems = load(text, file)
    if source is None:
        return None, problems
    reader = Reader(source, dict(params or {}))
    document = reader.document()
    problems += reader.problems
    if document is None:
        return None, problems
    checker = _Checker(document, files, signatures)
    graph = checker.graph()
    problems = sorted({*problems, *checker.problems}, key=lambda p: (p.line, p.col, p.what))
    return (None, problems) if problems else (graph, [])


def graph_of(
    text: str | bytes,
    file: str,
    files: Files,
    signatures: Mapping[str, Signature],
    params: Mapping[str, Any] | None = None,
) -> Graph:
    """Return the graph of a pipeline file; raises Rejected with every problem."""
    graph, problems = check(text, file, files, signatures, params)
    if graph is None:
        raise Rejected(problems)
    return graph


class _Checker:
    """Joins the entries of a document: references, order, flows."""

    def __init__(self, document: Document, files: Files, signatures: Mapping[str, Signature]) -> None:
        self.document = document
        self.entries = document.entries
        self.files = files
        self.signatures = signatures
        self.problems: list[Problem] = []
        self.flows: dict[str, Flow] = {}
        self.intakes: dict[str, InputNode] = {}
        self.readable = [n for n, entry in self.entries.items() if entry.role != "output" and "." not in n]
        self.read = {base for entry in self.entries.values() for base in _bases(entry)}

    def graph(self) -> Graph:
        for entry in self.of("input"):
            self.input(entry)
        order = self.ordered()
        for entry in [*order, *(entry for entry in self.of("step") if entry not in order)]:
            self.step(entry)
        for entry in self.of("output"):
            self.output(entry)
        self.unread()
        graph = self.assembled(order)
        for entry in self.of("input"):
            self.ring(entry, graph)
        return graph

    def assembled(self, order: list[Entry]) -> Graph:
        steps = {e.name: StepNode(e.name, e.kind, e.options, e.sources, e.handling)
                 for e in order if isinstance(e.options, StepKind)}  # fmt: skip
        outputs = {e.name: OutputNode(e.name, e.kind, e.options, *e.sources.values())
                   for e in self.of("output") if isinstance(e.options, OutputKind) and e.sources}  # fmt: skip
        return Graph(self.document.name, self.document.params, self.intakes, steps, outputs, self.flows)

    def of(self, role: str) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.role == role]

    def report(self, path: Path, entry: Entry, what: str, hint: str = "") -> None:
        self.problems.append(self.document.source.problem(path, dotted(entry.path), what, hint))

    def mistake(self, entry: Entry, mistake: Mistake) -> None:
        places = self.document.source.places
        option = mistake.option
        candidates = [(*entry.option_path, option), (*entry.path, option)] if option else []
        candidates.append(entry.option_path)
        path = next((path for path in candidates if path in places), entry.path)
        named = f"{option}: " if option and option != "from" else ""
        self.report(path, entry, f"{named}{mistake.what}", mistake.hint)

    def input(self, entry: Entry) -> None:
        kind, intake = entry.options, entry.intake
        if not isinstance(kind, InputKind) or intake is None:
            return
        try:
            if intake.decode and not kind.decodes:
                raise Mistake(f"{entry.kind} rows need no decoder", option="decode")
            fielded = (kind.decodes or kind.lossless) and not kind.captures() and intake.key is not None
            intake = msgspec.structs.replace(kind.adjust(intake), _fielded=fielded)
            self.check_intake(kind, intake)
        except Mistake as mistake:
            self.mistake(entry, mistake)
            return
        self.intakes[entry.name] = InputNode(entry.name, entry.kind, kind, intake)
        codes = {column: tuple(words) for column, words in intake.codes.items()}
        self.flows[entry.name] = Flow(
            intake.row_shape, intake.dtype, intake.columns, intake.rate, (entry.name,), intake.key,
            domain="payload" if intake.clock else "arrival", codes=codes,
        )  # fmt: skip

    def check_intake(self, kind: InputKind, intake: Intake) -> None:
        if intake.fields is not None:
            check_columns(list(intake.fields), "fields")
        if intake.shape is not None:
            check_shape(intake.shape)
        if intake.shape is not None and intake.fields is not None and intake.shape[-1] != len(intake.fields):
            what = f"the last axis of shape {list(intake.shape)} is not {len(intake.fields)} fields"
            raise Mistake(what, option="shape")
        carries = kind.decodes or kind.lossless  # whether samples may carry more than numbers
        if intake.key is not None and intake.key not in kind.captures() and not intake.key_field:
            hint = near_miss(intake.key, kind.captures())
            raise Mistake(f"no capture '{intake.key}' in the source", option="key", hint=hint)
        if (intake.codes or intake.clock) and (not carries or intake.shape is not None):
            raise Mistake("its samples are numbers alone", option="codes" if intake.codes else "time")
        self.check_codes(intake)
        if intake.record == Around():
            raise Mistake("say how much before and after an event", option="record")
        if not 1 <= intake.max_keys <= 65536:
            raise Mistake("must be between 1 and 65536", option="max_keys")

    def check_codes(self, intake: Intake) -> None:
        for column, words in intake.codes.items():
            if column not in (intake.columns or ()):
                raise Mistake(
                    f"no column '{column}'", option="codes", hint=near_miss(column, intake.columns or ())
                )
            if not words or len({*words}) < len(words):
                raise Mistake(f"'{column}': name each text once, and at least one", option="codes")

    def ring(self, entry: Entry, graph: Graph) -> None:
        node, flow = graph.inputs.get(entry.name), self.flows.get(entry.name)
        if node is None or flow is None or flow.size is None:
            return
        size = graph.capacity(entry.name) * flow.size * ITEM_BYTES[node.intake.dtype]
        if size > MAX_RING_BYTES:
            what = f"its ring would take {size / 2**20:.0f} MiB, at most {MAX_RING_BYTES >> 20}"
            self.report(entry.path, entry, what, "a smaller buffer, rate or window")

    def ordered(self) -> list[Entry]:
        """Return the steps that can be reached from inputs, in order; report cycles."""
        done: list[Entry] = []
        waiting = self.of("step")
        known = {entry.name for entry in self.of("input")}
        while ready := [entry for entry in waiting if self.settled(entry, known)]:
            done += ready
            known |= {entry.name for entry in ready}
            waiting = [entry for entry in waiting if entry.name not in known]
        for entry in waiting:
            if self.cyclic(entry):
                self.report((*entry.path, "from"), entry, "it reads, through others, what it makes itself")
        return done

    def settled(self, entry: Entry, known: set[str]) -> bool:
        return all(base in known or base not in self.readable for base in _bases(entry))

    def cyclic(self, entry: Entry) -> bool:
        seen: set[str] = set()
        names = _bases(entry)
        while names and entry.name not in names:
            seen |= names
            names = {base for name in names if name in self.entries for base in _bases(self.entries[name])}
            names -= seen
        return entry.name in names

    def upstreams(self, entry: Entry) -> dict[str, Flow]:
        """Return the flows an entry reads; nothing is known of one whose source has a mistake."""
        for label, edge in entry.sources.items():
            self.check_source(entry, label, edge)
        return {label: self.flows.get(edge, Flow()) for label, edge in entry.sources.items()} or {"": Flow()}

    def check_source(self, entry: Entry, label: str, edge: str) -> None:
        name, _, port = edge.partition(".")
        path = self.place(entry, label, edge)
        if name not in self.readable:
            known = [other for other in self.readable if other != entry.name]
            self.read.add(closest(name, known) or "")
            self.report(path, entry, f"no input or step '{name}'", near_miss(name, known))
        elif self.entries[name].options is not None:
            ports = getattr(self.entries[name].options, "ports", ())
            if port not in (ports or ("",)):
                what = f"'{name}' has no port '{port}'" if port else f"'{name}' has ports; say which"
                self.report(path, entry, what, near_miss(port, ports) if ports else "")

    def place(self, entry: Entry, label: str, edge: str) -> Path:
        """Return where an edge is named: an element of a list, a value of a mapping, or the text itself."""
        path: Path = (*entry.path, "from")
        index = [*entry.sources.values()].index(edge)
        found = (place for place in ((*path, label), (*path, index)) if place in self.document.source.places)
        return next(found, path)

    def context(self, entry: Entry, upstreams: Mapping[str, Flow]) -> Context:
        return Context(entry.name, self.document.name, self.files, self.signatures, upstreams)

    def step(self, entry: Entry) -> None:
        upstreams = self.upstreams(entry)
        if not isinstance(entry.options, StepKind):
            return
        try:
            flows = entry.options.flows(next(iter(upstreams.values())), self.context(entry, upstreams))
        except Mistake as mistake:
            self.mistake(entry, mistake)
            return
        for port, flow in flows.items():
            self.flows[f"{entry.name}.{port}" if port else entry.name] = flow

    def output(self, entry: Entry) -> None:
        upstreams = self.upstreams(entry)
        if not isinstance(entry.options, OutputKind):
            return
        try:
            entry.options.check(next(iter(upstreams.values())), self.context(entry, upstreams))
        except Mistake as mistake:
            self.mistake(entry, mistake)

    def unread(self) -> None:
        for name in self.readable:
            if name not in self.read:
                entry = self.entries[name]
                self.report(entry.path, entry, "nothing reads it", "remove it or name it in a 'from'")


def _bases(entry: Entry) -> set[str]:
    return {edge.partition(".")[0] for edge in entry.sources.values()}
