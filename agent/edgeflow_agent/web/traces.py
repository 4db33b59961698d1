"""Traces of this device's events, from its journals and recordings.

What is looked for is rare, so blocks are sifted by their bytes before any is taken apart.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import msgspec

from edgeflow_agent.store.journal import JournalError
from edgeflow_agent.store.readers import Journals, OpenJournal
from edgeflow_agent.store.recording import Recordings
from edgeflow_agent.web import feed
from edgeflow_proto import setup
from edgeflow_proto.event import AGENT, Block, Event, decode_block, events, identity
from edgeflow_proto.recorded import Recorded, recorded
from edgeflow_proto.rows import Rows, of_key
from edgeflow_proto.trace import AGENT_LOSSES, LOSSES, NEAR_EVENTS, NEAR_S, Json, Trace, trace

log = logging.getLogger("edgeflow.web")
_READ_BYTES = 256 << 10
_PORTION = 512  # events or blocks, after which it is seen whether what follows is nearby still


def find(journals: Journals, recordings: Recordings, device: str, event_id: str) -> Trace | None:
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
    around = [*sifter.losses_before(event), *sifter.losses_behind(event)]
    own = journals.get(AGENT)
    if own is not None and own is not journal:
        around += _Sifter(journals, own, device).sift(1, own.bounds[1], AGENT_LOSSES)
    found = trace(event.to_json(), told[-1] if told else None, around)
    return msgspec.structs.replace(found, rows=_recorded(journals, recordings, found))


def rows_of(journals: Journals, recordings: Recordings, found: Trace, name: str) -> Iterator[Rows]:
    """Yield what is recorded of the rows of an input behind an event; raises JournalError while it does."""
    recording = recordings.get(found.pipeline, journals.timeline)
    span = found.spans.get(name)
    if recording is not None and span is not None:
        yield from of_key(recording.rows(name, *span.numbers), span.key)


def _recorded(journals: Journals, recordings: Recordings, found: Trace) -> dict[str, Recorded]:
    """Return what is recorded by input, if the pipeline is; what cannot be read explains nothing."""
    told: dict[str, Recorded] = {}
    recording = recordings.get(found.pipeline, journals.timeline)
    if recording is None:
        return told
    for name, span in found.spans.items():
        try:
            told[name] = recorded(recording.rows(name, *span.numbers), *span.numbers, span.key)
        except JournalError as error:
            log.error("the rows behind %s: %s", found.event["id"], error)
    return told


class _Sifter:
    """Finds the few events of some types in a stretch of a journal. Every call may raise Unreadable."""

    def __init__(self, journals: Journals, journal: OpenJournal, device: str) -> None:
        self._journals = journals
        self._journal = journal
        self._device = device

    def sift(self, first: int, last: int, types: Sequence[str]) -> list[Json]:
        """Return the events of these types numbered from `first` to `last`."""
        found = [
            event for number, data in self._blocks(first, last) for event in self._of(number, data, types)
        ]
        return [event for event in found if first <= identity(event["id"])[1] <= last]

    def losses_before(self, event: Event) -> Iterator[Json]:
        """Yield what was lost shortly before an event."""
        last, least = event.sequence, max(1, event.sequence - NEAR_EVENTS)
        while last > least:
            first = max(least, last - _PORTION)
            blocks = list(self._blocks(first, last - 1))
            for number, data in blocks:
                yield from self._of(number, data, LOSSES)
            if not blocks or self._far(event, blocks[0][1]):
                return
            last = first

    def losses_behind(self, event: Event) -> Iterator[Json]:
        """Yield what was lost shortly after an event."""
        blocks = self._blocks(event.sequence, event.sequence + NEAR_EVENTS)
        for place, (number, data) in enumerate(blocks):
            yield from self._of(number, data, LOSSES)
            if place % _PORTION == _PORTION - 1 and self._far(event, data):
                return

    def _blocks(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        after = max(0, first - 1)
        while after < last and (blocks := self._journal.read(after, _READ_BYTES)):
            for number, count, data in blocks:
                if number > last:
                    return
                yield number, data
                after = number + count - 1

    def _of(self, first: int, data: bytes, types: Sequence[str]) -> Iterator[Json]:
        """Yield the events of a block if it is of one of these types."""
        if not any(word.encode() in data for word in types):
            return
        block = self._block(data)
        if block is not None and block.type in types:
            found = events(block, first, self._journal.id, self._device, self._journal.pipeline)
            yield from (event.to_json() for event in found)

    def _far(self, event: Event, data: bytes) -> bool:
        """Whether a block is of the event's boot and too long before or after it to be nearby."""
        block = self._block(data)
        if block is None or block.clock.boot_id != event.clock.boot_id or not block.decided_ns:
            return False
        return abs(block.decided_ns - (event.decided_ns or event.t)) > NEAR_S * 1e9

    def _block(self, data: bytes) -> Block | None:
        """Take a block apart; one that is damaged explains nothing, and is told where events are listed."""
        try:
            return self._journals.timeline.dated(decode_block(data))
        except ValueError:
            return None
