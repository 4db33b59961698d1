"""Why a value is not what an option takes, in plain words and with its place inside the value."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from edgeflow_proto.pipeline import units
from edgeflow_proto.pipeline.problem import Path, closest, near_miss, shown

Reason = tuple[Path, str, str]  # place inside the value, what is wrong, hint

_WORDS: dict[Any, str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text",
    list: "a list", tuple: "a list", dict: "a mapping",
}  # fmt: skip
_ACCEPTED: dict[Any, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}


def explain(type_: Any, value: Any) -> list[Reason]:
    """Return each reason why `value` is no `type_` (as msgspec reads it); empty when it is one."""
    return list(_reasons(type_, value, ()))


def _reasons(type_: Any, value: Any, path: Path) -> Iterator[Reason]:
    origin = get_origin(type_)
    if origin in (Union, types.UnionType):
        yield from _union(type_, value, path)
    elif origin is Literal:
        yield from _literal(get_args(type_), value, path)
    elif hasattr(type_, "parse"):
        yield from _quantity(type_, value, path)
    elif _is_struct(type_) and isinstance(value, dict):
        yield from _struct(type_, value, path)
    elif (parts := _parts(type_, value)) is not None:
        for place, item, element in parts:
            yield from _reasons(item, element, (*path, place))
    elif not _is_plain(type_, value):
        yield path, f"expected {_words(type_)}, not {shown(value)}", ""


def _parts(type_: Any, value: Any) -> list[tuple[str | int, Any, Any]] | None:
    """Return each element with its place and type, where `value` is a list or mapping as it should be."""
    if get_origin(type_) in (list, tuple) and isinstance(value, list):
        return [(index, get_args(type_)[0], element) for index, element in enumerate(value)]
    if get_origin(type_) is dict and isinstance(value, dict):
        return [(key, get_args(type_)[1], element) for key, element in value.items()]
    return None


def _is_struct(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, msgspec.Struct)


def _is_plain(type_: Any, value: Any) -> bool:
    if type_ is Any:
        return True
    return isinstance(value, _ACCEPTED.get(type_, ())) and (type_ is bool or not isinstance(value, bool))


def _union(type_: Any, value: Any, path: Path) -> Iterator[Reason]:
    """Explain by the alternative that comes nearest: the one whose fault lies deepest inside the value."""
    types_ = [each for each in get_args(type_) if each is not types.NoneType]
    if value is None and len(types_) < len(get_args(type_)):
        return
    tried = [list(_reasons(each, value, path)) for each in types_]
    if not all(tried):
        return
    deepest = max(tried, key=lambda reasons: len(reasons[0][0]))
    if len(tried) == 1 or len(deepest[0][0]) > len(path):
        yield from deepest
    else:
        yield path, f"expected {_words(type_)}, not {shown(value)}", ""


def _literal(values: tuple[Any, ...], value: Any, path: Path) -> Iterator[Reason]:
    if not any(type(value) is type(known) and value == known for known in values):
        words = [str(known) for known in values]
        close = closest(value, words) if isinstance(value, str) else None
        hint = f"did you mean '{close}'?" if close else ""
        yield path, f"{shown(value)} is not one of {', '.join(words)}", hint


def _quantity(type_: type, value: Any, path: Path) -> Iterator[Reason]:
    try:
        units.decode(type_, value)
    except ValueError as error:
        yield path, str(error), ""


def _struct(type_: type[msgspec.Struct], value: dict[str, Any], path: Path) -> Iterator[Reason]:
    known = {field.encode_name: field for field in msgspec.structs.fields(type_)}
    for name in value.keys() - known.keys():
        yield (*path, name), f"unknown option '{name}'", near_miss(name, known)
    for name, field in known.items():
        if name in value:
            yield from _reasons(field.type, value[name], (*path, name))
        elif field.required:
            yield path, f"'{name}' is missing", ""


def _words(type_: Any) -> str:
    if get_origin(type_) is Literal:
        return f"one of {', '.join(map(str, get_args(type_)))}"
    if get_origin(type_) not in (Union, types.UnionType):
        return "a mapping" if _is_struct(type_) else _WORDS.get(get_origin(type_) or type_, str(type_))
    words = [_words(each) for each in get_args(type_) if each is not types.NoneType]
    return " or ".join(word for word in words if word != "a whole number" or "a number" not in words)
