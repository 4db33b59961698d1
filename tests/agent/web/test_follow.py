"""The live stream of events, without a server around it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgeflow_agent.store.journal import Journal
from edgeflow_agent.store.readers import Journals
from edgeflow_agent.web import feed
from edgeflow_agent.web.events import Events
from tests.agent.web.harness import block


def test_a_reader_who_wants_nothing_of_a_long_journal_does_not_keep_others_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "SCAN_BYTES", 1)
    monkeypatch.setattr(feed, "_READ_BYTES", 1)
    writer = Journal(tmp_path / "one", 4 << 20)
    writer.commit([block(1) for _ in range(100)])
    writer.close()
    journals = Journals(tmp_path)
    journals.refresh()
    assert asyncio.run(_turns(journals)) >= 90
    journals.close()


async def _turns(journals: Journals) -> int:
    """Return how often others have their turn until a reader is at the end of all journals."""
    turns, at_end = 0, asyncio.Event()

    async def wait(_: float) -> None:
        at_end.set()
        await asyncio.Event().wait()

    local = SimpleNamespace(journals=journals, commits=SimpleNamespace(wait=wait), stopping=False)
    stream = Events(local)._messages(feed.Query("dev", type="none such"), {})  # type: ignore[arg-type]
    await anext(stream)
    reader: asyncio.Task[bytes] = asyncio.create_task(anext(stream))  # type: ignore[arg-type]
    while not at_end.is_set():
        turns += 1
        await asyncio.sleep(0)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    return turns
