"""The relay's wishes against an `agentd` and a stager played by the test."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from edgeflow_agent.core.messages import Offer, Offered, PipelineStatus, Withdraw
from edgeflow_agent.uplink import patience
from edgeflow_agent.uplink import wishes as module
from edgeflow_agent.uplink.memory import Memory
from edgeflow_agent.uplink.ports import Lost, Stream
from edgeflow_agent.uplink.wishes import Wishes
from edgeflow_proto.bundle import Manifest, make_manifest
from edgeflow_proto.v1.relay_pb2 import Desired, DesiredState

STREAM = cast("Stream", object())


def wish(name: str, text: bytes = b"x") -> Desired:
    manifest = make_manifest(name, {"pipeline.yaml": text}, {})
    return Desired(name=name, digest=manifest.digest, manifest=manifest.encode())


def running(name: str, digest: str, origin: str = "relay") -> PipelineStatus:
    return PipelineStatus(name, digest, origin, "running", "", -1, "", "", 0, 0)


@dataclass
class World:
    folder: Path
    failures: list[Exception] = field(default_factory=list)
    staged: list[str] = field(default_factory=list)
    told: list[Offer | Withdraw] = field(default_factory=list)
    deaf: bool = False
    slow: bool = False  # bundles do not come
    dropped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.memory = Memory(self.folder / "link")
        self.wishes = Wishes(self.memory, self, self.tell)

    async def stage(self, manifest: bytes, files: Manifest, source: Stream) -> Path:
        if self.failures:
            raise self.failures.pop(0)
        while self.slow:
            await self._come(files.name)
        self.staged.append(files.name)
        path = self.folder / f"staged-{files.name}-{len(self.staged)}"
        path.mkdir()
        return path

    async def _come(self, name: str) -> None:
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.dropped.append(name)
            raise

    def prune(self, keep: set[str]) -> None:
        assert keep == set()

    def tell(self, message: Offer | Withdraw) -> bool:
        if not self.deaf:
            self.told.append(message)
        return not self.deaf

    @property
    def states(self) -> dict[str, str]:
        return {name: outcome.state for name, outcome in self.wishes.outcomes.items()}

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - what it waits for rings no bell
                await asyncio.sleep(0.001)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(module, "RETRY_S", (0.001, 0.01))
    monkeypatch.setattr(patience, "SPOILED_S", (0.001, 0.01))
    return World(tmp_path)


def play(world: World, part: Callable[[], Awaitable[None]]) -> None:
    async def scene() -> None:
        work = asyncio.ensure_future(world.wishes.run(STREAM))
        try:
            await part()
            assert not work.done()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    asyncio.run(scene())
    world.memory.close()


def test_a_wish_is_fetched_offered_and_reported_active(world: World) -> None:
    a = wish("a")

    async def part() -> None:
        world.wishes.desire(DesiredState(revision=3, pipelines=[a]))
        await asyncio.sleep(0.01)
        assert world.told == []  # before agentd has said what runs, nothing is offered
        world.wishes.pipelines({})
        await world.until(lambda: world.told)
        assert world.states == {"a": "verified"}
        world.wishes.answered(Offered("a", a.digest, "relay", "active", "", 3))
        await world.until(lambda: world.memory.revision == 3)
        world.wishes.pipelines({"a": running("a", a.digest)})
        await asyncio.sleep(0.01)

    play(world, part)
    assert [type(message) for message in world.told] == [Offer]
    assert world.states == {"a": "active"}


def test_what_runs_already_is_not_fetched(world: World) -> None:
    a = wish("a")

    async def part() -> None:
        world.wishes.pipelines({"a": running("a", a.digest)})
        world.wishes.desire(DesiredState(revision=4, pipelines=[a]))
        await world.until(lambda: world.memory.revision == 4)

    play(world, part)
    assert (world.staged, world.told, world.states) == ([], [], {"a": "active"})


def test_the_same_bundle_from_another_origin_is_offered_in_the_relays_name(world: World) -> None:
    a = wish("a")

    async def part() -> None:
        world.wishes.pipelines({"a": running("a", a.digest, "folder")})
        world.wishes.desire(DesiredState(revision=1, pipelines=[a]))
        await world.until(lambda: world.told)

    play(world, part)
    assert world.told[0].origin == "relay"


def test_what_is_wished_again_is_said_to_be_active_again_with_its_warnings(world: World) -> None:
    a = wish("a")

    async def part() -> None:
        world.wishes.pipelines({})
        world.wishes.desire(DesiredState(revision=1, pipelines=[a]))
        await world.until(lambda: world.told)
        world.wishes.answered(Offered("a", a.digest, "relay", "active", "it may not work", 1))
        await world.until(lambda: world.memory.revision == 1)
        world.wishes.desire(DesiredState(revision=2, pipelines=[a]))
        await world.until(lambda: world.memory.revision == 2)

    play(world, part)
    assert len(world.told) == 1
    outcome = world.wishes.outcomes["a"]
    assert (outcome.state, outcome.reason, outcome.revision) == ("active", "it may not work", 2)


def test_a_name_no_longer_wanted_is_withdrawn_but_only_the_relays(world: World) -> None:
    known = {"old": running("old", "d1"), "mine": running("mine", "d2", "folder")}

    async def part() -> None:
        world.wishes.pipelines(known)
        world.wishes.desire(DesiredState(revision=5))
        await world.until(lambda: world.told)
        world.wishes.answered(Offered("old", "", "relay", "removed", "", 5))
        await world.until(lambda: world.memory.revision == 5)
        world.wishes.pipelines(known)  # agentd's list may lag behind its answer
        await asyncio.sleep(0.01)

    play(world, part)
    assert world.told == [Withdraw("old", "relay", 5)]
    assert world.states == {"old": "removed"}


def test_a_withdrawal_does_not_wait_for_a_bundle_that_is_coming(world: World) -> None:
    bad, big = wish("bad"), wish("big")
    world.slow = True

    async def part() -> None:
        world.wishes.pipelines({"bad": running("bad", bad.digest)})
        world.wishes.desire(DesiredState(revision=1, pipelines=[bad, big]))
        await world.until(lambda: world.states.get("big") == "fetching")
        world.wishes.desire(DesiredState(revision=2, pipelines=[big]))
        assert world.told == [Withdraw("bad", "relay", 2)]
        await asyncio.sleep(0.01)
        assert world.dropped == []
        world.slow = False
        await world.until(lambda: len(world.told) == 2)

    play(world, part)
    offer = world.told[1]
    assert (offer.name, offer.revision) == ("big", 2)  # of the newest wish


def test_a_bundle_no_longer_wanted_is_not_waited_for(world: World) -> None:
    world.slow = True
    newer = wish("a", b"newer")

    async def part() -> None:
        world.wishes.pipelines({})
        world.wishes.desire(DesiredState(revision=1, pipelines=[wish("a")]))
        await world.until(lambda: world.states.get("a") == "fetching")
        world.wishes.desire(DesiredState(revision=2, pipelines=[newer]))
        await world.until(lambda: world.dropped == ["a"])
        world.slow = False
        await world.until(lambda: world.told)

    play(world, part)
    assert world.staged == ["a"]
    assert world.wishes.outcomes["a"].digest == newer.digest


def test_a_connection_that_ends_takes_the_bundle_that_is_coming_with_it(world: World) -> None:
    world.slow = True

    async def part() -> None:
        world.wishes.pipelines({})
        world.wishes.desire(DesiredState(revision=1, pipelines=[wish("a")]))
        await world.until(lambda: world.states.get("a") == "fetching")

    play(world, part)
    assert world.dropped == ["a"]


def test_a_refused_bundle_is_reported_and_not_tried_again_for_the_same_wish(world: World) -> None:
    a = wish("a")

    async def part() -> None:
        world.wishes.pipelines({})
        world.wishes.desire(DesiredState(revision=1, pipelines=[a]))
        await world.until(lambda: world.told)
        world.wishes.answered(Offered("a", "", "relay", "refused", "line 1: no", 1))
        await world.until(lambda: world.memory.revision == 1)
        world.wishes.desire(DesiredState(revision=1, pipelines=[a]))  # after a reconnect
        await asyncio.sleep(0.01)
        assert len(world.told) == 1
        world.wishes.desire(DesiredState(revision=2, pipelines=[a]))  # asked for again
        await world.until(lambda: len(world.told) == 2)

    play(world, part)
    assert world.wishes.outcomes["a"].revision == 2


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("another digest")])
def test_a_failing_fetch_is_reported_and_tried_again_while_others_go_on(
    world: World, error: Exception
) -> None:
    world.failures = [error, error]

    async def part() -> None:
        world.wishes.pipelines({})
        world.wishes.desire(DesiredState(revision=1, pipelines=[wish("a"), wish("b")]))
        await world.until(lambda: world.states.get("a") == "fetching" and world.wishes.outcomes["a"].reason)
        assert "tried again" in world.wishes.outcomes["a"].reason
        await world.until(lambda: len(world.told) == 2)

    play(world, part)
    assert {message.name for message in world.told} == {"a", "b"}


def test_a_bundle_that_comes_spoiled_is_left_alone_for_longer_each_time_unless_it_is_wished_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "SPOILED_S", (60.0, 21600.0))
    world.failures = [ValueError("another digest") for _ in range(20)]
    waits = []

    async def part() -> None:
        world.wishes.pipelines({})
        for revision in range(1, 12):
            world.wishes.desire(DesiredState(revision=revision, pipelines=[wish("a")]))
            await world.until(lambda: len(world.failures) == 20 - revision)  # noqa: B023
            await asyncio.sleep(0.03)  # and not again
            assert len(world.failures) == 20 - revision
            waits.append(world.wishes.outcomes["a"].reason)
        world.failures = []
        world.wishes.desire(DesiredState(revision=12, pipelines=[wish("a"), wish("b")]))
        await world.until(lambda: len(world.told) == 2)

    play(world, part)
    assert waits[:3] == [f"another digest; it is tried again in {minutes} min" for minutes in (1, 2, 4)]
    assert waits[-1] == "another digest; it is tried again in 360 min"


def test_a_bundle_that_waits_keeps_no_other_from_coming(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "SPOILED_S", (0.3, 1.0))
    world.failures = [ValueError("another digest")]

    async def part() -> None:
        world.wishes.pipelines({})
        world.wishes.desire(DesiredState(revision=1, pipelines=[wish("a"), wish("b")]))
        await world.until(lambda: world.told)
        assert world.staged == ["b"]
        await world.until(lambda: len(world.told) == 2)  # once it has waited

    play(world, part)
    assert world.staged == ["b", "a"]


@pytest.mark.parametrize("number", [errno.EFBIG, errno.EISDIR])
def test_what_no_other_try_changes_is_a_refusal(world: World, number: int) -> None:
    world.failures = [OSError(number, "it does not fit")]

    async def part() -> None:
        world.wishes.pipelines({})
        world.wishes.desire(DesiredState(revision=1, pipelines=[wish("a")]))
        await world.until(lambda: world.memory.revision == 1)

    play(world, part)
    assert (world.states, world.staged) == ({"a": "refused"}, [])
    assert world.wishes.outcomes["a"].reason == "it does not fit"


def test_an_agentd_that_takes_nothing_now_is_asked_again_and_no_staging_is_left(world: World) -> None:
    world.deaf = True

    async def part() -> None:
        world.wishes.pipelines({})
        world.wishes.desire(DesiredState(revision=1, pipelines=[wish("a")]))
        await world.until(lambda: len(world.staged) > 1)
        world.deaf = False
        await world.until(lambda: world.told)

    play(world, part)
    assert len(list(world.folder.glob("staged-*"))) == 1


def test_a_manifest_that_is_not_what_it_says_is_refused(world: World) -> None:
    forged, renamed = wish("a"), wish("b")
    forged.manifest = wish("a", b"other").manifest
    renamed.name = "c"

    async def part() -> None:
        world.wishes.pipelines({})
        world.wishes.desire(DesiredState(revision=1, pipelines=[forged, renamed]))
        await world.until(lambda: world.memory.revision == 1)

    play(world, part)
    assert world.states == {"a": "refused", "c": "refused"}
    assert world.staged == []


def test_an_older_wish_is_not_followed_and_said_to_be(world: World) -> None:
    async def part() -> None:
        world.wishes.pipelines({})
        world.wishes.desire(DesiredState(revision=9))
        await world.until(lambda: world.memory.revision == 9)
        world.wishes.desire(DesiredState(revision=8, pipelines=[wish("a")]))
        await asyncio.sleep(0.01)

    play(world, part)
    assert world.told == []
    assert "older than 9" in world.wishes.outcomes["a"].reason


def test_a_lost_connection_ends_the_work_and_the_next_one_takes_it_up(world: World) -> None:
    world.failures = [Lost("gone")]

    async def scene() -> None:
        world.wishes.pipelines({})
        world.wishes.desire(DesiredState(revision=1, pipelines=[wish("a")]))
        with pytest.raises(Lost):
            await world.wishes.run(STREAM)

    async def part() -> None:
        await world.until(lambda: world.told)

    asyncio.run(scene())
    play(world, part)


def test_an_answer_for_another_origin_is_none_of_the_relays(world: World) -> None:
    world.wishes.answered(Offered("a", "d", "http", "active", "", 0, 17))
    assert world.states == {}
    world.memory.close()
