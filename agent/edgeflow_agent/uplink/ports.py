"""What the uplink needs of a connection, whatever carries it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from edgeflow_proto.v1.device_pb2 import DeviceMessage
from edgeflow_proto.v1.relay_pb2 import RelayMessage


class Lost(ConnectionError):
    """The connection is gone or never came about; the message says why."""


class Ousted(Lost):
    """The relay knows another agent by this device's name: only a person can mend that."""


class BlobError(LookupError):
    """The relay cannot give the blob: it has none of that digest, or not that far."""


class Stream(Protocol):
    """One connection to the relay. Sends may overlap; only one task receives. Everything raises Lost."""

    async def send(self, message: DeviceMessage) -> None:
        """Send a message; waits while the relay does not take it."""

    async def receive(self) -> RelayMessage:
        """Wait for the next message. Cancelling it ends the connection."""

    def fetch(self, digest: str, offset: int) -> AsyncGenerator[bytes, None]:
        """Yield a blob from `offset` on; raises BlobError."""

    async def close(self) -> None:
        """End the connection; never raises."""


Dial = Callable[[], Stream]  # raises Lost, or the first call on the stream does
