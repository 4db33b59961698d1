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


class Raw(DecoderKind, frozen=True, kw_only=True):
    """Packed rows in the input's dtype, little-endian, one after the other."""
