"""The connection to the relay over gRPC: the only file of the agent that knows it.

A connection is made anew for each attempt, so that waiting between attempts is ours alone and none of
gRPC's. Source: grpc.github.io/grpc/core, "Channel arguments"; gRPC A8 (client-side keepalive).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator

import grpc
from grpc import aio

from edgeflow_agent.uplink.ports import BlobError, Lost, Ousted
from edgeflow_proto.v1 import service_pb2
from edgeflow_proto.v1.device_pb2 import DeviceMessage
from edgeflow_proto.v1.relay_pb2 import RelayMessage
from edgeflow_proto.v1.service_pb2_grpc import BlobsStub, FleetStub

KEEPALIVE_MS = 20_000
_OPTIONS = (
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    # The kernel too ends a connection on which nothing sent is acknowledged for this long (TCP_USER_TIMEOUT).
    ("grpc.keepalive_timeout_ms", 60_000),
    ("grpc.http2.ping_timeout_ms", 600_000),  # on a slow way an answer waits behind a block
    ("grpc.use_local_subchannel_pool", 1),  # another attempt's back-off must not be ours
    ("grpc.enable_retries", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", 32 << 20),
)
_NO_CONNECTION = re.compile(r"failed to connect .*: ([^:()]+?)(?: \(\d+\))?", re.IGNORECASE | re.DOTALL)
_GONE = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.OUT_OF_RANGE)


class GrpcStream:
    """A stream to `address` (``host:port``); see the port `edgeflow_agent.uplink.ports.Stream`."""

    def __init__(self, address: str) -> None:
        self._channel = aio.insecure_channel(address, options=_OPTIONS)
        self._call = FleetStub(self._channel).Connect()
        self._blobs = BlobsStub(self._channel)
        self._sending = asyncio.Lock()  # gRPC takes one write at a time

    async def send(self, message: DeviceMessage) -> None:
        """Send a message; raises Lost."""
        async with self._sending:
            try:
                await self._call.write(message)
            except (aio.AioRpcError, asyncio.InvalidStateError) as error:
                raise await self._reason(error) from None

    async def receive(self) -> RelayMessage:
        """Wait for the next message; raises Lost."""
        try:
            message = await self._call.read()
        except (aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise await self._reason(error) from None
        if not isinstance(message, RelayMessage):
            raise Lost("the relay ended the stream")
        return message

    async def _reason(self, error: Exception) -> Lost:
        """Return why the stream ended; a write only knows that it did."""
        if isinstance(error, aio.AioRpcError):
            code, details = error.code(), error.details()
        else:
            code, details = await self._call.code(), await self._call.details()
        if code is grpc.StatusCode.ALREADY_EXISTS:
            return Ousted(details)
        return Lost(_words(code, details))

    async def fetch(self, digest: str, offset: int) -> AsyncGenerator[bytes, None]:
        """Yield a blob from `offset` on; raises BlobError or Lost."""
        call = self._blobs.Fetch(service_pb2.BlobRequest(digest=digest, offset=offset))
        try:
            async for chunk in call:
                yield chunk.data
        except aio.AioRpcError as error:
            if error.code() in _GONE:
                raise BlobError(f"blob {digest}: {_words(error.code(), error.details())}") from None
            raise Lost(_words(error.code(), error.details())) from None
        finally:
            call.cancel()

    async def close(self) -> None:
        """End the stream and the connection."""
        self._call.cancel()
        await self._channel.close()


def _words(code: grpc.StatusCode, details: str | None) -> str:
    """Say why in gRPC's words; where there is no connection, in the system's, which stand at their end."""
    refused = _NO_CONNECTION.fullmatch(details or "")
    if refused is not None:
        return refused[1].lower()
    return f"{code.name.lower().replace('_', ' ')}: {details or 'no details'}"
