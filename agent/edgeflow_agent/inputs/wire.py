"""The bytes of an MQTT connection, read in blocks: a system call for hundreds of packets, not four for one.

PUBLISH packets are taken apart here; all others go on to paho as they came. What paho and the
acknowledgements write is gathered and sent together. Source: MQTT 3.1.1, sections 2.2 and 3.3.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import NamedTuple

CHUNK = 64 << 10
MAX_TOPIC = 65535
_PUBLISH = 0x30
_LARGEST_CONTROL = 1 << 20  # a packet other than PUBLISH that is longer is none


class ProtocolError(ConnectionError):
    """The other end does not speak MQTT."""


class Publish(NamedTuple):
    """A message. `payload` is ``None`` when it was too large and has been thrown away."""

    topic: bytes
    payload: bytes | None
    size: int
    qos: int
    packet_id: bytes  # two bytes, empty at QoS 0
    again: bool  # the broker says that it may have sent it before


class Parser:
    """Cuts a stream into packets. `largest` is the size of the largest payload that is kept."""

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 2
        self._skip = 0

    def feed(self, chunk: bytes) -> list[Publish | bytes]:
        """Return the packets that are complete now, messages taken apart; raises ProtocolError.

        A payload that is too large is never gathered: its bytes are dropped as they come.
        """
        if self._skip:
            dropped = min(self._skip, len(chunk))
            self._skip -= dropped
            chunk = chunk[dropped:]
        self._chunks.append(chunk)
        self._have += len(chunk)
        if self._have < self._need:
            return []
        data = chunk if len(self._chunks) == 1 else b"".join(self._chunks)
        packets, at = self._cut(data)
        self._chunks, self._have = [data[at:]], len(data) - at
        return packets

    def _cut(self, data: bytes) -> tuple[list[Publish | bytes], int]:
        """Return the packets of `data` and where the first incomplete one begins; notes what that needs."""
        out: list[Publish | bytes] = []
        at, end = 0, len(data)
        while end - at >= 2:
            length, body = data[at + 1], at + 2
            if length > 127:
                length, body = _length(data, at + 1)
                if not body:
                    self._need = end - at + 1
                    return out, at
            stop = body + length
            if stop > end:
                return self._incomplete(data, at, body, length, out)
            out.append(_message(data, at, body, stop) if data[at] & 0xF0 == _PUBLISH else data[at:stop])
            at = stop
        self._need = 2
        return out, at

    def _incomplete(
        self, data: bytes, at: int, body: int, length: int, out: list[Publish | bytes]
    ) -> tuple[list[Publish | bytes], int]:
        publish = data[at] & 0xF0 == _PUBLISH
        if length <= (self.largest + MAX_TOPIC + 4 if publish else _LARGEST_CONTROL):
            self._need = body + length - at
            return out, at
        if not publish:
            raise ProtocolError(f"a packet of {length} bytes")
        self._need = body - at + MAX_TOPIC + 4
        if len(data) - at < self._need:
            return out, at
        self._skip = body + length - len(data)
        self._need = 2
        whole = _message(data, at, body, body + length)
        out.append(whole._replace(payload=None))
        return out, len(data)


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Return a packet's remaining length and where its body begins, 0 when that is not here yet."""
    length = 0
    for i in range(4):
        if at + i >= len(data):
            return 0, 0
        length |= (data[at + i] & 127) << (7 * i)
        if data[at + i] < 128:
            return length, at + i + 1
    raise ProtocolError("a length of more than four bytes")


def _message(data: bytes, at: int, body: int, stop: int) -> Publish:
    flags = data[at]
    topic = body + 2
    payload = topic + (data[body] << 8 | data[body + 1]) if stop >= topic else stop + 1
    qos = flags >> 1 & 3
    packet_id = b""
    if qos:
        packet_id = data[payload : payload + 2]
        payload += 2
    if payload > stop or qos > 1:
        raise ProtocolError("a message that is cut short" if payload > stop else f"a message of QoS {qos}")
    return Publish(
        data[topic : payload - len(packet_id)],
        data[payload:stop],
        stop - payload,
        qos,
        packet_id,
        bool(flags & 8),
    )


class Wire:
    """A connected socket between paho and the kernel. paho finds in it only what `hand` put there."""

    def __init__(self, sock: socket.socket, largest: int) -> None:
        """`largest` is the size of the largest payload that is kept."""
        self._sock = sock
        self._fd = sock.fileno()
        self.parser = Parser(largest)
        self._for_paho = bytearray()
        self._out = bytearray()
        self.closed = False

    # what paho calls

    def recv(self, size: int) -> bytes:
        """Return bytes that were handed on; raises BlockingIOError when there are none."""
        if not self._for_paho:
            raise BlockingIOError
        data = bytes(self._for_paho[:size])
        del self._for_paho[:size]
        return data

    def send(self, data: bytes | bytearray) -> int:
        """Keep bytes for the next `flush`."""
        self._out += data
        return len(data)

    def fileno(self) -> int:
        """The descriptor to wait on, the same after it was closed."""
        return self._fd

    def setblocking(self, flag: bool) -> None:
        """As of a socket."""
        self._sock.setblocking(flag)

    def close(self) -> None:
        """Send what the kernel takes at once, and close."""
        if not self.closed:
            self.closed = True
            with contextlib.suppress(OSError):
                self._send()
            self._sock.close()

    # what the connection calls

    @property
    def backlog(self) -> int:
        """Bytes that wait to be sent."""
        return len(self._out)

    @property
    def pending(self) -> bool:
        """Whether there is more to read that a selector does not see."""
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    def read(self) -> list[Publish | bytes]:
        """Return the packets that have come; raises OSError when the connection is gone."""
        try:
            chunk = self._sock.recv(CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return []
        if not chunk:
            raise ConnectionError("closed by the broker")
        return self.parser.feed(chunk)

    def hand(self, packet: bytes) -> None:
        """Let paho find a packet."""
        self._for_paho += packet

    def acknowledge(self, packet_id: bytes) -> None:
        """Tell the broker that a message is here (PUBACK, section 3.4)."""
        self._out += b"\x40\x02" + packet_id

    def flush(self) -> bool:
        """Send what waits; False when the kernel does not take all of it now. Raises OSError."""
        if self._out:
            self._send()
        return not self._out

    def _send(self) -> None:
        try:
            sent = self._sock.send(self._out)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        del self._out[:sent]
