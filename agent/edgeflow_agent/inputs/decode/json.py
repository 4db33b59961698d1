"""JSON payloads. Source: RFC 8259, which has no word for NaN and infinity."""

from __future__ import annotations

import re

import msgspec

from edgeflow_agent.inputs.decode.base import DecodeError, Samples
from edgeflow_agent.inputs.decode.sample import Form, number_type, refusal
from edgeflow_proto.pipeline.kinds.base import Intake
from edgeflow_proto.pipeline.kinds.decoders import Json

_NOT_A_NUMBER = re.compile(rb'(?<![\w"])-?(NaN|nan|Infinity|inf)\b')


class JsonDecoder:
    """Reads payloads straight into the numbers asked for."""

    def __init__(self, options: Json, intake: Intake) -> None:
        self._form = Form(intake, options.samples, number_type(intake.dtype))
        self._decoder = msgspec.json.Decoder(self._form.type)

    def decode(self, payload: bytes) -> Samples:
        """Return the samples (see `Decoder.decode`)."""
        try:
            decoded = self._decoder.decode(payload)
        except msgspec.ValidationError as error:
            raise refusal(error) from None
        except UnicodeDecodeError as error:
            raise DecodeError("json", str(error)) from None
        except msgspec.DecodeError as error:  # some programs write NaN although JSON has no such number
            raise DecodeError("nan" if _NOT_A_NUMBER.search(payload) else "json", str(error)) from None
        except RecursionError:
            raise DecodeError("json", "nested too deeply") from None
        return self._form.samples(decoded)


def decoder(options: Json, intake: Intake) -> JsonDecoder:
    """Return the decoder of an input; raises ValueError when its fields contradict each other."""
    return JsonDecoder(options, intake)
