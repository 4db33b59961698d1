"""Decoder kinds: how a payload becomes samples."""

from __future__ import annotations

from edgeflow_proto.pipeline.kinds.base import DecoderKind


class Json(DecoderKind, frozen=True, kw_only=True):
    """JSON (RFC 8259). A payload is one sample, or has an array of them at `samples`.

    A sample is an object read by field path, an array in field order, or a number where there is
    one field.
    """

    short = "samples"
    samples: str | None = None


class Cbor(DecoderKind, frozen=True, kw_only=True):
    """CBOR (RFC 8949). As JSON; at `samples` also a byte string or a typed array (RFC 8746).

    A byte string holds packed rows in the input's dtype, little-endian.
    """

    short = "samples"
    samples: str | None = None


class Csv(DecoderKind, frozen=True, kw_only=True):
    """Lines of values (RFC 4180), one sample each; the first one names the columns unless they are stated."""

    short = "columns"
    columns: list[str] | None = None
    separator: str = ","


class Senml(DecoderKind, frozen=True, kw_only=True):
    """Sensor measurement lists (RFC 8428), in JSON or CBOR, with base fields resolved.

    The records of one time are one sample; a field's path is the record's full name. Where the input's key
    is ``name``, each record with a value is a sample of its own, and its full name the key. ``time: t``
    takes the records' times, relative ones from their arrival.
    """


class Raw(DecoderKind, frozen=True, kw_only=True):
    """Packed rows in the input's dtype, little-endian, one after the other."""
