"""Connections that say nothing, or not enough, are closed; those that are of use are not."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import edgeflow_agent.web.server
import edgeflow_relay.server

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PUT = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
SOON_S = 0.3
Ask = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


async def _slow(request: Request) -> Response:
    body = await request.body()
    await asyncio.sleep(3 * SOON_S)
    return PlainTextResponse(b"done" + body)


@pytest.fixture(params=[edgeflow_agent.web.server, edgeflow_relay.server], ids=["agent", "relay"])
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The server of either, which waits a moment for requests."""
    monkeypatch.setattr(request.param, "REQUEST_S", SOON_S)
    return request.param


@asynccontextmanager
async def serving(module: Any) -> AsyncIterator[Ask]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = module.make_server(Starlette(routes=[Route("/", _slow, methods=["GET", "PUT"])]))
        task = asyncio.create_task(server.serve([sock]))
        yield lambda: asyncio.open_connection("127.0.0.1", sock.getsockname()[1])
        server.should_exit = True
        await task


async def closed(reader: asyncio.StreamReader) -> float:
    """Wait until a connection is closed without an answer; returns how long that took."""
    begin = time.monotonic()
    async with asyncio.timeout(3):
        assert await reader.read() == b""
    return time.monotonic() - begin


@pytest.mark.parametrize("sent", [b"", b"GET / HT", GET[:-2], b"\r\n"])
def test_a_connection_without_a_request_is_closed(module: Any, sent: bytes) -> None:
    async def go() -> None:
        async with serving(module) as ask:
            reader, writer = await ask()
            writer.write(sent)
            assert await closed(reader) >= SOON_S / 2
            writer.close()

    asyncio.run(go())


@pytest.mark.parametrize("sent", [b"G", b"\r\n"])
def test_one_that_begins_another_request_and_goes_no_further_is_closed(module: Any, sent: bytes) -> None:
    async def go() -> None:
        async with serving(module) as ask:
            reader, writer = await ask()
            writer.write(GET)
            await reader.readuntil(b"done")
            writer.write(sent)
            await closed(reader)
            writer.close()

    asyncio.run(go())


def test_requests_that_come_in_time_take_as_long_as_they_like(module: Any) -> None:
    async def go() -> None:
        async with serving(module) as ask:
            reader, writer = await ask()
            for _ in range(2):  # on one connection
                writer.write(PUT)
                await asyncio.sleep(2 * SOON_S)
                writer.write(b"me")
                async with asyncio.timeout(5):
                    await reader.readuntil(b"doneme")
            writer.close()

    asyncio.run(go())


def test_those_who_say_nothing_shut_nobody_out_for_long(module: Any) -> None:
    async def go() -> None:
        async with serving(module) as ask:
            silent = [await ask() for _ in range(600)]
            await asyncio.sleep(3 * SOON_S)
            reader, writer = await ask()
            writer.write(GET)
            async with asyncio.timeout(5):
                assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            for _, one in (*silent, (reader, writer)):
                one.close()

    asyncio.run(go())
