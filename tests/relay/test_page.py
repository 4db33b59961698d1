"""The page's stream, without a relay around it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from edgeflow_relay.bell import Bell
from edgeflow_relay.web import page


def test_a_page_looks_a_few_times_a_second_however_often_devices_are_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0
    relay = SimpleNamespace(ticks=Bell(), stopping=False)

    async def fragments(_: object) -> page.Fragments:
        nonlocal looks
        looks += 1
        return {"relay": str(looks)}

    async def watch() -> None:
        async for _ in page.Pages()._changes(relay):  # type: ignore[arg-type]
            pass

    async def go() -> None:
        watching = asyncio.create_task(watch())
        for _ in range(100):
            relay.ticks.ring()
            await asyncio.sleep(0.01)
        relay.stopping = True
        await watching

    monkeypatch.setattr(page, "fragments", fragments)
    asyncio.run(go())
    assert 2 <= looks <= 20
