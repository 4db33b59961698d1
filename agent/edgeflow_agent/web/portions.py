"""What is looked through in portions, so that others are served between them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TypeVar

from edgeflow_agent.store.recording import Looking, Portion

T = TypeVar("T")


async def result(looking: Looking[T]) -> T:
    """Return what was looked for."""
    while True:
        try:
            next(looking)
        except StopIteration as end:
            found: T = end.value
            return found
        await asyncio.sleep(0)


async def first(parts: Iterator[T | Portion]) -> T | None:
    """Return the first that is found, ``None`` when nothing is."""
    for part in parts:
        if not isinstance(part, Portion):
            return part
        await asyncio.sleep(0)
    return None
