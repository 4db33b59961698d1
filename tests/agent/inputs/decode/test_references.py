"""CBOR that refers to itself: few bytes that stand for more numbers than memory holds."""

from __future__ import annotations

import cbor2
import pytest

from edgeflow_agent.inputs.decode.base import DecodeError, decoder_of
from edgeflow_proto.pipeline.kinds.base import Intake
from edgeflow_proto.pipeline.kinds.decoders import Cbor


def test_few_bytes_that_stand_for_more_than_memory_holds_are_refused() -> None:
    decoder = decoder_of(Cbor(samples="data"), Intake(fields=["x"]))
    payload = cbor2.dumps({"data": [[0.5] * 50_000] * 50_000}, value_sharing=True)
    with pytest.raises(DecodeError, match="refers to parts of itself") as caught:
        decoder.decode(payload)
    assert caught.value.reason == "type"


def test_a_value_that_is_marked_and_not_repeated_is_taken() -> None:
    decoder = decoder_of(Cbor(samples="data"), Intake(fields=["x"]))
    decoder.decode(cbor2.dumps({"data": [[29.0], [0.5]]}, value_sharing=True))
