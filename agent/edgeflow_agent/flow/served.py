"""What `io` does for one pipeline: its inputs, each failing by itself, and the effects of its worker."""

from __future__ import annotations

import functools
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgeflow_agent.config import Endpoint
from edgeflow_agent.core import messages
from edgeflow_agent.core.board import Slot
from edgeflow_agent.core.broker import Broker
from edgeflow_agent.core.channel import Channel, Closed
from edgeflow_agent.core.layout import RingSpec
from edgeflow_agent.core.reactor import Callback, Reactor, Timer
from edgeflow_agent.core.ring import Gap, RingWriter
from edgeflow_agent.core.snapshot import Snapshots
from edgeflow_agent.inputs.base import Input, InputContext, InputFactory
from edgeflow_agent.inputs.feed import Feed
from edgeflow_agent.outputs.base import Account, Output, OutputContext, OutputFactory
from edgeflow_proto.pipeline.graph import Graph, InputNode, OutputNode

log = logging.getLogger("edgeflow.io")
LONGEST_WAIT_S = 60.0
HEALED_S = 5.0  # a source that held this long is served again
EFFECTS_PER_TURN = 64  # messages


class Scope:
    """A part of the loop for one owner: what its callbacks raise is its own failure."""

    def __init__(self, reactor: Reactor, failed: Callable[[Exception], None]) -> None:
        self._reactor = reactor
        self._failed = failed
        self._fds: set[int] = set()
        self._timers: set[Timer] = set()
        self._open = True

    def _guarded(self, callback: Callback) -> Callback:
        @functools.wraps(callback)
        def guarded() -> None:
            if self._open:
                try:
                    callback()
                except Exception as error:  # anything an input may meet; the others go on
                    self._failed(error)

        return guarded

    def watch(self, fd: int, read: Callback | None, write: Callback | None = None) -> None:
        """See `Reactor.watch`."""
        self._fds.add(fd)
        self._reactor.watch(fd, read and self._guarded(read), write and self._guarded(write))

    def forget(self, fd: int) -> None:
        """See `Reactor.forget`."""
        self._fds.discard(fd)
        self._reactor.forget(fd)

    def after(self, seconds: float, callback: Callback) -> Timer:
        """See `Reactor.after`."""
        self._timers = {timer for timer in self._timers if timer.callback is not None}
        timer = self._reactor.after(seconds, self._guarded(callback))
        self._timers.add(timer)
        return timer

    def close(self) -> None:
        """Forget all."""
        self._open = False
        for fd in list(self._fds):
            self.forget(fd)
        for timer in self._timers:
            timer.cancel()


@dataclass(frozen=True, slots=True)
class House:
    """What all pipelines share."""

    reactor: Reactor
    slot: Slot
    files: Path  # folder of all file outputs
    broker: Callable[[str], Broker]  # by name; raises LookupError
    endpoint: Callable[[str], Endpoint]  # as well
    tell: Callable[[msgspec.Struct], object]  # to `agentd`


class ServedInput:
    """One input: the writer of its ring, and its source, which is made anew when it fails."""

    def __init__(
        self, house: House, writer: RingWriter, node: InputNode, make: InputFactory | None, folder: Path
    ) -> None:
        self.feed = Feed(writer, node.intake, house.slot, self._rejected)
        self.source: Input | None = None
        self._house, self._node, self._make, self._folder = house, node, make, folder
        self._pipeline = writer.spec.pipeline
        self._scope = Scope(house.reactor, self.failed)
        self._credit: int | None = None
        self._failures = 0
        self._reason = ""
        self._again: Timer | None = None

    def open(self) -> None:
        """Begin; what goes wrong is told, and tried again."""
        self._scope = Scope(self._house.reactor, self.failed)
        self._again = None
        if self._failures:
            self._scope.after(HEALED_S, self._healed)
            if not self.feed.writer.spec.lossless:
                self.feed.gap(Gap.RESTART)
        try:
            if self._make is None:
                raise LookupError(f"inputs of kind '{self._node.kind}' are not installed")
            self.source = self._make(self._node.options, self._context())
        except Exception as error:  # files, settings, libraries: the other inputs go on
            self.failed(error)

    def _context(self) -> InputContext:
        return InputContext(
            self._pipeline, self._node.name, self._node.intake, self._folder, self.feed, self._scope,
            self._house.broker, self.failed,
        )  # fmt: skip

    def _rejected(self, reason: str, detail: str, example: str, count: int) -> None:
        message = messages.InputRejected(self._pipeline, self._node.name, reason, detail, example, count)
        self._house.tell(message)

    def _healed(self) -> None:
        self._failures, self._reason = 0, ""
        self._house.tell(messages.InputFailed(self._pipeline, self._node.name, ""))

    def failed(self, error: Exception) -> None:
        """Close the source, tell `agentd` unless it knows, and try again after a while."""
        self._close_source()
        self._failures += 1
        reason = f"{type(error).__name__}: {error}"
        if reason != self._reason:
            self._reason = reason
            extra = {"pipeline": self._pipeline}
            log.error(
                "%s: inputs.%s: %s", self._pipeline, self._node.name, reason, exc_info=error, extra=extra
            )
            self._house.tell(messages.InputFailed(self._pipeline, self._node.name, reason[:1000]))
        if self._again is None:
            wait = min(LONGEST_WAIT_S, 2.0 ** min(self._failures - 1, 10))
            self._again = self._house.reactor.after(wait, self.open)

    def _close_source(self) -> None:
        source, self.source = self.source, None
        self._scope.close()
        if source is not None:
            try:
                source.close()
            except Exception:  # it has failed already
                words, extra = "%s: inputs.%s: cannot be closed", {"pipeline": self._pipeline}
                log.exception(words, self._pipeline, self._node.name, extra=extra)

    def bind(self, ready: int, credit: int) -> None:
        """The reader is a new one."""
        if self._credit is not None:
            self._house.reactor.forget(self._credit)
        self.feed.writer.bind(ready, credit)
        if self.feed.writer.spec.lossless:
            self._credit = credit
            self._house.reactor.watch(credit, self._credited)

    def _credited(self) -> None:
        self.feed.writer.space()  # takes what was credited, so that the descriptor is quiet again
        if self.source is not None:
            self.source.space()

    def close(self) -> None:
        """End the source and let go of the ring."""
        if self._again is not None:
            self._again.cancel()
        if self._credit is not None:
            self._house.reactor.forget(self._credit)
        self._close_source()
        self.feed.close()


class Effects:
    """Carries out what a worker asks for, each row once: its mark outlives this process and the worker."""

    def __init__(
        self, house: House, graph: Graph, fds: tuple[int, int], makes: dict[str, OutputFactory]
    ) -> None:
        """`fds` are the effects socket and the worker's snapshots."""
        self._house = house
        self._graph = graph
        self._channel = Channel(socket.socket(fileno=fds[0]), messages.Effect)
        self._marks = Snapshots(fds[1]).marks()
        os.close(fds[1])
        self._accounts: dict[str, Account] = {}
        self._outputs: dict[str, Output] = {}
        for node in graph.outputs.values():
            if node.options.effect:
                self._open(node, makes.get(node.kind))
        house.reactor.watch(self._channel.fileno(), self._readable)

    def _open(self, node: OutputNode, make: OutputFactory | None) -> None:
        account = Account(self._graph.name, node.name, self._house.slot)
        self._accounts[node.name] = account
        folder = self._house.files / self._graph.name
        house = self._house
        context = OutputContext(self._graph.name, node.name, folder, account, house.broker, house.endpoint)
        try:
            if make is None:
                raise LookupError(f"outputs of kind '{node.kind}' are not installed")
            self._outputs[node.name] = make(node.options, context)
        except Exception as error:  # the other outputs go on
            extra = {"pipeline": self._graph.name}
            log.error("%s: outputs.%s: %s", self._graph.name, node.name, error, extra=extra)
            self._house.tell(messages.OutputFailed(self._graph.name, node.name, str(error)[:1000]))

    def _readable(self) -> None:
        self.receive()

    def receive(self) -> bool:
        """Take what is there, up to a bound; return whether there was any."""
        for count in range(EFFECTS_PER_TURN):
            try:
                received = self._channel.receive()
                if received is None:
                    return count > 0
                self._carry_out(received[0])
            except Closed:
                self._house.reactor.forget(self._channel.fileno())
                return False
            except Exception as error:  # the author's code runs in the worker: it may send anything
                extra = {"pipeline": self._graph.name}
                log.error("%s: not an effect: %s", self._graph.name, error, extra=extra)
        return True

    def _carry_out(self, effect: object) -> None:
        assert isinstance(effect, messages.Effect)
        done = self._marks[effect.mark]
        for row in effect.rows:
            if row.row > done:
                self._hand(effect.output, row)
        self._marks[effect.mark] = max(done, effect.rows[-1].row if effect.rows else done)

    def _hand(self, name: str, row: messages.EffectRow) -> None:
        output, account = self._outputs.get(name), self._accounts.get(name)
        if account is None:
            return
        if output is None:
            account.dropped("failed", "the output cannot be made")
            return
        try:
            output.carry_out(row)
        except Exception as error:  # one row must not end the output
            account.dropped("error", f"{type(error).__name__}: {error}")

    @property
    def idle(self) -> bool:
        """Whether all outputs have done what they were given."""
        return all(output.idle for output in self._outputs.values())

    def turn(self, now: int) -> None:
        """Let outputs write and publish."""
        for name, output in self._outputs.items():
            try:
                output.turn(now)
            except Exception as error:  # the others go on
                self._accounts[name].dropped("error", f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Let go of all."""
        self._house.reactor.forget(self._channel.fileno())
        for output in self._outputs.values():
            output.close()
        self._channel.close()


class Served:
    """One attached pipeline."""

    def __init__(self, inputs: dict[str, ServedInput], effects: Effects) -> None:
        self.inputs = inputs
        self.effects = effects

    def turn(self, now: int) -> None:
        """Publish rows, then act."""
        for served in self.inputs.values():
            served.feed.publish()
        self.effects.turn(now)

    def slow_turn(self, now: int) -> None:
        """Write log lines that are due."""
        for served in self.inputs.values():
            served.feed.turn(now)

    def close(self) -> None:
        """Stop serving it."""
        for served in self.inputs.values():
            served.close()
        self.effects.close()


def writer(memory: int, spec: RingSpec) -> RingWriter:
    """Map a ring for writing; the descriptor is not needed afterwards."""
    made = RingWriter(memory, spec)
    os.close(memory)
    return made
