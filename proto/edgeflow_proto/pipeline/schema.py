"""From plain data to a document: entries with their kinds and typed options.

Every option is converted by itself, so that one mistake does not hide the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from edgeflow_proto.pipeline import units
from edgeflow_proto.pipeline.kinds.base import DecoderKind, Intake, Kind, Role, kinds
from edgeflow_proto.pipeline.load import Source, dotted
from edgeflow_proto.pipeline.problem import Path, Problem, near_miss

VERSION = 1
NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
ENTRY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
COLUMN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_PARAM = re.compile(r"\$([A-Za-z_]\w*)")
_SECTIONS: dict[str, Role] = {"inputs": "input", "steps": "step", "outputs": "output"}
_INTAKE = frozenset(field.encode_name for field in msgspec.structs.fields(Intake))
_TOP = ("edgeflow", "name", "description", "params", *_SECTIONS)

K = TypeVar("K", bound=msgspec.Struct)


class Param(msgspec.Struct, frozen=True):
    """A value that may differ per device. Bounds include their ends."""

    default: bool | int | float | str
    min: float | None = None
    max: float | None = None

    def error(self, value: Any) -> str | None:
        """Say why `value` is not allowed, or return ``None``."""
        number = isinstance(self.default, (int, float)) and not isinstance(self.default, bool)
        alike = (
            isinstance(value, (int, float)) and not isinstance(value, bool)
            if number
            else type(value) is type(self.default)
        )
        if not alike:
            return f"{value!r} is not of the same type as the default {self.default!r}"
        if self.min is not None and value < self.min:
            return f"{value} is below the minimum {self.min:g}"
        if self.max is not None and value > self.max:
            return f"{value} is above the maximum {self.max:g}"
        return None


class Entry(msgspec.Struct, frozen=True):
    """One input, step or output as written, its options typed; they are ``None`` when something is wrong with it."""

    name: str
    role: Role
    kind: str
    options: Kind | None
    path: Path
    option_path: Path  # where the kind's options stand
    source: str = ""
    intake: Intake | None = None


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
            self.report((), "a pipeline file is a mapping")
            return None
        for key in data.keys() - set(_TOP):
            self.report((key,), f"unknown key '{key}'", near_miss(key, _TOP), where=())
        self._version(data)
        self._params(data.get("params"))
        entries = {entry.name: entry for section in _SECTIONS for entry in self._section(data, section)}
        return Document(self.source, self._name(data), self.params, entries)

    def _version(self, data: dict[str, Any]) -> None:
        if "edgeflow" not in data:
            self.report((), "no version", "begin the file with edgeflow: 1")
        elif data["edgeflow"] != VERSION or isinstance(data["edgeflow"], bool):
            self.report(
                ("edgeflow",), f"version {data['edgeflow']!r} is not known", f"this is version {VERSION}"
            )

    def _name(self, data: dict[str, Any]) -> str:
        name = data.get("name")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            what = "no name" if name is None else f"{name!r} is not a pipeline name"
            self.report(("name",), what, "lower-case letters, digits and '-', a letter first, at most 63")
            return "unnamed"
        return name

    def _params(self, data: Any) -> None:
        if data is not None and not isinstance(data, dict):
            self.report(("params",), "params is a mapping")
            return
        for name, value in (data or {}).items():
            path: Path = ("params", name)
            param = self.struct(Param, value if isinstance(value, dict) else {"default": value}, path, path)
            if param is not None:
                self._param(name, param, path)
        for name in self.given.keys() - (data or {}).keys():
            self.report(("params",), f"no parameter '{name}'", near_miss(name, data or {}))

    def _param(self, name: str, param: Param, path: Path) -> None:
        value = self.given.get(name, param.default)
        error = param.error(param.default) or param.error(value)
        if error:
            self.report(path, error)
        self.params[name] = value

    def _section(self, data: dict[str, Any], section: str) -> Iterator[Entry]:
        entries = data.get(section)
        if entries is None and section == "steps":
            return
        if not isinstance(entries, dict) or not entries:
            self.report((section,), f"no {section}" if not entries else f"{section} is a mapping of names")
            return
        for name, value in entries.items():
            entry = self._entry(_SECTIONS[section], (section, name), value)
            if entry is not None and self._name_free(data, section, name):
                yield entry

    def _name_free(self, data: dict[str, Any], section: str, name: str) -> bool:
        if not ENTRY.fullmatch(name):
            self.report((section, name), f"{name!r} is not a name", "letters, digits and '_', a letter first")
            return False
        for other in list(_SECTIONS)[: list(_SECTIONS).index(section)]:
            if isinstance(data.get(other), dict) and name in data[other]:
                self.report((section, name), f"'{name}' is also the name of one of the {other}")
                return False
        return True

    def _entry(self, role: Role, path: Path, value: Any) -> Entry | None:
        if not isinstance(value, dict):
            self.report(path, f"{'an' if role != 'step' else 'a'} {role} is a mapping")
            return None
        common = _INTAKE if role == "input" else frozenset(("from",))
        kind = self._kind(role, path, value, common)
        source = "" if role == "input" else self._source(path, value)
        options = self._options(kinds(role)[kind], value[kind], (*path, kind), path) if kind else None
        intake = (
            self._intake(path, {k: v for k, v in value.items() if k in common}) if role == "input" else None
        )
        if role == "input" and intake is None:
            options = None
        return Entry(str(path[-1]), role, kind or "", options, path, (*path, kind or ""), source, intake)

    def _kind(self, role: Role, path: Path, value: dict[str, Any], common: frozenset[str]) -> str | None:
        known = kinds(role)
        named = [key for key in value if key in known]
        unknown = [key for key in value if key not in known and key not in common]
        for key in unknown:
            self.report(
                (*path, key), f"unknown option '{key}'", near_miss(key, {*known, *common}), where=path
            )
        if len(named) > 1:
            self.report(
                (*path, named[1]), f"two kinds: {' and '.join(named)}", "one entry, one kind", where=path
            )
        if not named and not unknown:
            self.report(path, "no kind", near_miss("", known))
        return named[0] if len(named) == 1 else None

    def _source(self, path: Path, value: dict[str, Any]) -> str:
        source = value.get("from")
        if isinstance(source, str) and source:
            return source
        self.report(
            (*path, "from"),
            "no 'from'" if source is None else "'from' is the name of one input or step",
            where=path,
        )
        return ""

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
            what = f"unknown decoder '{name}'" if len(named) == 1 else "decode names one decoder"
            self.report(path, what, near_miss(name, known), where=where)
            return None
        decoder = self._options(known[name], options, (*path, name), where)
        return decoder if isinstance(decoder, DecoderKind) else None

    def struct(
        self, kind: type[K], value: dict[str, Any], path: Path, where: Path, at: dict[str, Path] | None = None
    ) -> K | None:
        """Build a struct option by option; report each unknown, missing or wrong one."""
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        before = len(self.problems)
        for name in value.keys() - fields.keys():
            self.report((*path, name), f"unknown option '{name}'", near_miss(name, fields), where=where)
        out: dict[str, Any] = {}
        for name, field in fields.items():
            if name in value:
                out[field.name] = self._option(
                    field.type, value[name], (at or {}).get(name, (*path, name)), where, name
                )
            elif field.required:
                self.report(path, f"'{name}' is missing", where=where)
        return kind(**out) if len(self.problems) == before else None

    def _option(self, type_: Any, value: Any, path: Path, where: Path, name: str) -> Any:
        try:
            return msgspec.convert(self._resolve(value), type_, dec_hook=units.decode)
        except (msgspec.ValidationError, LookupError) as error:
            what = str(error.args[0]).replace(" - at `$", " at `").removesuffix(" at ``")
            self.report(path, f"{name}: {what[:1].lower()}{what[1:]}", where=where)
            return None

    def _resolve(self, value: Any) -> Any:
        match = _PARAM.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            return value
        if match[1] not in self.params:
            hint = near_miss(match[1], self.params)
            raise LookupError(f"no parameter '{match[1]}'" + (f", {hint}" if hint else ""))
        return self.params[match[1]]
