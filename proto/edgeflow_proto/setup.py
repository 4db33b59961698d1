"""How a pipeline was set up: what explains its events and need not be in each of them.

A worker tells it as an event of the journal of type `TYPE`: before the first event that it applies to, and
as the first of each segment, so that retention never takes it away from events that remain. All that
made an event is thus the newest set-up before it in the same journal, and the event itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from edgeflow_proto.bundle import sha256
from edgeflow_proto.pipeline.graph import Graph, InputNode, OutputNode, StepNode
from edgeflow_proto.pipeline.kinds.base import DecoderKind, kinds
from edgeflow_proto.pipeline.units import Duration, Extent, Frequency, Size, spelled

NAME = "pipeline.started"
TYPE = f"edgeflow.{NAME}"
MAX_OPTIONS = 64 << 10  # bytes, of all entries as JSON: each segment of a journal begins with them

_NAMED = re.compile(r"(?<!\$)\$([A-Za-z_]\w*)")
_SECTIONS: dict[str, str] = {"input": "inputs", "step": "steps", "output": "outputs"}


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An input, step or output: its options as resolved, defaults included, quantities with their units.

    `sources` are the edges it reads by what it calls them, `params` the parameters it names. `columns` and
    `dtype` are those of an input's rows. `omitted` counts the bytes of options too large to be told.
    """

    name: str
    role: Literal["input", "step", "output"]
    kind: str
    options: dict[str, Any] = {}
    sources: dict[str, str] = {}
    params: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    dtype: str = ""
    omitted: int = 0


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model as it was loaded: its file with SHA-256, and what executes it."""

    file: str
    digest: str
    provider: str


class Setup(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that a worker was set up with.

    `params` are this device's values; `models` go by step, `functions` are SHA-256 of the bundle's Python by
    file, `generations` those of the rings by input: row 0 of generation 3 is numbered ``3 << 40``.
    `settings` are the device's that bear on it.
    """

    digest: str  # of the pipeline
    boot_id: str
    params: dict[str, Any] = {}
    entries: tuple[Entry, ...] = ()
    versions: dict[str, str] = {}
    models: dict[str, Model] = {}
    functions: dict[str, str] = {}
    generations: dict[str, int] = {}
    settings: dict[str, Any] = {}

    def to_data(self) -> dict[str, Any]:
        """Return it as an event carries it."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its canonical form: the same set-up has the same one."""
        return sha256(msgspec.json.encode(self, order="sorted"))


def setup_from(data: Any) -> Setup:
    """Read what `Setup.to_data` gave; raises ValueError."""
    try:
        return msgspec.convert(data, Setup, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"not a set-up that is known here: {error}") from None


def entries(graph: Graph, document: Any = None) -> tuple[Entry, ...]:
    """Describe the entries of a pipeline, each step after what it reads.

    `document` is the file as plain data, from which the parameters are told that each entry names.
    """
    nodes: list[InputNode | StepNode | OutputNode] = [
        *graph.inputs.values(),
        *graph.steps.values(),
        *graph.outputs.values(),
    ]
    return _fitted([_entry(graph, node, document) for node in nodes])


def _entry(graph: Graph, node: InputNode | StepNode | OutputNode, document: Any) -> Entry:
    options = plain(node.options)
    if isinstance(node, InputNode):
        flow = graph.flows[node.name]
        form: dict[str, Any] = {"columns": flow.columns or (), "dtype": flow.dtype or ""}
        role, sources, options = "input", {}, plain(node.intake) | options
    elif isinstance(node, StepNode):
        role, sources, form = "step", node.sources, {}
        options |= plain(node.handling)
    else:
        role, sources, form = "output", {node.source: node.source}, {}
    written = _written(document, _SECTIONS[role], node.name)
    params = tuple(name for name in dict.fromkeys(_named(written)) if name in graph.params)
    return msgspec.convert(
        {"name": node.name, "role": role, "kind": node.kind, "options": options, "sources": sources,
         "params": params, **form}, Entry,
    )  # fmt: skip


def _written(document: Any, section: str, name: str) -> Any:
    found = document.get(section) if isinstance(document, dict) else None
    return found.get(name) if isinstance(found, dict) else None


def _named(value: Any) -> Iterator[str]:
    """Yield the parameters that texts inside a value name."""
    if isinstance(value, str):
        yield from _NAMED.findall(value)
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _named(each)


def _fitted(found: list[Entry]) -> tuple[Entry, ...]:
    """Leave out the largest options where all together are too large; that they were is told."""
    sizes = {entry.name: len(msgspec.json.encode(entry.options)) for entry in found}
    omitted: dict[str, int] = {}
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if sum(sizes.values()) <= MAX_OPTIONS:
            break
        omitted[name] = sizes.pop(name)
    return tuple(
        msgspec.structs.replace(entry, options={}, omitted=omitted[entry.name])
        if entry.name in omitted else entry
        for entry in found
    )  # fmt: skip


def plain(value: Any) -> Any:
    """Return options as plain data, as a pipeline file would say them; what is not set is left out."""
    if isinstance(value, Duration | Frequency | Size | Extent):
        return spelled(value)
    if isinstance(value, DecoderKind):
        return {_decoder(value): _fields(value)}
    if isinstance(value, msgspec.Struct):
        return _fields(value)
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _fields(value: msgspec.Struct) -> dict[str, Any]:
    found = {field.encode_name: getattr(value, field.name) for field in msgspec.structs.fields(value)}
    return {name: plain(each) for name, each in found.items() if each is not None and name[0] != "_"}


def _decoder(value: DecoderKind) -> str:
    return next((name for name, kind in kinds("decoder").items() if kind is type(value)), "")
