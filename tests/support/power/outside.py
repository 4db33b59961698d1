"""Who looks at an agent from outside while its plug is pulled, and what must be in its store then."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeflow_agent.store.journal import Journal, JournalError
from edgeflow_agent.store.journal_reader import JournalReader
from edgeflow_agent.store.state import State
from edgeflow_proto.rows import sequence
from tests.support.device import Device
from tests.support.power.log import TOLD, Record
from tests.support.power.told import Given, decode, tell
from tests.support.relay import Relay

Event = dict[str, Any]
Blocks = list[tuple[int, int, bytes]]  # first event, how many, and the bytes of each
Stored = dict[str, Blocks]  # by journal or recording: its folder in the store
JOURNAL_BYTES = 64 << 20
KINDS = ("journals", "recordings")
LOOKS = 10  # at events, for each at the recorded rows


class Outside:
    """Knows what it was given, over all lives of the agent: `events` by source and id."""

    def __init__(self) -> None:
        self.events: dict[tuple[str, str], Event] = {}
        self.last: dict[str, int] = {}
        self.digest = ""  # of the pipeline that was taken last
        self.rows = 0  # that were recorded, when it last looked
        self._looks = 0

    def look(self, device: Device, relay: Relay, told: Path) -> None:
        """Get all events there are, over HTTP and from the relay, and let the disk's log know of it."""
        self._take(device.events())
        self._take(relay.events())
        self._looks += 1
        if self._looks % LOOKS == 0:
            self._take_rows(device, "cut")
        tell(told, Given(self.last, self.digest))

    def _take_rows(self, device: Device, pipeline: str) -> None:
        """Get all recorded rows there are."""
        status, body = device.request("GET", f"/api/v1/pipelines/{pipeline}/recording")
        if status == 200:
            place = f"recordings/{pipeline}"
            self.rows = sum(rows.count for rows in sequence(io.BytesIO(body)))
            self.last[place] = max(self.rows, self.last.get(place, 0))

    def count(self, kind: str) -> int:
        """Return how many events of a type it was given."""
        return sum(event["type"] == kind for event in self.events.values())

    def _take(self, events: list[Event]) -> None:
        """Whoever gets an event twice gets the same again."""
        for event in events:
            known = self.events.setdefault((event["source"], event["id"]), event)
            assert known["data"] == event["data"], f"{event['id']} was given to two events"
            place, number = f"journals/{event['source'].rpartition('/')[2]}", int(event["sequence"])
            self.last[place] = max(number, self.last.get(place, 0))


def given(records: list[Record], cut: int) -> Given:
    """Return what somebody outside had when the plug was pulled before entry number `cut`."""
    newest = next((entry for entry in reversed(records[:cut]) if entry.kind == TOLD), None)
    message = Given({}, "") if newest is None else decode(newest.data)
    assert isinstance(message, Given)
    return message


def stored(store: Path) -> Stored:
    """Return all journals and recordings of an agent that does not run."""
    return {
        f"{kind}/{path.name}": _blocks(path)
        for kind in KINDS
        if (store / kind).is_dir()
        for path in (store / kind).iterdir()
    }


def _blocks(path: Path) -> Blocks:
    reader = JournalReader(path)
    try:
        return reader.read(0, 1 << 30)
    finally:
        reader.close()


def broken(store: Path, whole: Stored, told: Given, newest: str) -> list[str]:
    """Return what is not as promised in a store after a cut; `whole` is what it held without one.

    `newest` is the pipeline taken last in the whole life: when it was not told, it may be there yet.
    """
    names = sorted(whole.keys() | told.last.keys())
    found = [
        what for name in names for what in _journal(store, name, whole.get(name, []), told.last.get(name, 0))
    ]
    return [*found, *_state(store, {told.digest, newest} if told.digest else set())]


def _journal(store: Path, name: str, whole: Blocks, last: int) -> Iterator[str]:
    path = store / name
    if not path.is_dir() and not last:
        return
    try:
        journal = Journal(path, JOURNAL_BYTES)
        journal.close()
        blocks = _blocks(path)
    except JournalError as error:
        yield str(error)
        return
    yield from (f"{name}: {damage.segment} was set aside" for damage in journal.damaged)
    if journal.next <= last:
        yield f"{name}: all up to {last} was given, the next would be {journal.next}"
    if blocks != whole[: len(blocks)]:
        yield f"{name}: what it holds is not what was written"


def _state(store: Path, digests: set[str]) -> Iterator[str]:
    state = State(store / "state")
    wanted = {offer.digest for each in state.deployments().values() for offer in each.offers.values()}
    state.close()
    if digests and not digests & wanted:
        yield f"of the pipelines {sorted(digests)} one was taken, there are {sorted(wanted)}"
    yield from (f"bundle {each} is not there" for each in wanted if not (store / "bundles" / each).is_dir())
