"""What a pipeline said of rows, as far as its journal still has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

from edgeflow_proto.event import ROW_BITS, identity
from edgeflow_proto.setup import TYPE
from edgeflow_tools.replay.player import rows_of

_Json = dict[str, Any]


class Journalled:
    """The events that one version of a pipeline made, in the order of the journal, as their rows are reached.

    Numbers that are missing were evicted, or cannot be read: `missing` says that some are missing before the
    event that comes next, `holes` how often some were. A journal begins with a set-up, numbered 1: one that
    begins otherwise has lost its oldest events, and one that was begun later than the rows never had them.
    """

    def __init__(self, events: Iterable[_Json], digest: str, otherwise: Set[int] = frozenset()) -> None:
        """`events` are all there are, in their order, in CloudEvents form.

        Those of rows from rings of the generations `otherwise` were made with other parameters.
        """
        self._events = iter(events)
        self._digest, self._otherwise = digest, otherwise
        self._following: tuple[str, int] | None = None  # journal and number of the event to come
        self._generations: dict[str, int] = {}  # of the rings when the journal was begun
        self._head: _Json | None = None
        self._taken: object = None  # what was decided at once with the newest that was taken
        self._begun = False
        self.missing = False
        self.holes = 0

    def upto(self, following: Mapping[str, int]) -> Iterator[_Json]:
        """Yield events all of whose rows are numbered below these, and what was decided at once with them.

        What a device writes at once is ordered by output: so it is taken at once.
        """
        if not self._begun:
            self._begun, self._head = True, self._next()
            if any(number >> ROW_BITS < self._generations.get(name, 0) for name, number in following.items()):
                self._miss()
        while self._head is not None:
            if not (passed(self._head["inputspan"], following) or self._decided == self._taken):
                return
            yield self._take(self._head)

    def rest(self) -> Iterator[_Json]:
        """Yield what was decided at once with the event that comes next."""
        self._taken = self._decided
        while self._head is not None and self._decided == self._taken:
            yield self._take(self._head)

    def _take(self, head: _Json) -> _Json:
        self._taken = self._decided
        self.missing = False
        self._head = self._next()
        return head

    @property
    def _decided(self) -> object:
        head = self._head or {}
        return (head["bootid"], head["decidedns"]) if "decidedns" in head else head.get("id")

    def _next(self) -> _Json | None:
        for event in self._events:
            self._follow(event)
            if event.get("inputspan") and not event["type"].startswith("edgeflow.") and self._mine(event):
                return event
        return None

    def _mine(self, event: _Json) -> bool:
        generations = {last >> ROW_BITS for _, last in rows_of(event["inputspan"]).values()}
        return event.get("pipelinedigest", self._digest) == self._digest and not generations & self._otherwise

    def _follow(self, event: _Json) -> None:
        """Note where numbers are missing before an event."""
        journal, number = identity(event["id"])
        if self._following is None and event["type"] == TYPE:
            self._generations = event["data"].get("generations", {})
        if (journal, number) != (self._following or (journal, 1)):
            self._miss()
        self._following = journal, number + 1

    def _miss(self) -> None:
        self.missing = True
        self.holes += 1


def passed(span: str, following: Mapping[str, int]) -> bool:
    """Whether all rows of a span are numbered below these; those of inputs that are not recorded count so."""
    return all(last < following.get(name, last + 1) for name, (_, last) in rows_of(span).items())
