"""The test plays `agentd` for a real `link` process: control socket, board, eventfd, posts socket."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from edgeflow_agent.core import board as boards
from edgeflow_agent.core import clock, messages, shm, spawn
from edgeflow_agent.core.channel import Channel
from edgeflow_agent.core.logs import Keeping
from edgeflow_agent.store.journal import Journal
from edgeflow_proto.event import Block, Clock, Column
from tests.support.processes import eventually

T = TypeVar("T")


def block(count: int = 1, start: int = 0, *, output: str = "alarm", kind: str = "test.alarm") -> Block:
    """Return a block of events whose value is `start` and counts up."""
    now = clock.boottime_ns()
    values = [float(start + i) for i in range(count)]
    return Block(
        output=output, type=kind, severity="warning", count=count,
        clock=Clock(clock.boot_id(), clock.wall_ns() - now, "synchronised"),
        t=struct.pack(f"<{count}q", *(now + i for i in range(count))),
        data=(Column("value", "float64", (), struct.pack(f"<{count}d", *values)),),
    )  # fmt: skip


def pipeline(name: str, **changes: Any) -> messages.PipelineStatus:
    """Return a pipeline that runs."""
    known: dict[str, Any] = {
        "name": name, "digest": "d" * 64, "origin": "http", "state": "running", "reason": "", "slot": -1,
        "folder": "", "journal": "", "restarts": 0, "since_ns": clock.boottime_ns(),
    }  # fmt: skip
    return messages.PipelineStatus(**(known | changes))


@dataclass
class AgentdStandIn:
    """Starts `link` as `agentd` does, and hears what it says."""

    store: Path
    relay: str | None = None
    device: str = "dev-1"
    port: int = 0
    room: int = 1 << 30  # bytes, for bundles
    process: subprocess.Popen[bytes] | None = None
    heard: list[object] = field(default_factory=list)
    statuses: tuple[messages.PipelineStatus, ...] = ()

    def __post_init__(self) -> None:
        for name in ("journals", "staging", "run", "bundles"):
            (self.store / name).mkdir(parents=True, exist_ok=True)
        self.board_fd = boards.create()
        self.board = boards.Board(self.board_fd)
        self.commits = shm.eventfd()
        self.io_sock, self.link_sock = spawn.pair()
        self.io = Channel(self.io_sock, messages.Post)
        self.journals: dict[str, Journal] = {}
        self.control: Channel | None = None
        self.settings = self.store / "settings.yaml"

    def start(self) -> None:
        """Start `link` and wait until it serves."""
        self.spawn()
        self.connect()

    def spawn(self) -> None:
        """Start `link`; it dies with the thread that does this."""
        relay = f"relay: {self.relay}\n" if self.relay else ""
        text = f"device: {self.device}\nfleet: test\ndata: {self.store}\nhttp: {{port: {self.port}}}\n{relay}"
        self.settings.write_text(text)
        (self.store / "run" / "link.json").unlink(missing_ok=True)
        ours, theirs = spawn.pair()
        environment = {**os.environ, spawn.CONTROL_ENV: f"{theirs.fileno()}:{os.getpid()}"}
        command = [sys.executable, "-m", "edgeflow_agent.processes.link"]
        self.process = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()])
        theirs.close()
        self.control = Channel(ours, messages.FromLink)
        logs = Keeping(str(self.store / "logs"), 4 << 20, 1)
        start = messages.StartLink(2, str(self.settings), str(self.store), logs)
        self.control.send(start, (self.board_fd, self.commits, self.link_sock.fileno()))
        self.tell(*self.statuses)

    def connect(self) -> None:
        """Wait until `link` serves."""
        run_file = self.store / "run" / "link.json"
        self.port = eventually(run_file.exists, "link serves") and json.loads(run_file.read_text())["http"]
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10)

    def tell(self, *statuses: messages.PipelineStatus) -> None:
        """Say what runs."""
        self.statuses = statuses
        assert self.control is not None
        self.control.send(messages.Pipelines(statuses))

    def hear(self, kind: type[T]) -> T:
        """Wait for a message of a kind from `link`."""

        def next_message() -> T | None:
            assert self.control is not None
            while (received := self.control.receive()) is not None:
                self.heard.append(received[0])
                self._answer(received[0])
            found = next((message for message in self.heard if isinstance(message, kind)), None)
            if found is not None:
                self.heard.remove(found)
            return found

        return eventually(next_message, f"link says {kind.__name__}")

    def _answer(self, message: object) -> None:
        """Say whether there is room for a bundle."""
        assert self.control is not None
        if isinstance(message, messages.Claim) and message.size:
            why = "" if message.size <= self.room else f"{message.size} bytes are more than {self.room}"
            self.control.send(messages.Claimed(message.ticket, why))

    def take_post(self) -> tuple[messages.Post, bytes]:
        """Wait, as `io` does, for a post; return it with its body."""
        received = eventually(self.io.receive, "a post comes")
        post, fds = received
        assert isinstance(post, messages.Post)
        if not fds:
            return post, post.body
        body = os.pread(fds[0], post.size, 0)
        shm.close(*fds)
        return post, body

    def commit(self, name: str, *blocks: Block) -> Journal:
        """Append to a pipeline's journal, as its worker does."""
        if name not in self.journals:
            self.journals[name] = Journal(self.store / "journals" / name, 64 << 20)
        self.journals[name].commit(blocks)
        shm.add(self.commits, 1)
        return self.journals[name]

    def counter(self, name: str) -> int:
        """Return one of link's counters, 0 while there is none."""
        return self.board.slot(2).read().get(name, 0)

    def kill(self) -> None:
        """End `link` as a crash does."""
        assert self.process is not None
        assert self.control is not None
        self.process.kill()
        self.process.wait()
        self.http.close()
        self.control.close()
        self.process = None

    def stop(self) -> int:
        """Ask `link` to end; return its exit code."""
        assert self.process is not None
        assert self.control is not None
        self.control.send(messages.Stop())
        code = self.process.wait(10)
        self.http.close()
        self.control.close()
        self.process = None
        return code

    def close(self) -> None:
        """Let go of everything."""
        if self.process is not None:
            self.kill()
        for journal in self.journals.values():
            journal.close()
        self.io_sock.close()
        self.link_sock.close()
        shm.close(self.board_fd, self.commits)
