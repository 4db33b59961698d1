"""`link`: the device's ways out: the stream to the relay, and the local HTTP endpoint.

It writes no journal and touches no sensor, so it may die and come back without a pipeline noticing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import socket
from pathlib import Path

import msgspec
from setproctitle import setproctitle

from edgeflow_agent import config
from edgeflow_agent.core import clock, footprint, logs, messages, shm
from edgeflow_agent.core.bell import Bell
from edgeflow_agent.core.board import Board
from edgeflow_agent.core.channel import Channel, Closed
from edgeflow_agent.core.spawn import inherited
from edgeflow_agent.deploy.fetch import Fetcher
from edgeflow_agent.store.readers import Journals
from edgeflow_agent.store.recording import Recordings
from edgeflow_agent.uplink import outgoing
from edgeflow_agent.uplink.client import Parts, State, Uplink
from edgeflow_agent.uplink.host import Probe
from edgeflow_agent.uplink.memory import Memory
from edgeflow_agent.uplink.ports import Stream
from edgeflow_agent.uplink.wishes import Wishes
from edgeflow_agent.web import status
from edgeflow_agent.web.app import make_app
from edgeflow_agent.web.local import Local
from edgeflow_agent.web.offers import Offers
from edgeflow_agent.web.posts import Posts
from edgeflow_agent.web.room import Room
from edgeflow_agent.web.server import Server, bind, make_server
from edgeflow_agent.web.taps import Taps
from edgeflow_proto.timeline import Boot, Sync, Timeline
from edgeflow_proto.v1.device_pb2 import DeviceMessage

log = logging.getLogger("edgeflow.link")
BEAT_S = 0.5
LOOK_S = 1.0
PAUSE_S = 0.1  # between two segments that are looked at ahead of being asked
TOLD_S = (
    60.0  # between two words on a segment that is damaged: its writer may have had it when the first came
)
SAVE_S = 2.0
REBIND_S = 2.0
DRAIN_S = 1.5  # for what the workers wrote last
CLOSE_S = 1.3  # for answers under way
RUN_FILE = "link.json"


class Link:
    """All of it, put together."""

    def __init__(self, control: Channel, start: messages.StartLink, fds: list[int]) -> None:
        board_fd, self._commits_fd, posts_fd = fds
        self._control = control
        self._settings = config.read(Path(start.settings) if start.settings else None)
        self._store = Path(start.store)
        self._board = Board(board_fd)
        self._slot = self._board.slot(start.slot)
        self._commits, self._wake, self._stop = Bell(), Bell(), asyncio.Event()
        self._journals = Journals(self._store / "journals")
        self._recordings = Recordings(self._store / "recordings")
        self._memory = Memory(self._store / "link")
        self._probe = Probe(self._store)
        self._relay = State(self._settings.relay or "")
        self._room = Room(self._control.send)
        self._wishes = Wishes(self._memory, Fetcher(self._store, self._room.claim), self._control.send)
        self._boots: list[Boot] = []
        self._uplink = Uplink(self._parts())
        self._local = self._make_local(socket.socket(fileno=posts_fd))
        self._server: Server | None = None
        self._damaged: dict[tuple[str, str, str], float] = {}  # segments, and when `agentd` was told of each

    def _parts(self) -> Parts:
        return Parts(
            self._settings, self._dial, self._journals, self._memory, self._wishes, self._slot, self._wake,
            self._heartbeat, self._relay, self._relay_time,
        )  # fmt: skip

    def _make_local(self, posts: socket.socket) -> Local:
        return Local(
            self._settings, self._board, self._slot, self._journals, self._recordings, self._commits,
            self._relay, lambda: msgspec.to_builtins(self._probe.read()), self._refresh,
            Offers(self._control.send), self._room, Posts(posts), Taps(self._control.send),
        )  # fmt: skip

    def _dial(self) -> Stream:
        from edgeflow_agent.uplink.channel import (
            GrpcStream,
        )  # its memory is spent only where there is a relay

        return GrpcStream(self._relay.address)

    def _heartbeat(self, backlog: int) -> DeviceMessage:
        known = self._local.pipelines.values()
        return outgoing.heartbeat(self._board, known, self._probe.read(), backlog, self._journals.timeline)

    def _relay_time(self, sync: Sync) -> None:
        """Date what is uploaded by the relay's clock at once; `agentd` remembers it."""
        self._journals.timeline = self._journals.timeline.learnt(clock.boot_id(), sync)
        self._control.send(messages.RelayTime(sync))

    # running

    async def run(self) -> None:
        """Run until `agentd` says stop or is gone."""
        self._clean()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._control.fileno(), self._hear)
        loop.add_reader(self._commits_fd, self._committed)
        self._local.posts.listen()
        self._journals.refresh()
        loop.call_later(footprint.SETTLED_S, footprint.trim)
        serving = loop.create_task(self._serve())
        works = (self._beat(), self._look_round(), self._look_ahead())
        tasks = [serving, *(loop.create_task(work) for work in works)]
        if self._relay.address:
            tasks.append(loop.create_task(self._uplink.run()))
        stop = loop.create_task(self._stop.wait())
        ended, _ = await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
        await self._drain()
        await self._end(serving, tasks)
        for task in ended - {stop}:
            task.result()  # raises what no part of it expected

    def _clean(self) -> None:
        """Remove what an earlier process was putting together when it died."""
        for left in (self._store / "staging").glob(".*"):
            shutil.rmtree(left, ignore_errors=True)

    async def _drain(self) -> None:
        """Give what the workers wrote last the time to reach a relay that is there."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                self._uplink.measure()
                while self._relay.connected and self._relay.backlog and not self._relay.conflicts:
                    await self._commits.wait(0.1)
                    self._uplink.measure()

    async def _end(self, serving: asyncio.Task[None], tasks: list[asyncio.Task[None]]) -> None:
        self._local.stopping = True
        self._commits.ring()
        self._local.tick.ring()
        if self._server is not None:
            self._server.should_exit = True
            await asyncio.wait([serving], timeout=CLOSE_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._memory.save()
        self._memory.close()
        self._journals.close()
        self._recordings.close()
        with contextlib.suppress(OSError):
            (self._store / "run" / RUN_FILE).unlink()

    async def _beat(self) -> None:
        while True:
            self._slot.beat()
            await asyncio.sleep(BEAT_S)

    async def _look_round(self) -> None:
        """See to what nothing tells of: journals that come and go, figures, what is to be remembered."""
        loop = asyncio.get_running_loop()
        saved = loop.time()
        while True:
            self._refresh()
            self._uplink.measure()
            status.look(self._local)
            if loop.time() - saved >= SAVE_S:
                await self._memory.save()
                saved = loop.time()
            await asyncio.sleep(LOOK_S)

    async def _look_ahead(self) -> None:
        """Look at segments before anybody asks for what is in them; requests come in between."""
        while True:
            more = self._journals.look_ahead()
            await asyncio.sleep(PAUSE_S if more else LOOK_S)

    async def _serve(self) -> None:
        """Serve the endpoint; while its port is taken, try again, and let the rest run on."""
        http = self._settings.http
        while True:
            try:
                sock = bind(http.host, http.port)
                break
            except OSError as error:
                log.error("http %s:%d: %s; trying again", http.host, http.port, error)
                await asyncio.sleep(REBIND_S)
        self._server = make_server(make_app(self._local, self._store / "staging"))
        self._write_run_file(sock.getsockname()[1])
        await self._server.serve(sockets=[sock])

    def _write_run_file(self, port: int) -> None:
        """Tell others where the endpoint is; a full disk must not keep it from serving."""
        target = self._store / "run" / RUN_FILE
        temporary = target.with_suffix(".tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps({"http": port, "pid": os.getpid()}))
            temporary.rename(target)
        except OSError as error:
            log.error("%s: %s", target, error)

    # what is heard

    def _committed(self) -> None:
        shm.take(self._commits_fd)
        self._grown()

    def _refresh(self) -> None:
        self._recordings.refresh()
        if self._journals.refresh():
            self._grown()
        found = [("journals", known.pipeline, each) for known in self._journals for each in known.damaged]
        found += [("recordings", *each) for each in self._recordings.damaged()]
        now = asyncio.get_running_loop().time()
        for each in found:
            due = now - self._damaged.get(each, -TOLD_S) >= TOLD_S
            if due and self._control.send(messages.Damaged(*each)):
                self._damaged[each] = now

    def _grown(self) -> None:
        self._commits.ring()
        self._wake.ring()

    def _hear(self) -> None:
        try:
            while (received := self._control.receive()) is not None:
                self._take(*received)
        except msgspec.MsgspecError as error:
            log.error("agentd sent what is no message: %s", error)
        except Closed:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._stop.set()

    def _take(self, message: object, fds: list[int]) -> None:
        if isinstance(message, messages.Pipelines):
            self._local.pipelines = {known.name: known for known in message.pipelines}
            self._local.brokers = message.brokers
            self._local.heard = True
            self._refresh()
            self._local.tick.ring()
            self._wishes.pipelines(self._local.pipelines)
        elif isinstance(message, messages.Boots):
            self._learn(message)
        elif isinstance(message, messages.Offered):
            self._local.offers.answered(message)
            self._wishes.answered(message)
        elif isinstance(message, messages.Claimed):
            self._room.answered(message)
        elif isinstance(message, messages.Listening):
            self._local.taps.answered(message, fds)
        elif isinstance(message, messages.Stop):
            self._stop.set()

    def _learn(self, message: messages.Boots) -> None:
        """Take what is known of the clock once all of it has come; what comes anew begins with the oldest."""
        self._boots = [*self._boots[: message.place], *message.boots]
        if len(self._boots) == message.count:
            self._journals.timeline = Timeline(self._boots)


def main() -> int:
    """Run the link that `agentd` started; returns its exit code."""
    control = Channel(inherited(), messages.ToLink)
    setproctitle("edgeflow link")
    message, fds = control.wait()
    if not isinstance(message, messages.StartLink):
        return 2
    logs.keep(message.logs, "link", Board(fds[0]).slot(message.slot))
    asyncio.run(_run(control, message, fds))
    return 0


async def _run(control: Channel, start: messages.StartLink, fds: list[int]) -> None:
    await Link(control, start, fds).run()


if __name__ == "__main__":
    logs.begin()
    raise SystemExit(main())
