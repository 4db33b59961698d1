"""SenML payloads, in JSON or CBOR, their base fields resolved. Source: RFC 8428."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

import msgspec
import numpy as np

from edgeflow_agent.inputs.decode.base import DecodeError, Samples, narrowed
from edgeflow_agent.inputs.decode.cbor import loaded
from edgeflow_proto.pipeline.kinds.base import Intake
from edgeflow_proto.pipeline.kinds.decoders import Senml

VERSION = 10
RELATIVE = 1 << 28  # seconds; a smaller time counts from now (section 4.5.3)
# CBOR labels, section 6.
LABELS = {
    -2: "bn", -3: "bt", -4: "bu", -5: "bv", -6: "bs", -1: "bver",
    0: "n", 1: "u", 2: "v", 3: "vs", 4: "vb", 5: "s", 6: "t", 7: "ut", 8: "vd",
}  # fmt: skip
_NUMBERS = ("bt", "bv", "bs", "v", "s", "t", "ut", "bver")
_TEXTS = ("bn", "bu", "n", "u", "vs", "vd")


class Record(NamedTuple):
    """A resolved record: full name, unit, value and sum where there are any, and its time in seconds."""

    name: str
    unit: str | None
    value: float | str | bool | None
    sum: float | None
    time: float


class SenmlDecoder:
    """Reads packs of records."""

    def __init__(self, options: Senml, intake: Intake) -> None:
        self._intake = intake
        self._dtype = np.dtype(intake.dtype)
        self._each = intake.key_field == "name"
        self._codes = {path: intake.codes.get(name) for name, path in intake.paths.items()}
        if intake.key_field not in (None, "name"):
            raise ValueError("the key of SenML samples is called 'name'")
        if self._each and intake.row_shape != (1,):
            raise ValueError("a record has one value, so there is one field where its name is the key")

    def decode(self, payload: bytes) -> Samples:
        """Return the samples (see `Decoder.decode`)."""
        records = [record for record in resolved(pack(payload)) if record.value is not None]
        rows = [*(self._records(records) if self._each else self._grouped(records))]
        if not rows:
            raise DecodeError("missing_field", "no record with a value")
        values = np.array([row[0] for row in rows], self._wide).reshape(-1, *self._intake.row_shape)
        keys = [row[1] for row in rows] if self._each else None
        times = np.array([row[2] for row in rows], np.int64) if self._intake.clock else None
        return Samples(narrowed(values, self._dtype), keys, times)

    @property
    def _wide(self) -> np.dtype[np.generic]:
        return np.dtype({"f": "float64", "b": "bool"}.get(self._dtype.kind, "int64"))

    def _records(self, records: list[Record]) -> Iterator[tuple[list[Any], str, int]]:
        (path,) = self._intake.paths.values()
        for record in records:
            yield [self._number(record, path)], record.name, _ns(record.time)

    def _grouped(self, records: list[Record]) -> Iterator[tuple[list[Any], str, int]]:
        """Yield the records of one time as a row; raises DecodeError where a field is not among them."""
        wanted = [record for record in records if record.name in self._codes]
        for moment, group in groupby(sorted(wanted, key=_time), key=_time):
            found = {record.name: record for record in group}
            for path in self._codes:
                if path not in found:
                    raise DecodeError("missing_field", f"no '{path}' at {moment:g}")
            yield [self._number(found[path], path) for path in self._codes], "", _ns(moment)

    def _number(self, record: Record, path: str) -> Any:
        words = self._codes.get(path)
        if words:
            if record.value not in words:
                raise DecodeError("code", f"{record.value!r:.60} is none of {', '.join(words)[:200]}")
            return words.index(str(record.value))
        if isinstance(record.value, str) or isinstance(record.value, bool) != (self._dtype.kind == "b"):
            raise DecodeError("type", f"'{record.name}' is {type(record.value).__name__}")
        if self._dtype.kind in "iu" and record.value != int(record.value or 0):
            raise DecodeError("type", f"'{record.name}' is not a whole number")
        return record.value


def pack(payload: bytes) -> list[dict[str, Any]]:
    """Return the records of a payload with their fields by name; raises DecodeError."""
    text = payload.lstrip(b" \t\r\n")[:1] in (b"[", b"{")
    try:
        content = msgspec.json.decode(payload) if text else loaded(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError("json", str(error)) from None
    except RecursionError:
        raise DecodeError("json", "nested too deeply") from None
    if not isinstance(content, list) or not all(isinstance(record, dict) for record in content):
        raise DecodeError("senml", "a pack is an array of records")
    return [{LABELS.get(label, label): value for label, value in record.items()} for record in content]


def resolved(records: Iterable[dict[str, Any]], now: float | None = None) -> Iterator[Record]:
    """Yield records with base fields resolved, in the order of the pack; raises DecodeError.

    `now` is what relative times count from, in seconds since 1970 (default: the clock).
    """
    base: dict[str, Any] = {}
    now = time.time() if now is None else now
    for record in records:
        _check(record)
        base |= {name: value for name, value in record.items() if name in ("bn", "bt", "bu", "bv", "bs")}
        if record.get("bver", VERSION) > VERSION:
            raise DecodeError("senml", f"version {record['bver']} is not known")
        name = base.get("bn", "") + record.get("n", "")
        if not name:
            raise DecodeError("senml", "a record without a name")
        yield Record(name, record.get("u", base.get("bu")), _value(record, base), _sum(record, base),
                     _absolute(base.get("bt", 0) + record.get("t", 0), now))  # fmt: skip


def _check(record: dict[Any, Any]) -> None:
    for name, value in record.items():
        wrong = name in _NUMBERS and (isinstance(value, bool) or not isinstance(value, int | float))
        wrong = (
            wrong
            or (name in _TEXTS and not isinstance(value, str))
            or (name == "vb" and not isinstance(value, bool))
        )
        if wrong:
            raise DecodeError("type", f"'{name}' is {type(value).__name__}")
        if isinstance(value, float) and not math.isfinite(value):
            raise DecodeError("nan", f"'{name}' is NaN or infinity")
        if isinstance(name, str) and name.endswith("_"):
            raise DecodeError("senml", f"'{name}' must be understood, and is not")  # section 4.4


def _value(record: dict[str, Any], base: dict[str, Any]) -> float | str | bool | None:
    present = [name for name in ("v", "vs", "vb", "vd") if name in record]
    if len(present) > 1:
        raise DecodeError("senml", f"a record with {' and '.join(present)}")
    if present == ["v"]:
        total: float = record["v"] + base.get("bv", 0)
        return total
    if present:
        value: str | bool = record[present[0]]
        return value
    return None if "bv" not in base or "s" in record else base["bv"]


def _sum(record: dict[str, Any], base: dict[str, Any]) -> float | None:
    if "s" not in record and "bs" not in base:
        return None
    total: float = record.get("s", 0) + base.get("bs", 0)
    return total


def _absolute(moment: float, now: float) -> float:
    return now + moment if moment < RELATIVE else moment


def _time(record: Record) -> float:
    return record.time


def _ns(moment: float) -> int:
    if not 0 <= moment < 1 << 32:
        raise DecodeError("time", f"not a time of this age: {moment:g}")
    return round(moment * 1e9)


def decoder(options: Senml, intake: Intake) -> SenmlDecoder:
    """Return the decoder of an input; raises ValueError when key and fields do not go together."""
    return SenmlDecoder(options, intake)
