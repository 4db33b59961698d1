"""What the agent keeps of this boot's clock. Readings are made up; the store is real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeflow_agent.control.timekeeper import Timekeeper
from edgeflow_agent.core import clock, spawn
from edgeflow_agent.core.channel import Channel
from edgeflow_agent.core.messages import Boots
from edgeflow_agent.store import state
from edgeflow_agent.store.state import State
from edgeflow_proto.timeline import DENIALS, MAX_SYNCS, Boot, Sync

S = 10**9
TODAY = 1_780_000_000 * S


class Kernel:
    """A clock that can be set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.boot, self.now, self.offset, self.error = "boot-1", 100 * S, 0, None
        monkeypatch.setattr(clock, "boot_id", lambda: self.boot)
        monkeypatch.setattr(clock, "boottime_ns", lambda: self.now)
        monkeypatch.setattr(clock, "wall_ns", lambda: self.now + self.offset)
        monkeypatch.setattr(clock, "error_ns", lambda: self.error)


Told = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def keeper(tmp_path: Path, told: Told) -> Callable[[], Timekeeper]:
    opened: list[State] = []

    def begin() -> Timekeeper:
        if opened:
            opened.pop().close()
        opened.append(State(tmp_path / "state"))
        return Timekeeper(opened[0], lambda name, _, data: told.append((name, data)))

    return begin


def look(keeper: Timekeeper, kernel: Kernel, seconds: float = 2) -> None:
    kernel.now += int(seconds * S)
    keeper.turn()


def test_the_kernels_flag_is_followed_and_told_once(
    kernel: Kernel, keeper: Callable[[], Timekeeper], told: Told
) -> None:
    keep = keeper()
    look(keep, kernel)
    assert (keep.boots, told) == ((Boot("boot-1", 0, 100 * S),), [])
    kernel.offset, kernel.error = TODAY, 7_000_000
    for _ in range(10):
        look(keep, kernel)
    (boot,) = keep.boots
    assert boot.syncs == (Sync(104 * S, TODAY, 7_000_000, "synchronised"),)
    assert [name for name, _ in told] == ["clock.stepped", "clock.known"]
    assert told[0][1] == {"seconds": TODAY / S, "quality": "synchronised"}


def test_a_step_of_ten_years_is_told_and_changes_no_reading(
    kernel: Kernel, keeper: Callable[[], Timekeeper], told: Told
) -> None:
    kernel.offset, kernel.error = TODAY, 1_000_000
    keep = keeper()
    look(keep, kernel)
    kernel.offset, kernel.error = TODAY - 315_360_000 * S, None  # setting the clock clears the flag
    look(keep, kernel)
    dated = clock.now()
    assert (dated.quality, keep.boots[0].syncs) == (
        "unsynchronised",
        (Sync(102 * S, TODAY, 1_000_000, "synchronised"),),
    )
    assert told[-1] == ("clock.stepped", {"seconds": -315_360_000.0, "quality": "unsynchronised"})


def test_a_new_boot_begins_no_earlier_than_the_last_one_ended(
    kernel: Kernel, keeper: Callable[[], Timekeeper]
) -> None:
    kernel.offset, kernel.error = TODAY, 0
    keep = keeper()
    look(keep, kernel)
    look(keep, kernel, 60)
    keep.live()
    kernel.boot, kernel.now, kernel.offset, kernel.error = "boot-2", 3 * S, 0, None
    second = keeper()
    assert [boot.id for boot in second.boots] == ["boot-1", "boot-2"]
    assert TODAY + 161 * S < second.boots[1].floor_ns <= TODAY + 162 * S
    kernel.boot, kernel.now = "boot-3", S
    third = keeper()
    assert third.boots[2].floor_ns == second.boots[1].floor_ns + 3 * S


def test_the_same_boot_is_taken_up_again(kernel: Kernel, keeper: Callable[[], Timekeeper]) -> None:
    kernel.offset, kernel.error = TODAY, 0
    keep = keeper()
    look(keep, kernel)
    again = keeper()
    assert again.boots[0].syncs == keep.boots[0].syncs
    assert len(again.boots) == 1


def test_the_oldest_boots_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MAX_BOOTS", 3)
    store = State(tmp_path / "state")
    for number in range(5):
        store.keep_boot(Boot(f"boot-{number}"))
        store.keep_boot(Boot(f"boot-{number}", seen_ns=number))
    assert store.boots() == [Boot(f"boot-{number}", seen_ns=number) for number in (2, 3, 4)]


def test_all_boots_are_told_in_messages_that_fit(
    tmp_path: Path, kernel: Kernel, keeper: Callable[[], Timekeeper]
) -> None:
    store, days = State(tmp_path / "state"), state.MAX_BOOTS + 10
    syncs = tuple(Sync(2**62 - hour, 2**62, 2**62, "synchronised") for hour in range(MAX_SYNCS))
    for day in range(days):
        store.keep_boot(Boot(f"{day:036}", 2**62, 2**62, syncs, DENIALS, 2**62))
    store.close()
    keep, ours, theirs = keeper(), *spawn.pair()
    sender, receiver = Channel(ours, Boots), Channel(theirs, Boots)
    found = list[Boot]()
    while True:
        keep.tell(sender.send)
        heard = receiver.receive()
        if heard is None:
            break
        message = heard[0]
        assert isinstance(message, Boots)
        assert (message.place, message.count) == (len(found), len(keep.boots))
        found += message.boots
    sender.close()
    receiver.close()
    assert found == list(keep.boots)
    assert [boot.id for boot in found[:-1]] == [f"{day:036}" for day in range(10, days)]
    keep.changed = True
    again = list[Boots]()
    keep.tell(lambda message: again.append(message) is None)
    assert [boot for message in again for boot in message.boots] == found


def test_the_kernel_here_can_be_asked() -> None:
    reading = clock.now()
    assert (reading.uncertainty_ns is None) == (reading.quality == "unsynchronised")
