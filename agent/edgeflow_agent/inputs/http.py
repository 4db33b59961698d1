"""The http input: payloads that local programs post to the device's endpoint; `link` hands them on."""

from __future__ import annotations

from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.inputs.base import Input, InputContext
from edgeflow_agent.inputs.decode.base import DecodeError, Decoder, decoder, name_of
from edgeflow_proto.pipeline.kinds.base import DecoderKind, kinds
from edgeflow_proto.pipeline.kinds.inputs import Http


class HttpInput(Input):
    """Takes posts. The content type names the decoder, the input's own options say where samples are."""

    def __init__(self, options: Http, context: InputContext) -> None:
        """Raises LookupError or ValueError when its decoder cannot be made."""
        assert context.intake.decode is not None
        self._options = context.intake.decode
        self._intake = context.intake
        self._feed = context.feed
        self._decoders: dict[str, Decoder] = {}
        self._decoder(name_of(self._options))

    def check_size(self, size: int) -> None:
        """Raise DecodeError, having counted it, when a payload is too large to be looked at."""
        if size > self._feed.largest:
            error = DecodeError("size", f"{size} bytes, the most is {self._feed.largest}")
            self._feed.reject(error.reason, error.detail)
            raise error

    def post(self, payload: bytes, name: str) -> int:
        """Take a payload for the decoder of that name; return its number of samples.

        Raises DecodeError, having counted it.
        """
        try:
            found = self._decoder(name)
        except LookupError as error:
            self._feed.reject("content_type", str(error))
            raise DecodeError("content_type", str(error)) from None
        return self._feed.payload(payload, found, 0, boottime_ns())

    def _decoder(self, name: str) -> Decoder:
        if name not in self._decoders:
            self._decoders[name] = decoder(name)(self._options_of(name), self._intake)
        return self._decoders[name]

    def _options_of(self, name: str) -> DecoderKind:
        """Return the input's own options, or as much of them as the other decoder knows too."""
        kind = kinds("decoder")[name]
        if type(self._options) is kind:
            return self._options
        known = {field: value for field, value in _fields(self._options).items() if field in _names(kind)}
        options = kind(**known)
        assert isinstance(options, DecoderKind)
        return options


def _fields(options: DecoderKind) -> dict[str, object]:
    return {name: getattr(options, name) for name in _names(type(options))}


def _names(kind: type) -> tuple[str, ...]:
    return tuple(getattr(kind, "__struct_fields__", ()))
