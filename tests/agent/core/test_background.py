"""Jobs beside a loop."""

from __future__ import annotations

import threading

import pytest

from edgeflow_agent.core.background import Background
from edgeflow_agent.core.reactor import Reactor

Told = list[tuple[str, str]]


def run(loop: Reactor, told: Told, count: int) -> None:
    """Run the loop until so many jobs have been told of."""
    loop.run(lambda: len(told) < count or loop.stop(), 0.01)


def test_jobs_run_in_their_order_and_what_they_raise_is_told_in_the_loop() -> None:
    loop, told = Reactor(), Told()
    background, ran = Background(loop), list[tuple[str, bool]]()

    def work(name: str) -> None:
        ran.append((name, threading.current_thread() is threading.main_thread()))
        if name == "b":
            raise OSError("no disk")
        if name == "c":
            raise ValueError("whatever")

    for name in "abcd":
        background.run(
            lambda name=name: work(name),  # type: ignore[misc]
            lambda error, name=name: told.append((name, str(error or ""))),  # type: ignore[misc]
        )
    run(loop, told, 4)
    assert told == [("a", ""), ("b", "no disk"), ("c", "whatever"), ("d", "")]
    assert ran == [(name, False) for name in "abcd"]


def test_a_job_may_be_given_when_another_ends() -> None:
    loop, told = Reactor(), Told()
    background = Background(loop)

    def again(_: Exception | None) -> None:
        told.append(("first", ""))
        background.run(bool, lambda _: told.append(("second", "")))

    background.run(bool, again)
    run(loop, told, 2)
    assert told == [("first", ""), ("second", "")]


def test_where_no_thread_can_be_had_the_job_fails_and_the_next_one_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, told = Reactor(), Told()
    background = Background(loop)

    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        background.run(bool, lambda error: told.append(("a", str(error))))
    background.run(bool, lambda error: told.append(("b", str(error))))
    run(loop, told, 2)
    assert told == [("a", "can't start new thread"), ("b", "None")]
