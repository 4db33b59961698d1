"""Packed rows, little-endian, one after the other."""

from __future__ import annotations

import numpy as np

from edgeflow_agent.inputs.decode.base import DecodeError, Samples, narrowed, shaped
from edgeflow_proto.pipeline.kinds.base import Intake
from edgeflow_proto.pipeline.kinds.decoders import Raw


class RawDecoder:
    """Looks at payloads as arrays; nothing is copied."""

    def __init__(self, intake: Intake) -> None:
        self._dtype = np.dtype(intake.dtype)
        self._row_shape = intake.row_shape

    def decode(self, payload: bytes) -> Samples:
        """Return the samples (see `Decoder.decode`)."""
        if len(payload) % self._dtype.itemsize:
            raise DecodeError("shape", f"{len(payload)} bytes are not values of {self._dtype.itemsize}")
        if self._dtype.kind == "b":
            if payload.strip(b"\0\1"):
                raise DecodeError("range", "a byte that is neither 0 nor 1")
            return Samples(shaped(np.frombuffer(payload, self._dtype), self._row_shape))
        values = np.frombuffer(payload, self._dtype.newbyteorder("<"))
        return Samples(narrowed(shaped(values, self._row_shape), self._dtype))


def decoder(options: Raw, intake: Intake) -> RawDecoder:
    """Return the decoder of an input; there are no options."""
    assert isinstance(options, Raw)
    return RawDecoder(intake)
