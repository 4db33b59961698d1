"""Listening to an edge of a running pipeline: `agentd` makes a socket, on which its worker speaks."""

from __future__ import annotations

import asyncio
import socket

from edgeflow_agent.core import messages, shm
from edgeflow_agent.core.channel import Channel, Closed
from edgeflow_agent.web.asked import Asked

ANSWER_S = 5.0


class Refused(LookupError):
    """There is no such edge; the message says which there are."""


class Taps(Asked[messages.Listen, "Channel | str"]):
    """What is asked of `agentd` for edges."""

    async def listen(self, pipeline: str, edge: str, rate: float) -> tuple[Channel, bytes]:
        """Return the worker's end of a new tap, and in JSON what its rows are.

        Raises Refused when the pipeline has no such edge, ConnectionError when there is no worker,
        TimeoutError when nobody answers.
        """
        found = await self.ask(lambda ticket: messages.Listen(ticket, pipeline, edge, rate), ANSWER_S)
        if isinstance(found, str):
            raise ConnectionError(found)
        try:
            first = await following(found, ANSWER_S)
            if isinstance(first, messages.TapRefused):
                raise Refused(first.reason)
            assert isinstance(first, messages.TapBegun)
        except BaseException:
            found.close()
            raise
        return found, first.head

    def answered(self, message: messages.Listening, fds: list[int]) -> None:
        """Take an answer; a socket that nobody waits for any more is closed."""
        if message.reason or not fds:
            self.take(message.ticket, message.reason or "agentd sent no socket")
            return
        channel = Channel(socket.socket(fileno=fds[0]), messages.FromTap)
        shm.close(*fds[1:])
        if not self.take(message.ticket, channel):
            channel.close()


async def following(channel: Channel, timeout: float) -> object:
    """Return the next message of a worker; raises TimeoutError, ConnectionError when it is gone."""
    async with asyncio.timeout(timeout):
        try:
            while (received := channel.receive()) is None:
                await _readable(channel.fileno())
        except Closed:
            raise ConnectionError("its worker has ended") from None
    return received[0]


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    come: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, lambda: None if come.done() else come.set_result(None))
    try:
        await come
    finally:
        loop.remove_reader(fd)
