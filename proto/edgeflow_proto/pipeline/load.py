"""Strict YAML with line numbers.

YAML 1.2 core scalars only: ``no``, ``on`` and ``1:30`` are plain strings. Duplicate keys,
anchors, aliases, tags, merge keys, several documents and numbers with a leading zero are
errors. JSON is read by the same loader, being a subset.
Source: YAML 1.2.2, section 10.3 (core schema).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import yaml

from edgeflow_proto.pipeline.problem import Path, Place, Problem

MAX_BYTES = 1 << 20
MAX_DEPTH = 32

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    "-.inf": float("-inf"),
    ".nan": float("nan"),
}


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
        return Problem(self.file, place.line, place.col, where, what, hint)


def load(text: str | bytes, file: str) -> tuple[Source | None, list[Problem]]:
    """Read one YAML (or JSON) document; the source is ``None`` when nothing can be read."""
    try:
        root = yaml.compose(_decoded(text), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        return None, [Problem(file, 1, 1, "", f"not UTF-8 text: byte {error.start} is {error.reason}")]
    except yaml.MarkedYAMLError as error:
        return None, [_syntax_problem(error, file)]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return None, [Problem(file, 1, 1, "", f"not readable as YAML: {str(error).splitlines()[0]}")]
    if root is None:
        return None, [Problem(file, 1, 1, "", "the file is empty")]
    reader = _Reader(file)
    data = reader.value(root, ())
    return Source(file, data, reader.places), reader.problems


def _decoded(text: str | bytes) -> str:
    if len(text) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES >> 20} MiB")
    return text.decode("utf-8-sig") if isinstance(text, bytes) else text


def _syntax_problem(error: yaml.MarkedYAMLError, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, col = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    return Problem(file, line, col, "", error.problem or "not readable as YAML", error.note or "")


class _Reader:
    """Turns composed nodes into plain data, noting places and mistakes."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.places: dict[Path, Place] = {}
        self.problems: list[Problem] = []
        self.seen: set[int] = set()

    def value(self, node: yaml.Node, path: Path) -> Any:
        self.places.setdefault(path, _place(node))
        if id(node) in self.seen:
            return self.refuse(node, path, "aliases (*name) are not used here", "write it out")
        self.seen.add(id(node))
        if len(path) > MAX_DEPTH:
            return self.refuse(node, path, f"nested deeper than {MAX_DEPTH}")
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*path, index)) for index, child in enumerate(node.value)]
        return self.scalar(node, path)

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.key(key_node, path)
            if key in out:
                self.refuse(key_node, path, f"'{key}' is there twice")
            elif key is not None:
                self.places[(*path, key)] = _place(key_node)
                out[key] = self.value(value_node, (*path, key))
        return out

    def key(self, node: yaml.Node, path: Path) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self.refuse(node, path, "a key must be a plain word")
            return None
        if node.value == "<<" and node.style is None:
            self.refuse(node, path, "merge keys (<<) are not used here", "write it out")
            return None
        return str(node.value)

    def scalar(self, node: yaml.Node, path: Path) -> Any:
        text = str(node.value)
        if node.tag not in _PLAIN_TAGS:
            return self.refuse(node, path, f"tags ({node.tag}) are not used here")
        if getattr(node, "style", None) is not None:
            return text
        if _LEADING_ZERO.fullmatch(text):
            return self.refuse(node, path, f"{text} starts with a zero", "quote it if it is text")
        return _plain(text)

    def refuse(self, node: yaml.Node, path: Path, what: str, hint: str = "") -> None:
        place = _place(node)
        self.problems.append(Problem(self.file, place.line, place.col, dotted(path), what, hint))


_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "float", "bool", "null", "timestamp", "value", "merge")
}


def dotted(path: Path) -> str:
    """Return ``steps.window.size`` for a path; list positions read ``[2]``."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else (f".{part}" if out else part)
    return out


def _place(node: yaml.Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


def _plain(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _HEX.fullmatch(text):
        return int(text, 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
