"""The way of a posted payload to `io` and of its answer back, over a socket that can be full."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket

import msgspec

from edgeflow_agent.core import shm
from edgeflow_agent.core.channel import Channel, Closed
from edgeflow_agent.core.messages import Post, Posted

log = logging.getLogger("edgeflow.web")
INLINE_BYTES = 32 << 10  # a larger body goes in a memfd
MAX_OUTSTANDING = 256
ANSWER_S = 5.0


class Busy(RuntimeError):
    """`io` has as much to do as it takes; try again."""


class Posts:
    """One end of the posts socket. An answer that comes too late, or to an earlier process, is dropped."""

    def __init__(self, sock: socket.socket) -> None:
        self._channel = Channel(sock, Posted)
        self._ticket = secrets.randbits(48) << 14
        self._waiting: dict[int, asyncio.Future[Posted]] = {}

    def listen(self) -> None:
        """Begin to take answers, in the running loop."""
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._receive)

    async def post(self, pipeline: str, input: str, decoder: str, body: bytes) -> Posted:
        """Hand a payload over and wait for what became of it.

        Raises Busy when the socket is full or too many wait, TimeoutError when no answer comes in 5 s,
        ConnectionError when the socket is closed, OSError when there is no memory for the payload.
        """
        if len(self._waiting) >= MAX_OUTSTANDING:
            raise Busy
        self._ticket += 1
        answer: asyncio.Future[Posted] = asyncio.get_running_loop().create_future()
        self._waiting[self._ticket] = answer
        ticket = self._ticket
        try:
            if not self._hand_over(ticket, pipeline, input, decoder, body):
                raise Busy
            async with asyncio.timeout(ANSWER_S):
                return await answer
        finally:
            del self._waiting[ticket]

    def _hand_over(self, ticket: int, pipeline: str, input: str, decoder: str, body: bytes) -> bool:
        if len(body) <= INLINE_BYTES:
            return self._channel.send(Post(ticket, pipeline, input, decoder, body, len(body)))
        fd = shm.create("post", len(body))
        try:
            os.pwrite(fd, body, 0)
            return self._channel.send(Post(ticket, pipeline, input, decoder, b"", len(body)), (fd,))
        finally:
            shm.close(fd)

    def _receive(self) -> None:
        try:
            while (received := self._channel.receive()) is not None:
                self._answered(received[0])
        except msgspec.MsgspecError as error:
            log.error("io sent what is no answer: %s", error)
        except Closed:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ConnectionError("the way to io is closed"))

    def _answered(self, message: object) -> None:
        if isinstance(message, Posted):
            answer = self._waiting.get(message.ticket)
            if answer is not None and not answer.done():
                answer.set_result(message)
