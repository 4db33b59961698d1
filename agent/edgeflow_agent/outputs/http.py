"""The http output: rows are posted as JSON, and kept for a bounded time and number while nobody takes them.

Each output has a thread of its own, since `io` must not wait: for a name to be looked up, for a handshake,
for a server that thinks. One thread and one connection keep the rows of an output in order, and an output
whose server hangs delays no other, as it would in a pool shared by all. `http.client` does what is needed and
is there already; what a larger library adds (pools, redirects, cookies) is not wanted on this way.

The thread tells what became of rows by a queue that `turn` reads, so that all counting is done in one thread.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple

import msgspec

from edgeflow_agent.config import Endpoint
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.messages import EffectRow
from edgeflow_agent.outputs.base import Output, OutputContext, content_of
from edgeflow_agent.outputs.post import Answer, Poster
from edgeflow_proto.pipeline.kinds.outputs import Http

MAX_WAITING = 1000  # rows; the oldest go first
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
LONGEST_ASKED_S = 600.0  # of what a server asks for


class Outcome(NamedTuple):
    """What became of rows; an empty reason says that they were taken."""

    rows: int
    reason: str = ""
    detail: str = ""


class HttpOutput(Output):
    """Hands rows to its thread and counts what became of them."""

    def __init__(self, options: Http, context: OutputContext) -> None:
        """Raises LookupError when there is no such endpoint, OSError for a file it names."""
        endpoint = Endpoint(options.url) if options.url else context.endpoint(options.endpoint or "")
        poster = Poster(endpoint, options.path, dict(options.headers or {}), options.timeout.seconds)
        self._account = context.account
        self._sender = Sender(options, poster, f"{context.pipeline}.{context.name}")
        self._sender.start()

    @property
    def idle(self) -> bool:  # type: ignore[override]
        """Whether nothing waits to be carried out."""
        return self._sender.idle

    def carry_out(self, row: EffectRow) -> None:
        """Queue a row."""
        self._sender.put(row)

    def turn(self, now: int) -> None:
        """Count what became of rows."""
        for outcome in self._sender.outcomes():
            if outcome.reason:
                self._account.dropped(outcome.reason, outcome.detail, outcome.rows)
            else:
                self._account.done(outcome.rows)
        self._account.turn(now)

    def close(self) -> None:
        """Drop what waits; the thread ends by itself, at the latest when the server's time is over."""
        self._sender.end()
        self.turn(boottime_ns())


class Sender(threading.Thread):
    """Posts rows in order, again and again until they are taken, refused or too old."""

    def __init__(self, options: Http, poster: Poster, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._options = options
        self._poster = poster
        self._batch = options.batch or 1
        self._changed = threading.Condition()  # guards all that follows
        self._queue: deque[EffectRow] = deque()
        self._flying = 0  # rows that were taken from the queue and have no outcome
        self._outcomes: list[Outcome] = []
        self._ended = False

    # what the loop of `io` calls

    def put(self, row: EffectRow) -> None:
        """Queue a row; the oldest goes when too many wait."""
        with self._changed:
            self._queue.append(row)
            if len(self._queue) > MAX_WAITING:
                self._queue.popleft()
                self._outcomes.append(Outcome(1, "full", f"more than {MAX_WAITING} rows wait"))
            self._changed.notify()

    def outcomes(self) -> list[Outcome]:
        """Return what became of rows since this was called before."""
        with self._changed:
            found, self._outcomes = self._outcomes, []
        return found

    @property
    def idle(self) -> bool:
        """Whether no row waits for its outcome, or the outcome to be read."""
        with self._changed:
            return not (self._queue or self._flying or self._outcomes)

    def end(self) -> None:
        """Let the thread end; rows without an outcome are dropped."""
        with self._changed:
            left = len(self._queue) + self._flying
            self._queue.clear()
            self._flying, self._ended = 0, True
            if left:
                self._outcomes.append(Outcome(left, "closed", "the pipeline was stopped"))
            self._changed.notify()

    # the thread

    def run(self) -> None:
        """Post until the end."""
        while rows := self._take():
            self._deliver(rows)
        self._poster.close()

    def _take(self) -> list[EffectRow]:
        """Wait for rows and return those of one body; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._ended)
            rows = [self._queue.popleft() for _ in range(min(self._batch, len(self._queue)))]
            self._flying = len(rows)
        return rows

    def _deliver(self, rows: list[EffectRow]) -> None:
        """Post rows until they are taken or refused; those that have become too old are dropped."""
        wait_s = FIRST_WAIT_S
        while rows := self._fresh(rows):
            answer, failure = self._try(rows)
            if not failure:
                return self._settle(Outcome(len(rows)))
            if answer is not None and not answer.passing:
                return self._settle(Outcome(len(rows), "refused", failure))
            asked_s = min(answer.wait_s, LONGEST_ASKED_S) if answer is not None else 0.0
            if not self._pause(max(wait_s, asked_s)):
                return None
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        return None

    def _fresh(self, rows: list[EffectRow]) -> list[EffectRow]:
        oldest = boottime_ns() - self._options.max_age
        fresh = [row for row in rows if row.t >= oldest]
        if stale := len(rows) - len(fresh):
            self._settle(Outcome(stale, "max_age", f"older than {self._options.max_age.seconds:g} s"))
        return fresh

    def _try(self, rows: list[EffectRow]) -> tuple[Answer | None, str]:
        """Return the answer, if there is one, and why the rows were not taken, empty when they were."""
        contents = [content_of(self._options, row) for row in rows]
        body = msgspec.json.encode(contents if self._options.batch else contents[0])
        try:
            answer = self._poster.post(body)
        except Exception as error:  # of sockets, TLS, HTTP: whatever it is, the thread goes on
            return None, f"{type(error).__name__}: {error}"
        return answer, "" if answer.taken else f"status {answer.status}"

    def _settle(self, outcome: Outcome) -> None:
        with self._changed:
            if not self._ended:  # else they are counted as dropped already
                self._flying -= outcome.rows
                self._outcomes.append(outcome)

    def _pause(self, seconds: float) -> bool:
        """Wait before the next try; return False when it is the end."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._ended, seconds)
