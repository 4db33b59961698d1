"""What has to be true of a journal after a power cut, whatever it was that the disk kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeflow_agent.store.journal import Journal, JournalError
from edgeflow_agent.store.journal_reader import JournalReader
from edgeflow_proto.event import decode_block
from tests.support.power import writer
from tests.support.power.log import TOLD, Record
from tests.support.power.told import Committed, Read, decode

MORE = 3  # commits after the cut


@dataclass(frozen=True)
class Promise:
    """What was told before a cut, and what the commit that it interrupted may have let go."""

    committed: Committed | None  # the newest
    read: int  # last event that a reader passed on
    oldest: int  # what is older may be gone
    serials: dict[int, int]  # of every commit of the run: next number → serial


def promised(records: list[Record], cut: int) -> Promise:
    """Return what a log says had been told before its entry number `cut`."""
    messages = [(i, decode(entry.data)) for i, entry in enumerate(records) if entry.kind == TOLD]
    commits = [(i, message) for i, message in messages if isinstance(message, Committed)]
    before = [message for i, message in commits if i < cut]
    after = [message for i, message in commits if i >= cut]
    oldest = next((message.first for message in (*after[:1], *before[-1:])), 1)
    read = max((each.last for i, each in messages if i < cut and isinstance(each, Read)), default=0)
    serials = {message.next: message.serial for _, message in commits}
    return Promise(before[-1] if before else None, read, oldest, serials)


def broken(path: Path, promise: Promise) -> list[str]:
    """Open the journal at `path` as an agent does, go on with it, and return what is not as promised."""
    try:
        journal = Journal(path, writer.MAX_BYTES)
    except JournalError as error:
        return [f"it cannot be opened: {error}"]
    found, following = [*_opened(journal, promise)], journal.next
    journal.close()
    try:
        before = _numbers(path)
        return [*found, *_events(before, promise, following), *_going_on(path, before)]
    except (ValueError, JournalError) as error:
        return [*found, str(error)]


def _opened(journal: Journal, promise: Promise) -> Iterator[str]:
    """Check what the journal says of itself."""
    told = promise.committed
    yield from (f"{damage.segment} was set aside" for damage in journal.damaged)
    try:
        copied = writer.copied_at(journal.durable)
    except ValueError as error:
        yield str(error)
        copied = 0
    if told is None:
        return
    if journal.id != told.journal:
        yield f"the journal {told.journal} is gone, there is {journal.id}"
    if journal.next < max(told.next, promise.read + 1):
        yield f"events up to {max(told.next - 1, promise.read)} were told, the next would be {journal.next}"
    if promise.serials.get(journal.next, journal.serial) != journal.serial:
        yield f"snapshot {journal.serial} is not the one behind event {journal.next - 1}"
    if copied < told.copied:
        yield f"a copy of the state was made at {told.copied}, there is the one of {copied}"


def _numbers(path: Path) -> list[int]:
    """Return the numbers of all events as a reader gets them; raises ValueError for one that is another."""
    reader, out = JournalReader(path), []
    try:
        for first, count, data in reader.read(0, 1 << 30):
            if decode_block(data) != writer.block(first, count):
                raise ValueError(f"the block of event {first} is not what was written")
            out += range(first, first + count)
    finally:
        reader.close()
    return out


def _events(numbers: list[int], promise: Promise, following: int) -> Iterator[str]:
    """Check that no event is missing, and none there twice."""
    if numbers and numbers != list(range(numbers[0], following)):
        yield f"events {numbers[0]} to {following - 1} are not there once each"
    told = promise.committed
    if told is not None and told.next > promise.oldest and not (numbers and numbers[0] <= promise.oldest):
        yield f"events from {promise.oldest} on were told, there are those from {numbers[:1]} on"
    if told is not None and numbers and numbers[0] < told.first:
        yield f"events before {told.first} were told to be gone, there are those from {numbers[0]} on"


def _going_on(path: Path, before: list[int]) -> Iterator[str]:
    """Commit more, and check that it follows what was there without a hole."""
    journal = Journal(path, writer.MAX_BYTES)
    writer.write(path, journal, lambda message: None, MORE)
    following = journal.next
    journal.close()
    numbers = _numbers(path)
    begin = before[-1] + 1 if before else 1
    if numbers != list(range(numbers[0], following)) or not numbers[0] <= begin <= following - MORE:
        yield f"behind {begin - 1} there follow {numbers[0]} to {following - 1}"
