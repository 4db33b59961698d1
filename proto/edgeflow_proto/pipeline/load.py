"""Strict YAML with line numbers.

YAML 1.2 core scalars only: ``no``, ``on`` and ``1:30`` are plain strings. Duplicate keys, anchors,
aliases, tags, merge keys, directives, several documents and numbers with a leading zero are errors.
JSON is read by the same loader, being a subset but for tabs, with which only a JSON file may be indented.
Source: YAML 1.2.2, section 10.3 (core schema).

The file may come from anyone, so depth, size and number of values are bounded: parser events are
read one by one, and nothing is expanded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import yaml

from edgeflow_proto.pipeline.problem import Path, Place, Problem, clip

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_VALUES = 20_000  # keys and values together; what makes the time bounded, not the bytes
MAX_TEXT = 16 << 10  # characters of one value

_DECIMAL = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_INDENT = re.compile(r"^[ \t]+", re.MULTILINE)
_STANDARD_TAG = "tag:yaml.org,2002:"


class Source(msgspec.Struct, frozen=True):
    """A loaded document: plain Python data and where each path of it stands in the file."""

    file: str
    data: Any
    places: dict[Path, Place]

    def place(self, path: Path) -> Place:
        """Return where `path` stands, or its nearest parent that is in the file."""
        while path not in self.places and path:
            path = path[:-1]
        return self.places.get(path, Place(1, 1))

    def problem(self, path: Path, where: str, what: str, hint: str = "") -> Problem:
        """Return a problem that points at `path`."""
        place = self.place(path)
        return Problem(self.file, place.line, place.col, clip(where), clip(what), clip(hint))


def load(text: str | bytes, file: str) -> tuple[Source | None, list[Problem]]:
    """Read one YAML (or JSON) document; the source is ``None`` when nothing can be read.

    Never raises, whatever the text.
    """
    reader = _Reader(file)
    try:
        return reader.source(_untabbed(_decoded(text))), reader.problems
    except _Unreadable as error:
        stopped = error
    except yaml.reader.ReaderError as error:
        stopped = _strange_character(text, error)
    except yaml.MarkedYAMLError as error:
        stopped = _syntax(error)
    problem = Problem(file, stopped.place.line, stopped.place.col, "", clip(stopped.what), stopped.hint)
    return None, [*reader.problems, problem]


class _Unreadable(Exception):
    """Nothing behind this place can be read."""

    def __init__(self, place: Place, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.place = place
        self.what = what
        self.hint = hint


def _decoded(text: str | bytes) -> str:
    if len(text) > MAX_BYTES:
        raise _Unreadable(Place(1, 1), f"the file is larger than {MAX_BYTES >> 20} MiB")
    try:
        return text.decode("utf-8-sig") if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        col = error.start - error.object.rfind(b"\n", 0, error.start)
        raise _Unreadable(Place(line, col), f"not UTF-8 text: {error.reason}") from None


def _untabbed(text: str) -> str:
    """Return a JSON text indented with as many spaces as it had tabs; white space there means nothing."""
    is_json = text.lstrip()[:1] in ("{", "[")
    return _INDENT.sub(lambda found: " " * len(found[0]), text) if is_json else text


def _strange_character(text: str | bytes, error: yaml.reader.ReaderError) -> _Unreadable:
    before = _decoded(text)[: error.position]
    place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
    return _Unreadable(place, f"character U+{error.character:04X} cannot stand in YAML")


def _syntax(error: yaml.MarkedYAMLError) -> _Unreadable:
    mark = error.problem_mark or error.context_mark
    what, hint = error.problem or "not YAML", error.context or ""
    if "'\\t'" in what:
        what, hint = "a tab cannot stand here", "indent with spaces"
    elif what.startswith("mapping values"):
        what, hint = "a ':' too many", "quote text that has one; begin a new line for a new key"
    return _Unreadable(Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1), what, hint)


class _Reader:
    """Turns parser events into plain data, noting places and mistakes."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.places: dict[Path, Place] = {}
        self.problems: list[Problem] = []
        self.events: Iterator[Any] = iter(())
        self.values = 0

    def source(self, text: str) -> Source:
        self.events = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        next(self.events)  # the stream's start
        start = next(self.events)
        if isinstance(start, yaml.StreamEndEvent):
            raise _Unreadable(Place(1, 1), "the file is empty")
        if start.version or start.tags:
            self.refuse(start, (), "directives (%YAML, %TAG) are not used here")
        data = self.value(next(self.events), ())
        next(self.events)  # the document's end
        end = next(self.events)
        if not isinstance(end, yaml.StreamEndEvent):
            raise _Unreadable(_place(end), "a second document begins here", "one file, one document")
        return Source(self.file, data, self.places)

    def value(self, event: Any, path: Path) -> Any:
        self.places.setdefault(path, _place(event))
        self.count(event)
        if isinstance(event, yaml.AliasEvent):
            return self.refuse(event, path, f"aliases (*{event.anchor}) are not used here", "write it out")
        self.check_properties(event, path)
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event, path)
        if len(path) >= MAX_DEPTH:
            raise _Unreadable(_place(event), f"nested deeper than {MAX_DEPTH}")
        return self.mapping(path) if isinstance(event, yaml.MappingStartEvent) else self.sequence(path)

    def count(self, event: Any) -> None:
        self.values += 1
        if self.values > MAX_VALUES:
            raise _Unreadable(_place(event), f"more than {MAX_VALUES} keys and values")

    def check_properties(self, event: Any, path: Path) -> None:
        if event.anchor is not None:
            self.refuse(event, path, f"anchors (&{event.anchor}) are not used here", "write it out")
        if event.tag is not None:
            tag = str(event.tag).replace(_STANDARD_TAG, "!!")
            self.refuse(event, path, f"tags ({tag}) are not used here")

    def sequence(self, path: Path) -> list[Any]:
        out: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            out.append(self.value(event, (*path, len(out))))
        return out

    def mapping(self, path: Path) -> dict[str, Any]:
        out: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.key(event, path)
            child = (*path, "?" if key is None else key)
            first = self.places.setdefault(child, _place(event))
            value = self.value(next(self.events), child)
            if key is not None and key in out:
                self.refuse(event, path, f"'{key}' is there twice", f"first in line {first.line}")
            elif key is not None:
                out[key] = value
        return out

    def key(self, event: Any, path: Path) -> str | None:
        if not isinstance(event, yaml.ScalarEvent):
            self.refuse(event, path, "a key must be a plain word")
            self.value(event, (*path, "?"))
            return None
        self.count(event)
        self.check_properties(event, path)
        if event.value == "<<" and event.style is None:
            self.refuse(event, path, "merge keys (<<) are not used here", "write it out")
            return None
        return self.text(event, path)

    def scalar(self, event: Any, path: Path) -> Any:
        text = self.text(event, path)
        if event.style is not None:
            return text
        if _LEADING_ZERO.fullmatch(text):
            return self.refuse(event, path, f"{text} starts with a zero", "quote it if it is text")
        try:
            return _plain(text)
        except ValueError:
            return self.refuse(event, path, f"{text} is too large a number", "quote it if it is text")

    def text(self, event: Any, path: Path) -> str:
        text = str(event.value)
        if len(text) > MAX_TEXT:
            self.refuse(event, path, f"a value has at most {MAX_TEXT} characters, this one {len(text)}")
        try:  # JSON writes characters beyond U+FFFF as two escapes, which YAML takes one by one
            return text.encode("utf-16", "surrogatepass").decode("utf-16")[:MAX_TEXT]
        except UnicodeDecodeError:
            self.refuse(event, path, "half of a surrogate pair is no character")
            return ""

    def refuse(self, event: Any, path: Path, what: str, hint: str = "") -> None:
        place = _place(event)
        problem = Problem(self.file, place.line, place.col, clip(dotted(path)), clip(what), clip(hint))
        self.problems.append(problem)


def dotted(path: Path) -> str:
    """Return ``steps.window.size`` for a path; list positions read ``[2]``."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else (f".{part}" if out else part)
    return out


def _place(event: Any) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)


def _plain(text: str) -> Any:
    """Return what a plain scalar stands for; raises ValueError for a number that fits nowhere."""
    if text in _WORDS:
        return _WORDS[text]
    if infinity := _INFINITY.fullmatch(text):
        return float(infinity[1] + "inf")
    if _DECIMAL.fullmatch(text) or _BASED.fullmatch(text):
        return _bounded(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if number in (float("inf"), float("-inf")):
            raise ValueError(text)
        return number
    return text


def _bounded(text: str) -> int:
    """Return an integer that fits 64 bits, signed or not; others raise ValueError."""
    number = int(text, 0) if len(text) < 80 else 1 << 80
    if not -(1 << 63) <= number < 1 << 64:
        raise ValueError(text)
    return number
