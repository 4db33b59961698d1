"""Bundles taken in, with trials that misbehave and a disk that refuses."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeflow_agent.control.offers import Offers, Trial
from edgeflow_agent.core.background import Background
from edgeflow_agent.core.reactor import Reactor
from edgeflow_agent.store.state import State
from edgeflow_proto.bundle import MANIFEST_FILE

BEARING = Path(__file__).parents[3] / "examples" / "bearing"
NAME = "bearing-watch"
FORKS = """
import multiprocessing, time
left = multiprocessing.get_context("fork").Process(target=time.sleep, args=(8,))
left.start()
"""


class House:
    def __init__(self, store: Path) -> None:
        self.loop, self.store = Reactor(), store
        self.state = State(store / "state")
        self.offers = Offers(self.loop, Background(self.loop), self.state, store, {})
        self.offers.clean()
        self.outcomes: list[tuple[str, str]] = []

    def offer(self, code: str = "") -> tuple[str, str]:
        """Offer the example with more Python; return digest and words."""
        before = len(self.outcomes)
        self.put(code)
        self.until(lambda: len(self.outcomes) > before)
        return self.outcomes[-1]

    def put(self, code: str = "") -> None:
        staging = self.offers.stage(NAME)
        shutil.copytree(BEARING, staging, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        with (staging / "features.py").open("a") as file:
            file.write(code)
        self.offers.offer(Trial(NAME, "http", staging, "", 0, lambda *words: self.outcomes.append(words)))

    def until(self, condition: Callable[[], bool], seconds: float = 6.0) -> None:
        deadline = time.monotonic() + seconds

        def turn() -> None:
            self.offers.turn()
            if condition() or time.monotonic() > deadline:
                self.loop.stop()

        self.loop.run(turn, 0.05)
        assert condition()

    @property
    def bundles(self) -> list[str]:
        return sorted(os.listdir(self.store / "bundles"))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.state.close()


@contextmanager
def full_disk() -> Iterator[None]:
    """Let every write to a file fail, as it does where there is no room."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_process_that_a_bundle_leaves_behind_does_not_hold_up_its_trial(house: House) -> None:
    digest, _ = house.offer(FORKS)
    assert house.bundles == [digest]
    other, _ = house.offer("\n# another\n")
    assert house.bundles == sorted([digest, other])


def test_a_replaced_bundle_goes_once_nothing_runs_it(house: House) -> None:
    old, _ = house.offer()
    new, _ = house.offer("\n# newer\n")
    house.offers.tidy({old, new})
    assert house.bundles == sorted([old, new])
    house.offers.tidy({new})
    assert house.bundles == [new]


@pytest.mark.parametrize("harm", ["changed", "cut off", "gone", "no manifest"])
def test_a_stored_bundle_that_is_damaged_is_put_right_when_it_is_deployed_again(
    house: House, harm: str
) -> None:
    digest, _ = house.offer()
    folder = house.offers.folder(digest)
    whole = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    damaged = folder / (MANIFEST_FILE if harm == "no manifest" else "features.py")
    if harm in ("gone", "no manifest"):
        damaged.unlink()
    else:
        damaged.write_bytes(b"x" * (len(whole[damaged]) if harm == "changed" else 1))
    with (folder / "pipeline.yaml").open("rb") as held:
        assert house.offer() == (digest, "")
        assert held.read() == whole[folder / "pipeline.yaml"]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == whole
    assert not list((house.store / "staging").iterdir())


def test_whoever_has_a_damaged_file_open_keeps_it_while_another_takes_its_place(house: House) -> None:
    digest, _ = house.offer()
    path = house.offers.folder(digest) / "features.py"
    path.write_bytes(b"damaged")
    with path.open("rb") as held:
        house.offer()
        assert held.read() == b"damaged"
    assert path.read_bytes() == (BEARING / "features.py").read_bytes()


def test_the_loop_goes_on_while_a_bundle_is_made_durable(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, enough, fsync = threading.Event(), threading.Event(), os.fsync

    def slow(fd: int) -> None:
        if "/staging/" in os.readlink(f"/proc/self/fd/{fd}"):
            begun.set()
            assert enough.wait(30)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", slow)
    house.put()
    house.until(begun.is_set, 30)
    for _ in range(3):
        house.offers.turn()
    assert house.outcomes == []
    enough.set()
    house.until(lambda: len(house.outcomes) > 0, 30)
    assert house.bundles == [house.outcomes[0][0]]


def test_a_disk_that_refuses_to_remember_refuses_the_bundle(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy = house.state.deploy

    def refused(*what: object) -> None:
        with full_disk():
            deploy(*what)  # type: ignore[arg-type]

    monkeypatch.setattr(house.state, "deploy", refused)
    digest, words = house.offer()
    assert (digest, "cannot be stored" in words) == ("", True)
    assert not house.offers.deployments


def test_what_nobody_wants_stops_on_a_full_disk_too_and_is_forgotten_later(house: House) -> None:
    house.offer()
    with full_disk():
        house.offers.withdraw(NAME, "http")
        assert house.offers.changed == [NAME, NAME]
        house.offers.turn()
    assert house.offers.deployments == {}
    assert NAME in house.state.deployments()
    house.until(lambda: house.state.deployments() == {}, 7)


def test_a_trial_that_cannot_be_started_is_a_refusal(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise BlockingIOError("no memory for a process")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", no_memory)
        assert house.offer() == ("", "cannot be tried: no memory for a process")
    assert house.offer()[0]


def test_what_a_trial_prints_is_logged_of_its_pipeline(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "edgeflow.trial"):
        digest, _ = house.offer('print("at import")\nimport sys; sys.stderr.write("no end")\n')
    assert digest
    said = [(record.getMessage(), record.__dict__["pipeline"]) for record in caplog.records]
    assert said == [("at import", NAME), ("no end", NAME)]
