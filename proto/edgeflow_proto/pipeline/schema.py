"""From plain data to a document: entries with their kinds and typed options.

Every option is converted by itself, so that one mistake does not hide the next.
"""

from __future__ import annotations

import math
import re
from itertools import islice
from typing import Any, TypeVar

import msgspec

from edgeflow_proto.bundle import PIPELINE_NAME
from edgeflow_proto.pipeline import units
from edgeflow_proto.pipeline.explain import explain
from edgeflow_proto.pipeline.kinds.base import DecoderKind, Handling, Intake, Kind, Role, kinds
from edgeflow_proto.pipeline.load import Source, dotted
from edgeflow_proto.pipeline.problem import Mistake, Path, Problem, near_miss, shown

VERSION = 1
NAME = PIPELINE_NAME
ENTRY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
MAX_ENTRIES = 256  # in each section
_PARAM_NAME = re.compile(r"[A-Za-z_]\w*")
_PARAM = re.compile(r"\$(\$?[A-Za-z_]\w*)")  # $$name is the text $name
_INSIDE = re.compile(r"\$([A-Za-z_]\w*)")  # an expression
_SECTIONS: dict[str, Role] = {"inputs": "input", "steps": "step", "outputs": "output"}
_INTAKE = frozenset(name for name in Intake.__struct_encode_fields__ if not name.startswith("_"))
_HANDLING = frozenset(field.encode_name for field in msgspec.structs.fields(Handling))
_COMMON: dict[Role, frozenset[str]] = {
    "input": _INTAKE, "step": _HANDLING | {"from"}, "output": frozenset(("from",)),
}  # fmt: skip
_EDITORS = "$schema"  # how JSON files tell an editor their schema; it means nothing here
_TOP = ("edgeflow", "name", "description", "params", *_SECTIONS)

K = TypeVar("K", bound=msgspec.Struct)


class Param(msgspec.Struct, frozen=True):
    """A value that may differ per device. Bounds include their ends."""

    default: bool | int | float | str
    min: float | None = None
    max: float | None = None

    def error(self, value: Any) -> str | None:
        """Say why `value` is not allowed, or return ``None``."""
        if _is_number(value) != _is_number(self.default) or isinstance(value, str) != isinstance(
            self.default, str
        ):
            return f"{shown(value)} is not of the same type as the default {shown(self.default)}"
        return self._bounds_error(value) if self.min is not None or self.max is not None else None

    def _bounds_error(self, value: Any) -> str | None:
        if not _is_number(value):
            return "only a number has a minimum and a maximum"
        low = -math.inf if self.min is None else self.min
        high = math.inf if self.max is None else self.max
        if low > high:
            return f"the minimum {low:g} is above the maximum {high:g}"
        if value < low:
            return f"{value} is below the minimum {low:g}"
        return None if value <= high else f"{value} is above the maximum {high:g}"  # NaN is not below it


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class Entry(msgspec.Struct, frozen=True):
    """One input, step or output as written; `options` are ``None`` when something is wrong with them."""

    name: str
    role: Role
    kind: str
    options: Kind | None
    path: Path
    option_path: Path  # where the kind's options stand
    sources: dict[str, str] = {}  # edges by what the entry calls them
    intake: Intake | None = None
    handling: Handling = Handling()


class Document(msgspec.Struct, frozen=True):
    """A pipeline file whose entries are each well-formed; how they fit together is not checked yet."""

    source: Source
    name: str
    params: dict[str, Any]
    entries: dict[str, Entry]


class Reader:
    """Reads a source into a document, collecting every problem on the way."""

    def __init__(self, source: Source, params: dict[str, Any]) -> None:
        """Read `source`; `params` are this device's values for some of its parameters."""
        self.source = source
        self.given = params
        self.params: dict[str, Any] = {}
        self.problems: list[Problem] = []

    def report(self, path: Path, what: str, hint: str = "", where: Path | None = None) -> None:
        """Add a problem that points at `path` and is named after `where` (default: the same)."""
        self.problems.append(self.source.problem(path, dotted(path if where is None else where), what, hint))

    def document(self) -> Document | None:
        """Return the document, or ``None`` when the file is not a mapping at all."""
        data = self.source.data
        if not isinstance(data, dict):
            self.report((), "a pipeline file is a mapping", "begin the file with edgeflow: 1")
            return None
        for key in data.keys() - {_EDITORS, *_TOP}:
            self.report((key,), f"unknown key '{key}'", near_miss(key, _TOP), where=())
        self._version(data)
        self._description(data)
        self._params(data.get("params"))
        entries: dict[str, Entry] = {}
        for section in _SECTIONS:
            self._section(data, section, entries)
        return Document(self.source, self._name(data), self.params, entries)

    def _version(self, data: dict[str, Any]) -> None:
        if "edgeflow" not in data:
            self.report((), "no version", "begin the file with edgeflow: 1")
        elif type(data["edgeflow"]) is not int or data["edgeflow"] != VERSION:
            what = f"version {shown(data['edgeflow'])} is not known"
            self.report(("edgeflow",), what, f"this is version {VERSION}")

    def _name(self, data: dict[str, Any]) -> str:
        name = data.get("name")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            what = "no name" if name is None else f"{shown(name)} is not a pipeline name"
            self.report(("name",), what, "lower-case letters, digits and '-', a letter first, at most 63")
            return "unnamed"
        return name

    def _description(self, data: dict[str, Any]) -> None:
        text = data.get("description")
        if text is not None and not isinstance(text, str):
            self.report(("description",), f"expected text, not {shown(text)}")

    def _params(self, data: Any) -> None:
        if data is not None and not isinstance(data, dict):
            self.report(("params",), f"expected a mapping of names, not {shown(data)}")
            return
        for name, value in (data or {}).items():
            self.params[name] = self._param(name, value)
        for name in self.given.keys() - (data or {}).keys():
            self.report(("params",), f"no parameter '{name}'", near_miss(name, data or {}))

    def _param(self, name: str, spec: Any) -> Any:
        """Return the value of a parameter; `_BROKEN` when there is something wrong with it."""
        path: Path = ("params", name)
        if not _PARAM_NAME.fullmatch(name):
            self.report(path, f"{shown(name)} is not a name", "letters, digits and '_', a letter first")
            return _BROKEN
        param = self.struct(Param, spec if isinstance(spec, dict) else {"default": spec}, path, path)
        if param is None:
            return _BROKEN
        value = self.given.get(name, param.default)
        error = param.error(param.default) or param.error(value)
        if error:
            self.report(path, error)
        return _BROKEN if error else value

    def _section(self, data: dict[str, Any], section: str, out: dict[str, Entry]) -> None:
        entries = data.get(section)
        if not entries and (section == "steps" and entries in (None, {})):
            return
        if not isinstance(entries, dict) or not entries:
            what = f"expected a mapping of names, not {shown(entries)}" if entries else f"no {section}"
            self.report((section,), what, where=(section,) if entries else ())
            return
        if len(entries) > MAX_ENTRIES:
            self.report((section,), f"{len(entries)} entries, at most {MAX_ENTRIES}")
        for name, value in islice(entries.items(), MAX_ENTRIES):
            entry = self._entry(_SECTIONS[section], (section, name), value)
            # One whose name is taken stays in under a name no entry can have: what it reads is read.
            out[name if self._name_free(data, section, name) else dotted(entry.path)] = entry

    def _name_free(self, data: dict[str, Any], section: str, name: str) -> bool:
        if not ENTRY.fullmatch(name):
            what = f"{shown(name)} is not a name"
            self.report((section, name), what, "letters, digits and '_', a letter first, at most 63")
        for other in list(_SECTIONS)[: list(_SECTIONS).index(section)]:
            if isinstance(data.get(other), dict) and name in data[other]:
                self.report((section, name), f"'{name}' is also the name of one of the {other}")
                return False
        return True

    def _entry(self, role: Role, path: Path, value: Any) -> Entry:
        name = str(path[-1])
        if not isinstance(value, dict):
            self.report(path, f"expected a mapping, not {shown(value)}")
            return Entry(name, role, "", None, path, path)
        common = _COMMON[role]
        kind = self._kind(role, path, value, common)
        options = self._options(kinds(role)[kind], value[kind], (*path, kind), path) if kind else None
        option_path = (*path, kind) if kind else path
        if role != "input":
            return self._reader(Entry(name, role, kind or "", options, path, option_path), value)
        intake = self._intake(path, {key: value[key] for key in value if key in common})
        return Entry(name, role, kind or "", options if intake else None, path, option_path, intake=intake)

    def _kind(self, role: Role, path: Path, value: dict[str, Any], common: frozenset[str]) -> str | None:
        known = kinds(role)
        named = [key for key in value if key in known]
        unknown = [key for key in value if key not in known and key not in common]
        for key in unknown:
            inside = next((kind for kind in named if key in known[kind].__struct_fields__), None)
            hint = near_miss(key, {*known, *common} if not named else common)
            hint = f"inside {inside}: {{…, {key}: …}}" if inside else hint
            self.report((*path, key), f"unknown option '{key}'", hint, where=path)
        if len(named) > 1:
            what = f"{len(named)} kinds: {' and '.join(named)}"
            self.report((*path, named[1]), what, "one entry, one kind", where=path)
        if not named and not unknown:
            self.report(path, "no kind", near_miss("", known))
        return named[0] if len(named) == 1 else None

    def _reader(self, entry: Entry, value: dict[str, Any]) -> Entry:
        """Return a step or output with what it reads and how its failures are handled."""
        common = {key: value[key] for key in value if key in _HANDLING} if entry.role == "step" else {}
        handling = self.struct(Handling, common, entry.path, entry.path) or Handling()
        sources = self._sources(entry, value.get("from"))
        return msgspec.structs.replace(entry, sources=sources, handling=handling)

    def _sources(self, entry: Entry, value: Any) -> dict[str, str]:
        unsure = entry.role == "step" and entry.options is None  # what it may read is not known
        least, most = getattr(entry.options, "sources", (1, MAX_ENTRIES if unsure else 1))
        named = _named(value) if most > 1 or isinstance(value, str) else None
        if named is None or not least <= len(named) <= most:
            path = (*entry.path, "from")
            self.report(path, "no 'from'" if value is None else _expected(least, most), where=entry.path)
            return {}
        return named

    def _options(self, kind: type[Kind], value: Any, path: Path, where: Path) -> Kind | None:
        if value is None:
            value = {}
        if not isinstance(value, dict):
            if kind.short is None:
                self.report(path, f"the options of '{path[-1]}' are a mapping", where=where)
                return None
            value = {kind.short: value}
            return self.struct(kind, value, path, where, at={kind.short: path})
        return self.struct(kind, value, path, where)

    def _intake(self, path: Path, value: dict[str, Any]) -> Intake | None:
        decode = value.pop("decode", None)
        intake = self.struct(Intake, value, path, path)
        if intake is None or decode is None:
            return intake
        decoder = self._decoder((*path, "decode"), decode, path)
        return None if decoder is None else msgspec.structs.replace(intake, decode=decoder)

    def _decoder(self, path: Path, value: Any, where: Path) -> DecoderKind | None:
        known = kinds("decoder")
        named = value if isinstance(value, dict) else {value: None} if isinstance(value, str) else {}
        name, options = next(iter(named.items()), ("", None))
        if len(named) != 1 or name not in known:
            what = f"unknown decoder '{name}'" if len(named) == 1 else "decode: expected one decoder"
            self.report(path, what, near_miss(name if len(named) == 1 else "", known), where=where)
            return None
        decoder = self._options(known[name], options, (*path, name), where)
        return decoder if isinstance(decoder, DecoderKind) else None

    def struct(
        self, kind: type[K], value: dict[str, Any], path: Path, where: Path, at: dict[str, Path] | None = None
    ) -> K | None:
        """Build a struct option by option; report each unknown, missing or wrong one."""
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        out: dict[str, Any] = {}
        for name in value.keys() - fields.keys():
            self.report((*path, name), f"unknown option '{name}'", near_miss(name, fields), where=where)
            out[name] = _BROKEN
        for name, field in fields.items():
            if name in value:
                place = (at or {}).get(name, (*path, name))
                inside = name == getattr(kind, "expression", None)
                out[field.name] = self._option(field.type, value[name], place, where, name, inside)
            elif field.required:
                self.report(path, f"'{name}' is missing", where=where)
                out[name] = _BROKEN
        return None if any(option is _BROKEN for option in out.values()) else kind(**out)

    def _option(self, type_: Any, value: Any, path: Path, where: Path, name: str, inside: bool) -> Any:
        """Return an option as its type; report why it is not one and return `_BROKEN`."""
        try:
            resolved = self._resolve(value, inside)
            return msgspec.convert(resolved, type_, dec_hook=units.decode)
        except Mistake as mistake:
            self.report(path, f"{name}: {mistake.what}", mistake.hint, where=where)
        except _BrokenParamError:
            pass
        except msgspec.ValidationError as error:
            for inner, what, hint in explain(type_, resolved) or [((), str(error), "")]:
                self.report((*path, *inner), f"{dotted((name, *inner))}: {what}", hint, where=where)
        return _BROKEN

    def _resolve(self, value: Any, inside: bool) -> Any:
        """Put the values of parameters in the place of their names, in lists and mappings and expressions."""
        if isinstance(value, list):
            return [self._resolve(element, inside) for element in value]
        if isinstance(value, dict):
            return {key: self._resolve(element, inside) for key, element in value.items()}
        if not isinstance(value, str):
            return value
        match = _PARAM.fullmatch(value)
        if match is None:
            return _INSIDE.sub(lambda name: _spelt(self._value(name[1])), value) if inside else value
        return match[1] if match[1].startswith("$") else self._value(match[1])

    def _value(self, name: str) -> Any:
        if name not in self.params:
            raise Mistake(f"no parameter '{name}'", hint=near_miss(name, self.params))
        if self.params[name] is _BROKEN:
            raise _BrokenParamError
        return self.params[name]


def _spelt(value: Any) -> str:
    """Return a parameter's value as an expression says it."""
    return f"({value})" if _is_number(value) and value < 0 else str(value)


def _named(value: Any) -> dict[str, str] | None:
    """Return edges by what the entry calls them, ``None`` where they are not texts that differ."""
    texts = [*value.values()] if isinstance(value, dict) else value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) and text for text in texts) or len({*texts}) < len(texts):
        return None
    return value if isinstance(value, dict) else {text: text for text in texts}


def _expected(least: int, most: int) -> str:
    if most == 1:
        return "'from' is the name of one input or step"
    names = f"from {least} to {most} inputs or steps, each once"
    return f"'from' names {names}, in a list or a mapping" if least > 1 else f"'from' names {names}"


_BROKEN: Any = object()  # in the place of a value whose mistake has been reported


class _BrokenParamError(Exception):
    """A parameter is named whose own mistake has been reported."""
