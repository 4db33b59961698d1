"""Write `docs/pipeline.schema.json` and the reference of `docs/pipelines.md` from the kinds, or check them.

Run by `make reference` and `make reference-check`. What stands between the two marks is generated: for each
kind its docstring, its options and the entry called ``example`` of `docs/examples/<role>-<kind>.yaml`. The
tests run those files.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from edgeflow_proto.pipeline.jsonschema import schema
from edgeflow_proto.pipeline.kinds.base import Handling, Intake, Kind, Role, kinds
from edgeflow_proto.pipeline.units import Duration, Extent, Frequency, Size

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "pipelines.md"
SCHEMA = ROOT / "docs" / "pipeline.schema.json"
EXAMPLES = ROOT / "docs" / "examples"
BEGIN, END = "<!-- reference: begin (make reference) -->", "<!-- reference: end -->"
ROLES: dict[Role, str] = {"input": "Inputs", "decoder": "Decoders", "step": "Steps", "output": "Outputs"}
WORDS = {
    bool: "true or false", int: "whole number", float: "number", str: "text", Any: "anything",
    Duration: "duration", Extent: "rows or duration", Frequency: "rate", Size: "size",
    list: "list", tuple: "list", dict: "mapping",
}  # fmt: skip


def main(arguments: list[str]) -> int:
    """Write both, or with `--check` return 1 when one is not what would be written."""
    fresh = {PAGE: page(), SCHEMA: json.dumps(schema(), ensure_ascii=False, indent=1) + "\n"}
    if "--check" not in arguments:
        for file, text in fresh.items():
            file.write_text(text)
        return 0
    stale = [file for file, text in fresh.items() if not file.exists() or file.read_text() != text]
    for file in stale:
        print(f"{file.relative_to(ROOT)} is not what the kinds say; run `make reference`", file=sys.stderr)
    return 1 if stale else 0


def page() -> str:
    """Return the page with its generated part made anew."""
    head, _, rest = PAGE.read_text().partition(BEGIN)
    return f"{head}{BEGIN}\n\n{reference()}\n{END}{rest.partition(END)[2]}"


def reference() -> str:
    """Return the generated part of the page."""
    parts = [common("Options of every input", Intake), common("Options of every step", Handling)]
    for role, title in ROLES.items():
        parts.append(f"## {title}\n")
        parts += [section(role, name, kind) for name, kind in sorted(kinds(role).items()) if is_ours(kind)]
    return "\n".join(parts)


def is_ours(kind: type[Kind]) -> bool:
    """Whether a kind is one of EdgeFlow's own."""
    return kind.__module__.startswith("edgeflow_proto.")


def common(title: str, options: type[msgspec.Struct]) -> str:
    """Return the table of options that many entries have."""
    return f"## {title}\n\n{prose(options)}\n\n{table(options, None)}\n"


def section(role: Role, name: str, kind: type[Kind]) -> str:
    """Return what there is to say of one kind."""
    parts = [f"### `{name}`\n", prose(kind) + "\n"]
    if options := table(kind, kind.short):
        parts.append(options + "\n")
    parts.append(f"```yaml\n{example(role, name)}\n```\n")
    return "\n".join(parts)


def prose(kind: type) -> str:
    """Return a docstring as Markdown."""
    return re.sub(r"``([^`]+)``", r"`\1`", inspect.getdoc(kind) or "")


def table(kind: type[msgspec.Struct], short: str | None) -> str:
    """Return the options of a struct as a table; empty where it has none."""
    known = [field for field in msgspec.structs.fields(kind) if not field.name.startswith("_")]
    rows = [row(field, field.encode_name == short) for field in known]
    return "\n".join(["| option | takes | default |", "|---|---|---|", *rows]) if rows else ""


def row(field: msgspec.structs.FieldInfo, is_short: bool) -> str:
    """Return an option's line; the one of the short form is marked."""
    name = f"`{field.encode_name}`" + (" (short form)" if is_short else "")
    default = "**required**" if field.required else said(field.default)
    return f"| {name} | {takes(field.type)} | {default} |"


def takes(kind: Any) -> str:
    """Return in words what an option takes."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(takes(each) for each in parts if each is not types.NoneType)
    if origin in (list, tuple, dict):
        return f"{WORDS[dict] if origin is dict else WORDS[list]} of {takes(parts[origin is dict])}"
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return "decoder" if issubclass(kind, Kind) else f"mapping of {named(kind)}"
    return WORDS[kind]


def named(kind: type[msgspec.Struct]) -> str:
    """Return the names of a struct's fields."""
    return ", ".join(f"`{field.encode_name}`" for field in msgspec.structs.fields(kind))


def said(value: Any) -> str:
    """Return a default as one would write it in a file."""
    match value:
        case None | msgspec.NODEFAULT | msgspec.UNSET:
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case Duration() | Size():
            return f"`{duration(value) if isinstance(value, Duration) else size(value)}`"
        case Extent():
            return f"`{value.rows} rows`" if value.rows else f"`{duration(value.ns or 0)}`"
        case list() | dict() | tuple() if not value:
            return "none"
    return f"`{value}`"


def duration(ns: int) -> str:
    """Return nanoseconds with the largest unit that leaves a whole number."""
    units = (("h", 3600 * 10**9), ("min", 60 * 10**9), ("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1))
    return next(f"{ns // size}{unit}" for unit, size in units if ns % size == 0)


def size(count: int) -> str:
    """Return bytes with the largest unit that leaves a whole number."""
    units = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3), ("B", 1))
    return next(f"{count // amount} {unit}" for unit, amount in units if count % amount == 0)


def example(role: Role, name: str) -> str:
    """Return the entry called ``example`` of a kind's example file."""
    lines = (EXAMPLES / f"{role}-{name}.yaml").read_text().splitlines()
    return "\n".join(entry(lines))


def entry(lines: list[str]) -> Iterator[str]:
    """Yield the lines of the entry called ``example``, without their indentation."""
    start = next(i for i, line in enumerate(lines) if line.startswith("  example:"))
    yield lines[start].removeprefix("  ")
    for line in lines[start + 1 :]:
        if not line.startswith("   "):
            return
        yield line.removeprefix("  ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
