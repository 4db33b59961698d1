"""The port of decoders, and the checks that all of them share.

A payload is taken whole or refused whole. Numbers are numbers of the input's dtype: a boolean or a text
is not one, nothing is rounded or wrapped, and NaN and infinities are refused. Fields nobody asked for
are ignored, because sensors send more than one pipeline uses; a declared field that is absent is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from edgeflow_agent.core.batch import Int64s, Values
from edgeflow_proto.installed import points
from edgeflow_proto.pipeline.kinds.base import DecoderKind, Intake

GROUP = "edgeflow.decoders"


class DecodeError(ValueError):
    """A payload is refused. `reason` is one word of few, to count by; `detail` is for people.

    Reasons: json, cbor, csv, senml, raw (not that format at all), type (not a number, say), shape (a wrong
    number of values), range (not a number of the input's dtype), nan (NaN or infinity), missing_field, code
    (a text that is not declared), time (not a time), key, size.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Samples(NamedTuple):
    """Samples of one payload: values ``(n, *row_shape)`` of the input's dtype, oldest first.

    `keys` are their keys where the input's key is a field, `times` int64 ``(n,)``, ns since 1970, where
    they carry their time.
    """

    values: Values
    keys: list[str] | None = None
    times: Int64s | None = None


def part(samples: Samples, rows: slice) -> Samples:
    """Return some of the samples."""
    keys = None if samples.keys is None else samples.keys[rows]
    return Samples(samples.values[rows], keys, None if samples.times is None else samples.times[rows])


def chosen(samples: Samples, rows: npt.NDArray[np.bool_]) -> Samples:
    """Return the samples that are marked."""
    keys = samples.keys and [key for key, kept in zip(samples.keys, rows.tolist(), strict=True) if kept]
    return Samples(samples.values[rows], keys, None if samples.times is None else samples.times[rows])


class Decoder(Protocol):
    """Turns payloads into samples. It remembers nothing between calls."""

    def decode(self, payload: bytes) -> Samples:
        """Return what is in a payload; raises DecodeError.

        The array may be a read-only view of the payload. Payloads are hostile: whatever they hold, the time
        and memory taken are in proportion to their length.
        """


DecoderFactory = Callable[[Any, Intake], Decoder]  # options, intake; raises ValueError


def decoder(name: str) -> DecoderFactory:
    """Return the installed decoder of that name; raises LookupError."""
    point = points(GROUP).get(name)
    if point is None:
        raise LookupError(f"no decoder '{name}' is installed")
    factory: DecoderFactory = point.load()
    return factory


def decoder_of(options: DecoderKind, intake: Intake) -> Decoder:
    """Return the decoder for options as a pipeline states them; raises LookupError or ValueError."""
    return decoder(name_of(options))(options, intake)


def name_of(options: DecoderKind) -> str:
    """Return the name under which a decoder's options are registered; raises LookupError."""
    from edgeflow_proto.pipeline.kinds.base import kinds

    for name, kind in kinds("decoder").items():
        if type(options) is kind:
            return name
    raise LookupError(f"{type(options).__name__} is not a decoder")


def narrowed(values: Values, dtype: npt.DTypeLike) -> Values:
    """Return numbers as `dtype`, all of them unchanged but for float precision; raises DecodeError."""
    to = np.dtype(dtype)
    if values.dtype.kind == "f":
        _check_finite(values)
    if values.dtype.newbyteorder("=") == to:
        return values
    if (
        to.kind not in "iuf"
        or (values.dtype.kind == "f" and to.kind != "f")
        or values.dtype.kind not in "iuf"
    ):
        raise DecodeError("type", f"{values.dtype.name} where {to.name} is expected")
    _check_range(values, to)
    return values.astype(to)


def _check_finite(values: Values) -> None:
    if not np.isfinite(values).all():
        raise DecodeError("nan", "NaN or infinity")


def _check_range(values: Values, to: np.dtype[Any]) -> None:
    limits = np.finfo(to) if to.kind == "f" else np.iinfo(to)
    if values.size and not (limits.min <= values.min() and values.max() <= limits.max):
        raise DecodeError("range", f"{values.min()} to {values.max()} does not fit {to.name}")


def shaped(values: Values, row_shape: tuple[int, ...]) -> Values:
    """Return flat numbers as whole rows; raises DecodeError when they do not come out even."""
    size = int(np.prod(row_shape))
    if not values.size or values.size % size:
        raise DecodeError("shape", f"{values.size} values are not rows of {size}")
    return values.reshape(-1, *row_shape)
