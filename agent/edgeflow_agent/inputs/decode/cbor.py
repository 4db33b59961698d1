"""CBOR payloads. Source: RFC 8949, and RFC 8746 for typed arrays."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import cbor2
import msgspec
import numpy as np

from edgeflow_agent.core.batch import Values
from edgeflow_agent.inputs.decode.base import DecodeError, Samples, narrowed, shaped
from edgeflow_agent.inputs.decode.raw import RawDecoder
from edgeflow_agent.inputs.decode.sample import Form, number_type, refusal
from edgeflow_proto.cbor import check_written_out
from edgeflow_proto.pipeline.kinds.base import Intake
from edgeflow_proto.pipeline.kinds.decoders import Cbor

# RFC 8746, section 2.1. Clamped bytes (68) are bytes; float128 has no place here.
TYPED_ARRAYS = {
    64: "u1", 65: ">u2", 66: ">u4", 67: ">u8", 68: "u1", 69: "<u2", 70: "<u4", 71: "<u8",
    72: "i1", 73: ">i2", 74: ">i4", 75: ">i8", 77: "<i2", 78: "<i4", 79: "<i8",
    80: ">f2", 81: ">f4", 82: ">f8", 84: "<f2", 85: "<f4", 86: "<f8",
}  # fmt: skip


class CborDecoder:
    """Reads payloads as JSON is read, and packed numbers as they are."""

    def __init__(self, options: Cbor, intake: Intake) -> None:
        self._dtype = np.dtype(intake.dtype)
        self._row_shape = intake.row_shape
        self._path = options.samples.split(".") if options.samples else []
        # Floats are read as float64 and narrowed afterwards, because CBOR, unlike JSON, can hold NaN.
        self._wide = "float64" if self._dtype.kind == "f" else intake.dtype
        wide = msgspec.structs.replace(intake, dtype=self._wide)
        samples = None if options.samples is None else ""
        self._form = Form(wide, samples, number_type(self._wide))
        self._raw = RawDecoder(intake)

    def decode(self, payload: bytes) -> Samples:
        """Return the samples (see `Decoder.decode`)."""
        content = self._found(loaded(payload))
        if self._form.marked and isinstance(content, bytes | cbor2.CBORTag):
            raise DecodeError("type", "packed numbers carry no key, time or code")
        if isinstance(content, bytes):
            return self._raw.decode(content)
        if isinstance(content, cbor2.CBORTag):
            return Samples(self._typed(content))
        try:
            found = self._form.samples(msgspec.convert(content, self._form.type))
            return found._replace(values=narrowed(found.values, self._dtype))
        except msgspec.ValidationError as error:
            raise refusal(error) from None

    def _found(self, content: Any) -> Any:
        for part in self._path:
            if not isinstance(content, dict):
                raise DecodeError("type", f"'{part}' is looked for in what is not a map")
            if part not in content:
                raise DecodeError("missing_field", f"no '{part}'")
            content = content[part]
        return content

    def _typed(self, tag: cbor2.CBORTag) -> Values:
        dtype = TYPED_ARRAYS.get(tag.tag)
        if dtype is None or not isinstance(tag.value, bytes):
            raise DecodeError("type", f"tag {tag.tag} is not an array of numbers")
        if len(tag.value) % np.dtype(dtype).itemsize:
            raise DecodeError("shape", f"{len(tag.value)} bytes are not values of {dtype}")
        return narrowed(shaped(np.frombuffer(tag.value, dtype), self._row_shape), self._dtype)


def loaded(payload: bytes) -> Any:
    """Return what a payload holds; raises DecodeError."""
    stream = BytesIO(payload)
    try:
        content = cbor2.CBORDecoder(stream).decode()
    except Exception as error:  # what tags make of their content may raise anything
        raise DecodeError("cbor", f"{type(error).__name__}: {error}") from None
    if stream.tell() < len(payload):
        raise DecodeError("cbor", f"something follows at byte {stream.tell()}")
    try:
        check_written_out(content, payload)
    except ValueError as error:
        raise DecodeError("type", str(error)) from None
    return content


def decoder(options: Cbor, intake: Intake) -> CborDecoder:
    """Return the decoder of an input; raises ValueError when its fields contradict each other."""
    return CborDecoder(options, intake)
