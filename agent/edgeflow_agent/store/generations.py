"""Which ring generations a store's events and recorded rows have: the number of a row must not come twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeflow_agent.store.journal import JournalError
from edgeflow_agent.store.journal_reader import JournalReader
from edgeflow_agent.store.recording import RecordingReader
from edgeflow_proto.arrays import numbers
from edgeflow_proto.event import AGENT, ROW_BITS, decode_block

LOOKED_AT = 10_000  # newest events of a journal
MARGIN = 1000  # for generations of which nothing was written since, or not there


def behind(store: Path) -> int:
    """Return a generation behind all that the newest events and rows of a store have, 0 where it has none."""
    found = [row >> ROW_BITS for folder in _folders(store / "journals") for row in _decided(folder)]
    found += [row >> ROW_BITS for folder in _folders(store / "recordings") for row in _recorded(folder)]
    return max(found) + MARGIN if found else 0


def _folders(path: Path) -> list[Path]:
    try:
        return [folder for folder in path.iterdir() if folder.name != AGENT]
    except OSError:
        return []


def _decided(path: Path) -> Iterator[int]:
    """Yield the numbers of the last rows behind a journal's newest events."""
    try:
        reader = JournalReader(path)
    except JournalError:
        return
    try:
        for _, _, data in reader.read(max(0, reader.last - LOOKED_AT), LOOKED_AT << 10):
            yield max(numbers(decode_block(data).spans, "q"), default=0)
    except (JournalError, ValueError):  # of one that cannot be read nobody asks for rows
        return
    finally:
        reader.close()


def _recorded(path: Path) -> Iterator[int]:
    """Yield the numbers of the rows that came next when a recording was last written."""
    try:
        reader = RecordingReader(path)
    except JournalError:
        return
    try:
        yield from reader.next.values()
    except JournalError:
        return
    finally:
        reader.close()
