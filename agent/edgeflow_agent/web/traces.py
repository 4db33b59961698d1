"""Traces of this device's events, from its journals.

What is looked for is rare, so blocks are sifted by their bytes before any is taken apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from edgeflow_agent.store.readers import Journals, OpenJournal
from edgeflow_agent.web import feed
from edgeflow_proto import setup
from edgeflow_proto.event import decode_block, events, identity
from edgeflow_proto.trace import LOSSES, NEAR_EVENTS, Trace, trace

_READ_BYTES = 1 << 20


def find(journals: Journals, device: str, event_id: str) -> Trace | None:
    """Return the trace of an event, ``None`` when the event is not here (any more).

    Raises ValueError for what is no event's id, and JournalError when the journal cannot be read.
    """
    owner, sequence = identity(event_id)
    event = feed.find(journals, owner, sequence, device)
    journal = journals.by_id(owner)
    if event is None or journal is None:
        return None
    sifter = _Sifter(journals, journal, device)
    # A segment begins with the set-up of its first events: those before it need not be looked through.
    told = sifter.sift(journal.begun(sequence), sequence, (setup.TYPE,))
    around = sifter.sift(sequence - NEAR_EVENTS, sequence + NEAR_EVENTS, LOSSES)
    return trace(event.to_json(), told[-1] if told else None, around)


class _Sifter:
    """Finds the few events of some types in a stretch of a journal."""

    def __init__(self, journals: Journals, journal: OpenJournal, device: str) -> None:
        self._journals = journals
        self._journal = journal
        self._device = device

    def sift(self, first: int, last: int, types: Sequence[str]) -> list[dict[str, Any]]:
        """Return the events of these types numbered from `first` to `last`; raises Unreadable."""
        words = [word.encode() for word in types]
        found = []
        for number, data in self._blocks(first, last):
            if any(word in data for word in words):
                found += [event for event in self._events(number, data) if event["type"] in types]
        return [event for event in found if first <= identity(event["id"])[1] <= last]

    def _blocks(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        after = max(0, first - 1)
        while after < last and (blocks := self._journal.read(after, _READ_BYTES)):
            for number, count, data in blocks:
                if number > last:
                    return
                yield number, data
                after = number + count - 1

    def _events(self, first: int, data: bytes) -> Iterator[dict[str, Any]]:
        try:
            block = self._journals.timeline.dated(decode_block(data))
        except ValueError:  # told where events are listed; a damaged block explains nothing
            return
        for event in events(block, first, self._journal.id, self._device, self._journal.pipeline):
            yield event.to_json()
