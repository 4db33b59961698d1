"""The socket between `agentd` and each of its children: whole messages, with descriptors beside them.

SOCK_SEQPACKET keeps message boundaries; what a dead process had not read stays in the kernel for the next
one when `agentd` keeps the pair. Source: unix(7).
"""

from __future__ import annotations

import array
import errno
import select
import socket
from typing import TypeVar

import msgspec

from edgeflow_agent.core.spawn import MAX_MESSAGE

MAX_FDS = 250

M = TypeVar("M")


class Closed(ConnectionError):
    """The other end is gone."""


class Channel:
    """One end. `receive` decodes into the union of message types given to the constructor."""

    def __init__(self, sock: socket.socket, types: type[M] | object) -> None:
        self.sock = sock
        self._decoder: msgspec.msgpack.Decoder[object] = msgspec.msgpack.Decoder(types)
        self._encoder = msgspec.msgpack.Encoder()

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self.sock.fileno()

    def send(self, message: msgspec.Struct, fds: tuple[int, ...] = ()) -> bool:
        """Send one message; the kernel duplicates descriptors.

        False when the other end is full or gone, and for a message that is too large: see `fits`. Full it
        may also be of descriptors, which the kernel counts until they are taken.
        """
        data = self._encoder.encode(message)
        if len(data) > MAX_MESSAGE:
            return False
        try:
            socket.send_fds(self.sock, [data], list(fds))
        except (BlockingIOError, BrokenPipeError, ConnectionError):
            return False
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:
                raise
            return False
        return True

    def fits(self, message: msgspec.Struct) -> bool:
        """Say whether a message can be sent at all."""
        return len(self._encoder.encode(message)) <= MAX_MESSAGE

    def receive(self) -> tuple[object, list[int]] | None:
        """Return the next message and its descriptors, ``None`` when there is none now; raises Closed."""
        try:
            data, ancillary, _, _ = self.sock.recvmsg(
                MAX_MESSAGE, socket.CMSG_LEN(MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return None
        except ConnectionError as error:
            raise Closed from error
        if not data:
            raise Closed
        return self._decoder.decode(data), _descriptors(ancillary)

    def wait(self) -> tuple[object, list[int]]:
        """Return the next message, waiting for it; raises Closed."""
        poll = select.poll()  # its number may be beyond what select(2) can wait for
        poll.register(self.sock, select.POLLIN)
        while (received := self.receive()) is None:
            poll.poll()
        return received

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)
