"""Why a value is not what an option takes, in plain words and with its place inside the value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import inspect

from edgeflow_proto.pipeline import units
from edgeflow_proto.pipeline.problem import Path, closest, near_miss, shown

Reason = tuple[Path, str, str]  # place inside the value, what is wrong, hint

_PLAIN: dict[type[inspect.Type], tuple[tuple[type, ...], str]] = {
    inspect.BoolType: ((bool,), "true or false"),
    inspect.IntType: ((int,), "a whole number"),
    inspect.FloatType: ((int, float), "a number"),
    inspect.StrType: ((str,), "text"),
    inspect.ListType: ((), "a list"),
    inspect.VarTupleType: ((), "a list"),
    inspect.DictType: ((), "a mapping"),
    inspect.StructType: ((), "a mapping"),
}


def explain(type_: Any, value: Any) -> list[Reason]:
    """Return each reason why `value` is no `type_`; empty when it is one."""
    return list(_reasons(inspect.type_info(type_), value, ()))


def _reasons(kind: inspect.Type, value: Any, path: Path) -> Iterator[Reason]:
    match kind:
        case inspect.UnionType(types=types):
            yield from _union(types, value, path)
        case inspect.LiteralType(values=values):
            yield from _literal(values, value, path)
        case inspect.CustomType(cls=cls):
            yield from _quantity(cls, value, path)
        case inspect.StructType(fields=fields) if isinstance(value, dict):
            yield from _struct(fields, value, path)
        case _ if (parts := _parts(kind, value)) is not None:
            for place, item, element in parts:
                yield from _reasons(item, element, (*path, place))
        case _ if not _is_plain(kind, value):
            yield path, f"expected {_words(kind)}, not {shown(value)}", ""


def _parts(kind: inspect.Type, value: Any) -> list[tuple[str | int, inspect.Type, Any]] | None:
    """Return each element with its place and type, where `value` is a list or mapping as it should be."""
    if isinstance(kind, inspect.ListType | inspect.VarTupleType) and isinstance(value, list):
        return [(index, kind.item_type, element) for index, element in enumerate(value)]
    if isinstance(kind, inspect.DictType) and isinstance(value, dict):
        return [(key, kind.value_type, element) for key, element in value.items()]
    return None


def _is_plain(kind: inspect.Type, value: Any) -> bool:
    types, _ = _PLAIN.get(type(kind), ((object,), ""))
    return isinstance(value, types) and (not isinstance(value, bool) or bool in types or object in types)


def _union(kinds: tuple[inspect.Type, ...], value: Any, path: Path) -> Iterator[Reason]:
    """Explain by the alternative that comes nearest: the one whose fault lies deepest inside the value."""
    tried = [list(_reasons(kind, value, path)) for kind in kinds if not isinstance(kind, inspect.NoneType)]
    if all(tried) and not (value is None and len(tried) < len(kinds)):
        deepest = max(tried, key=lambda reasons: len(reasons[0][0]))
        if len(tried) == 1 or len(deepest[0][0]) > len(path):
            yield from deepest
        else:
            yield path, f"expected {_words(inspect.UnionType(kinds))}, not {shown(value)}", ""


def _literal(values: tuple[Any, ...], value: Any, path: Path) -> Iterator[Reason]:
    if not any(type(value) is type(known) and value == known for known in values):
        words = [str(known) for known in values]
        close = closest(value, words) if isinstance(value, str) else None
        hint = f"did you mean '{close}'?" if close else ""
        yield path, f"{shown(value)} is not one of {', '.join(words)}", hint


def _quantity(cls: type, value: Any, path: Path) -> Iterator[Reason]:
    try:
        units.decode(cls, value)
    except ValueError as error:
        yield path, str(error), ""


def _struct(fields: tuple[inspect.Field, ...], value: dict[str, Any], path: Path) -> Iterator[Reason]:
    known = {field.encode_name: field for field in fields}
    for name in value.keys() - known.keys():
        yield (*path, name), f"unknown option '{name}'", near_miss(name, known)
    for name, field in known.items():
        if name in value:
            yield from _reasons(field.type, value[name], (*path, name))
        elif field.required:
            yield path, f"'{name}' is missing", ""


def _words(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.UnionType):
        words = [_words(each) for each in kind.types if not isinstance(each, inspect.NoneType)]
        words = [word for word in words if word != "a whole number" or "a number" not in words]
        return " or ".join(words)
    return _PLAIN[type(kind)][1] if type(kind) in _PLAIN else "something else"
