"""Traces of this device's events, from its journals and recordings.

What is looked for is rare, so blocks are sifted by their bytes before any is taken apart.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Sequence

import msgspec

from edgeflow_agent.store.journal import JournalError
from edgeflow_agent.store.readers import Journals, OpenJournal
from edgeflow_agent.store.recording import Looking, Part, Portion, RecordingReader, Recordings, blocks
from edgeflow_agent.web import feed
from edgeflow_proto import setup
from edgeflow_proto.event import AGENT, Block, Event, decode_block, events, identity
from edgeflow_proto.recorded import MAX_BYTES, Recorded, recorded
from edgeflow_proto.rows import Rows, of_key
from edgeflow_proto.trace import AGENT_LOSSES, LOSSES, NEAR_EVENTS, NEAR_S, Json, Span, Trace, trace

log = logging.getLogger("edgeflow.web")
_READ_BYTES = 256 << 10
LOOK_BYTES = 64 << 20  # of a recording that are looked through for one event
_PORTION = 512  # events or blocks, after which it is seen whether what follows is nearby still


def find(journals: Journals, recordings: Recordings, device: str, event_id: str) -> Trace | None:
    """Return the trace of an event, ``None`` when the event is not here (any more).

    Raises ValueError for what is no event's id, and JournalError when the journal cannot be read.
    """
    looking = look(journals, recordings, device, event_id)
    while True:
        try:
            next(looking)
        except StopIteration as end:
            found: Trace | None = end.value
            return found


def look(journals: Journals, recordings: Recordings, device: str, event_id: str) -> Looking[Trace | None]:
    """Do as `find` does, in portions."""
    owner, sequence = identity(event_id)
    event = feed.find(journals, owner, sequence, device)
    journal = journals.by_id(owner)
    if event is None or journal is None:
        return None
    sifter = _Sifter(journals, journal, device)
    # A segment begins with the set-up of its first events: those before it need not be looked through.
    told = sifter.sift(journal.begun(sequence), sequence, (setup.TYPE,))
    around = sifter.losses(event, sequence, LOSSES)
    own = journals.get(AGENT)
    if own is not None and own is not journal:
        beside = _Sifter(journals, own, device)
        around += beside.losses(event, beside.place(event), AGENT_LOSSES)
    found = trace(event.to_json(), told[-1] if told else None, around)
    rows = yield from _recorded(journals, recordings, found)
    return msgspec.structs.replace(found, rows=rows)


def rows_of(journals: Journals, recordings: Recordings, found: Trace, name: str) -> Iterator[Rows]:
    """Yield what is recorded of the rows of an input behind an event; raises JournalError while it does."""
    return blocks(parts_of(journals, recordings, found, name))


def parts_of(journals: Journals, recordings: Recordings, found: Trace, name: str) -> Iterator[Part]:
    """Do as `rows_of` does, in portions."""
    recording = recordings.get(found.pipeline, journals.timeline)
    span = found.spans.get(name)
    if recording is None or span is None:
        return
    for part in recording.look(name, *span.numbers):
        yield from [part] if isinstance(part, Portion) else of_key([part], span.key)


def _recorded(journals: Journals, recordings: Recordings, found: Trace) -> Looking[dict[str, Recorded]]:
    """Return what is recorded by input, if the pipeline is; what cannot be read explains nothing."""
    told: dict[str, Recorded] = {}
    recording = recordings.get(found.pipeline, journals.timeline)
    if recording is None:
        return told
    for name, span in found.spans.items():
        try:
            told[name] = yield from _drawn(recording, name, span, LOOK_BYTES // len(found.spans))
        except JournalError as error:
            log.error("the rows behind %s: %s", found.event["id"], error)
    return told


def _drawn(recording: RecordingReader, name: str, span: Span, most: int) -> Looking[Recorded]:
    """Return what is recorded of a span, as far as it is found among `most` bytes."""
    rows: list[Rows] = []
    size = looked = 0
    for part in recording.look(name, *span.numbers):
        if isinstance(part, Portion):
            looked += part.bytes
            yield part
        else:
            rows.append(part)
            if size >= MAX_BYTES:
                break  # with one more than are told of it is known that there are more
            size += len(part.values)
        if looked > most:
            return msgspec.structs.replace(recorded(rows, *span.numbers, span.key), whole=False)
    return recorded(rows, *span.numbers, span.key)


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

    def losses(self, event: Event, place: int, types: Sequence[str]) -> list[Json]:
        """Return what was lost shortly before and after an event, whose place among others is known."""
        return [*self._before(event, place, types), *self._behind(event, place, types)]

    def place(self, event: Event) -> int:
        """Return the number of the first event that was told after one of another journal."""
        low, high = self._journal.bounds[0], self._journal.bounds[1] + 1
        while low < high:
            middle = (low + high) // 2
            blocks = self._journal.read(middle - 1, 1)
            if not blocks:
                return high
            number, count, data = blocks[0]
            if self._later(data, event):
                high = min(number, middle)
            else:
                low = max(number + count, middle + 1)
        return low

    def _later(self, data: bytes, event: Event) -> bool:
        """Whether a block was told after an event: boots follow each other, and so do times in each."""
        block = self._block(data)
        if block is None:
            return False
        boots = self._journals.timeline.place
        theirs, ours = boots(block.clock.boot_id), boots(event.clock.boot_id)
        return (theirs, _told_ns(block)) > (ours, event.decided_ns or event.t)

    def _before(self, event: Event, place: int, types: Sequence[str]) -> Iterator[Json]:
        last, least = place, max(1, place - NEAR_EVENTS)
        while last > least:
            first = max(least, last - _PORTION)
            blocks = list(self._blocks(first, last - 1))
            for number, data in blocks:
                yield from self._of(number, data, types)
            if not blocks or self._far(event, blocks[0][1]):
                return
            last = first

    def _behind(self, event: Event, place: int, types: Sequence[str]) -> Iterator[Json]:
        blocks = self._blocks(place, place + NEAR_EVENTS)
        for count, (number, data) in enumerate(blocks):
            yield from self._of(number, data, types)
            if count % _PORTION == _PORTION - 1 and self._far(event, data):
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
        if block is None or block.clock.boot_id != event.clock.boot_id:
            return False
        return abs(_told_ns(block) - (event.decided_ns or event.t)) > NEAR_S * 1e9

    def _block(self, data: bytes) -> Block | None:
        """Take a block apart; one that is damaged explains nothing, and is told where events are listed."""
        try:
            return self._journals.timeline.dated(decode_block(data))
        except ValueError:
            return None


def _told_ns(block: Block) -> int:
    """Return when a block was told, in ns since its boot: of a notice the time of its event."""
    (first,) = struct.unpack_from("<q", block.t)
    return int(block.decided_ns or first)
