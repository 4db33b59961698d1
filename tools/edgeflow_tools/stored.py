"""A device's data folder, or a copy of it, read without the device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeflow_agent.store.journal import JournalError
from edgeflow_agent.store.readers import Journals
from edgeflow_agent.store.recording import Recordings
from edgeflow_agent.store.state import device_of, timeline
from edgeflow_agent.web import feed, traces
from edgeflow_proto.bundle import MANIFEST_FILE
from edgeflow_proto.rows import Rows
from edgeflow_proto.trace import Trace
from edgeflow_tools.readable import refused
from edgeflow_tools.terminal import Failure

UNKNOWN = "unknown"  # stands for the name of a device that does not tell it
GONE = "it was removed, or another version took its place; --pipeline runs a candidate over them"


class Gone(Failure):
    """The bundle that recorded something is not there any more."""


class Stored:
    """The folder. Every call raises Failure where what it needs cannot be read."""

    def __init__(self, store: Path, device: str | None = None) -> None:
        """Open its journals; `device` is what the device is called, in place of what the folder says."""
        if not (store / "journals").is_dir():
            raise Failure(
                f"{store} holds no journals: it is no agent's data folder, or none has run there yet"
            )
        self._store = store
        self._device = device or device_of(store / "state") or UNKNOWN
        self._journals = Journals(store / "journals")
        self._recordings = Recordings(store / "recordings")
        self._journals.refresh()
        self._journals.timeline = timeline(store / "state")

    def trace(self, event: str) -> Trace:
        """Return the trace of an event."""
        try:
            found = traces.find(self._journals, self._recordings, self._device, event)
        except (ValueError, JournalError) as error:
            raise Failure(f"{self._store}: {error}") from None
        if found is None:
            raise self._failure("journals", "no such event is in its journals")
        return found

    def rows(self, found: Trace, name: str) -> Iterator[Rows]:
        """Yield what is recorded of the rows of an input behind an event."""
        try:
            yield from traces.rows_of(self._journals, self._recordings, found, name)
        except JournalError as error:
            raise Failure(f"{self._store}: {error}") from None

    # for a replay

    def recorded(self) -> list[str]:
        """Return the pipelines of which something is recorded."""
        try:
            return self._recordings.names()
        except OSError:
            raise self._failure("recordings", "nothing is recorded") from None

    def blocks(self, name: str, since_ns: float, until_ns: float) -> Iterator[Rows]:
        """Yield what is recorded of a pipeline, as `RecordingReader.following` does."""
        found = self._recordings.get(name, self._journals.timeline)
        if found is None:
            raise self._failure("recordings", f"nothing is recorded of a pipeline '{name}'")
        try:
            yield from found.following(since_ns, until_ns)
        except JournalError as error:
            raise Failure(f"{self._store}: {error}") from None

    def damaged(self, name: str) -> int:
        """Return how many blocks of a recording were left out so far because they cannot be read."""
        found = self._recordings.get(name, self._journals.timeline)
        return 0 if found is None else len(found.damaged)

    def events(self, name: str, kind: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the events of a pipeline, or those of one type, in CloudEvents form."""
        if self._journals.get(name) is None and (why := refused(self._store / "journals" / name)):
            raise Failure(why)
        positions: feed.Positions = {}
        more = True
        while more:
            page = feed.page(self._journals, positions, feed.Query(self._device, name, kind, 1000))
            yield from (event.to_json() for event, _ in page.events)
            positions, more = page.positions, page.more

    def bundle(self, name: str) -> Path:
        """Return the folder of the bundle that recorded a pipeline's newest rows."""
        digest = next((rows.digest for rows in self._newest(name)), "")
        folder = self._store / "bundles" / digest
        if not digest:
            raise self._failure("recordings", f"nothing is recorded of a pipeline '{name}'")
        if why := refused(self._store / "bundles"):
            raise Failure(why)
        if not (folder / MANIFEST_FILE).is_file():
            what = f"the bundle {digest} that recorded the newest rows of '{name}'"
            raise Gone(f"{self._store}: {what} is not there: {GONE}")
        return folder

    def _newest(self, name: str) -> Iterator[Rows]:
        found = self._recordings.get(name, self._journals.timeline)
        if found is not None:
            yield from found.newest()

    def _failure(self, kind: str, what: str) -> Failure:
        """Return the failure that says what is not there, or that it is there and may not be read."""
        return Failure(refused(self._store / kind) or f"{self._store}: {what}")

    def close(self) -> None:
        """Close all that was opened."""
        self._journals.close()
        self._recordings.close()
