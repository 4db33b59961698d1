"""Whose hello it is, by the boots that were seen."""

from __future__ import annotations

import pytest

from edgeflow_relay.boots import FORMER, RIVAL_S, Boots

DEVICE = "press"


class Scene(Boots):
    """Boots with a clock that the test moves on."""

    def __init__(self) -> None:
        self.t = 1000.0
        super().__init__(10.0, lambda: self.t)

    def hello(self, boot: str, *connected: str) -> float:
        """Return what keeps a boot out; where nothing does, it is let in."""
        seconds = self.rival(DEVICE, boot, connected)
        if not seconds:
            self.admit(DEVICE, boot)
        return seconds


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    assert scene.hello("a") == 0
    return scene


def test_a_device_that_connects_anew_is_no_rival(scene: Scene) -> None:
    assert scene.hello("a", "a") == 0
    assert scene.rival("another", "b", ["a"]) == 0


def test_another_boot_is_a_rival_for_as_long_as_the_first_is_heard(scene: Scene) -> None:
    scene.t += 4
    assert scene.hello("b", "a") == 6
    assert scene.heard(DEVICE, "a")  # now it is certain
    assert not scene.heard(DEVICE, "a")
    scene.t += 9
    assert scene.hello("b", "a") == 1


def test_a_device_that_was_rebooted_gets_in_when_its_former_stream_is_silent_or_closed(scene: Scene) -> None:
    scene.t += 10
    assert scene.hello("b", "a") == 0
    assert not scene.heard(DEVICE, "a")
    assert not scene.heard(DEVICE, "b")
    assert scene.hello("c") == 0


def test_a_boot_that_comes_back_after_another_is_a_rival_until_that_is_gone(scene: Scene) -> None:
    assert scene.hello("b") == 0
    for connected in ("b", ""):
        assert scene.hello("a", connected) == RIVAL_S
    scene.t += RIVAL_S - 1
    assert scene.heard(DEVICE, "b") is False
    scene.t += RIVAL_S - 1
    assert scene.hello("a") == RIVAL_S
    scene.t += 1
    assert scene.rival(DEVICE, "a", ()) == 0
    assert scene.admit(DEVICE, "a") is True
    assert scene.hello("b", "a") == RIVAL_S


def test_who_names_no_boot_is_not_judged(scene: Scene) -> None:
    assert scene.hello("", "a") == 0
    assert not scene.heard(DEVICE, "")
    assert scene.hello("b", "a") == 10


def test_a_bounded_number_of_boots_is_remembered(scene: Scene) -> None:
    for number in range(FORMER + 1):
        assert scene.hello(f"boot-{number}") == 0
    assert scene.hello("boot-0") == RIVAL_S
    assert scene.hello("a") == 0
