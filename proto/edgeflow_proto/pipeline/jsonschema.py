"""The JSON Schema of pipeline files, made from the kinds: editors complete and check by it while one types.

Draft 2020-12 (https://json-schema.org/draft/2020-12). It knows what stands where: entries, kinds with their
short forms, options and what they take. What entries mean to each other (names, shapes, columns) only `check`
knows. A file that `check` takes is valid by it. Kinds of third parties are in it too.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from edgeflow_proto.pipeline.kinds.base import Handling, Intake, Kind, OutputKind, Role, StepKind, kinds
from edgeflow_proto.pipeline.schema import ENTRY, MAX_ENTRIES, NAME, VERSION, Param

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

_SECTIONS: dict[str, tuple[Role, str]] = {
    "inputs": ("input", "Where rows come from, by name."),
    "steps": ("step", "What is done with rows, by name. The order of entries means nothing."),
    "outputs": ("output", "What is made of rows at the ends, by name."),
}
_ROLES: tuple[Role, ...] = ("input", "step", "output", "decoder")
_PARAMETER: Schema = {
    "type": "string", "pattern": r"^\$[A-Za-z_]\w*$", "description": "The value of a parameter: $name.",
}  # fmt: skip
_SCALARS: dict[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}
_NULL: Schema = {"type": "null"}


def schema() -> Schema:
    """Return the JSON Schema of a pipeline file, with every kind that is installed here."""
    sections = {name: _section(role, about) for name, (role, about) in _SECTIONS.items()}
    definitions = {f"{role}.{name}": _kind(kind) for role in _ROLES for name, kind in _known(role)}
    return {
        "$schema": DIALECT,
        "title": "EdgeFlow pipeline",
        "type": "object",
        "required": ["edgeflow", "name", "inputs", "outputs"],
        "properties": {**_head(), **sections},
        "additionalProperties": False,
        "$defs": {"parameter": _PARAMETER, **definitions},
    }


def _known(role: Role) -> list[tuple[str, type[Kind]]]:
    return sorted(kinds(role).items())


def _head() -> Schema:
    name = {"type": "string", "pattern": _whole(NAME), "description": "The pipeline's name on devices."}
    about = "Values that may differ per device, by name: a default, or a default with bounds."
    value = _either([{"type": ["boolean", "number", "string"]}, _struct(Param)])
    return {
        "$schema": {"type": "string", "description": "Where an editor finds this schema, in JSON files."},
        "edgeflow": {"const": VERSION, "description": "The version of the pipeline language."},
        "name": name,
        "description": {"type": ["string", "null"], "description": "What it is for."},
        "params": {"type": ["object", "null"], "additionalProperties": value, "description": about},
    }


def _whole(pattern: re.Pattern[str]) -> str:
    return f"^(?:{pattern.pattern})$"


# entries


def _section(role: Role, about: str) -> Schema:
    optional = role == "step"
    return {
        "type": ["object", "null"] if optional else "object",
        "minProperties": 0 if optional else 1,
        "maxProperties": MAX_ENTRIES,
        "propertyNames": {"pattern": _whole(ENTRY)},
        "additionalProperties": _entry(role),
        "description": about,
    }


def _entry(role: Role) -> Schema:
    """Return what an entry may be: common options and exactly one kind."""
    found = _known(role)
    common = {"input": _options(Intake), "step": _options(Handling)}.get(role, {})
    named = {name: {"$ref": f"#/$defs/{role}.{name}"} for name, _ in found}
    source = {} if role == "input" else {"from": {"description": "The input, step or port it reads."}}
    if role == "input":
        common["decode"] = _decoder()
    return {
        "type": "object",
        "properties": {**source, **named, **common},
        "additionalProperties": False,
        "oneOf": [_chosen(name, kind) for name, kind in found],
    }


def _chosen(name: str, kind: type[Kind]) -> Schema:
    """Return what is asked of an entry of a kind, besides its options."""
    if issubclass(kind, StepKind):
        return {"required": ["from", name], "properties": {"from": _sources(*kind.sources)}}
    if issubclass(kind, OutputKind):
        return {"required": ["from", name], "properties": {"from": _sources(1, 1)}}
    return {"required": [name]}


def _sources(least: int, most: int) -> Schema:
    edge: Schema = {"type": "string", "minLength": 1}
    if most == 1:
        return edge
    several: list[Schema] = [
        {"type": "array", "items": edge, "minItems": least, "maxItems": most, "uniqueItems": True},
        {"type": "object", "additionalProperties": edge, "minProperties": least, "maxProperties": most},
    ]
    return _either([edge, *several] if least == 1 else several)


def _decoder() -> Schema:
    """Return how a decoder is named: a word, or a mapping of it to its options."""
    found = [name for name, _ in _known("decoder")]
    named: Schema = {
        "type": "object",
        "properties": {name: {"$ref": f"#/$defs/decoder.{name}"} for name in found},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {**_either([{"enum": found}, named, _NULL]), "description": "How a payload becomes samples."}


# kinds and their options


def _kind(kind: type[Kind]) -> Schema:
    """Return what a kind takes: its options, the one of its short form alone, or nothing."""
    options = _struct(kind)
    about = options.pop("description")
    takes = [options]
    if kind.short is not None:
        takes.insert(0, {"not": {"type": ["object", "null"]}, **options["properties"][kind.short]})
    if not options.get("required"):
        takes.append(_NULL)
    return {**_either(takes), "description": about}


def _struct(kind: type[msgspec.Struct]) -> Schema:
    required = [field.encode_name for field in msgspec.structs.fields(kind) if field.required]
    return {
        "type": "object",
        "properties": _options(kind),
        "additionalProperties": False,
        "description": inspect.getdoc(kind) or "",
        **({"required": required} if required else {}),
    }


def _options(kind: type[msgspec.Struct]) -> Schema:
    """Return the options of a struct, each with what the struct's docstring says of it."""
    known = msgspec.structs.fields(kind)
    fields = {field.encode_name: field for field in known if not field.name.startswith("_")}
    return {name: {**_value(field.type), **_said(kind, name)} for name, field in fields.items()}


def _said(kind: type, name: str) -> Schema:
    """Return the sentences of a docstring that speak of an option."""
    text = re.sub(r"\s+", " ", inspect.getdoc(kind) or "")
    about = [part for part in re.split(r"(?<=\.) (?=[A-Z`])", text) if f"`{name}`" in part]
    return {"description": " ".join(about)} if about else {}


def _value(type_: Any) -> Schema:
    """Return what an option takes; the name of a parameter may stand for any value inside it too."""
    found = _plain(type_)
    takes_text = found.get("type") == "string" and "pattern" not in found
    if not found or takes_text:
        return found
    return _either([found, {"$ref": "#/$defs/parameter"}])


def _plain(type_: Any) -> Schema:
    origin, parts = get_origin(type_), get_args(type_)
    if origin in (Union, types.UnionType):
        return _either([_NULL if part is types.NoneType else _plain(part) for part in parts])
    if origin is Literal:
        return {"enum": list(parts)}
    if origin in (list, tuple, dict):
        inside = _value(parts[origin is dict])
        named = {"type": "object", "additionalProperties": inside}
        return named if origin is dict else {"type": "array", "items": inside}
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        return _struct(type_)
    if type_ in _SCALARS:
        return {"type": _SCALARS[type_]}
    return dict(getattr(type_, "written", {}))  # a quantity; of any other type nothing is known


def _either(schemas: Iterable[Schema]) -> Schema:
    """Return what is valid by any of `schemas`, those that are unions themselves taken apart."""
    flat: list[Schema] = []
    for each in schemas:
        parts = each["anyOf"] if each.keys() == {"anyOf"} else [each]
        flat += [part for part in parts if part not in flat]
    return flat[0] if len(flat) == 1 else {"anyOf": flat}
