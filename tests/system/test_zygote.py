"""Processes that are forked: born in no time, children of `agentd` all the same, and none of the zygote's."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.device import Device
from tests.support.processes import alive, children_of, eventually, kill

pytestmark = pytest.mark.system

PIPELINE = """
edgeflow: 1
name: one
inputs:
  level: {http: {}, fields: [x]}
steps:
  high: {from: level, filter: x > 1}
outputs:
  all: {from: high, event: {type: level.high, flush: now}}
"""


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path, hang="3s")
    folder = device.pipelines / "one"
    folder.mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(PIPELINE)
    try:
        device.start()
        eventually(device.workers, "a worker is there")
        eventually(lambda: device.pipeline("one")["state"] == "running", "the pipeline runs")
        yield device
    finally:
        device.close()


def decides(device: Device, count: int) -> bool:
    """Post a row; say whether there are that many events by now."""
    device.request("POST", "/api/v1/pipelines/one/inputs/level", b'{"x": 2}', "application/json")
    return len(device.json("/api/v1/events?pipeline=one")["events"]) >= count


def dies(device: Device, pid: int, title: str) -> int:
    """Kill a child; return the one that comes in its place."""
    kill(pid)

    def others() -> list[int]:
        return [child for child in children_of(device.pid, title) if child != pid]

    return eventually(others, f"{title} is there again")[0]


def test_what_is_forked_is_a_child_of_agentd_and_says_what_it_is(device: Device) -> None:
    (worker,) = device.workers()
    assert psutil.Process(worker).ppid() == device.pid
    assert psutil.Process(device.child("io")).ppid() == device.pid
    assert psutil.Process(worker).cmdline()[0] == "edgeflow worker one"


def test_a_zygote_has_nothing_that_what_it_forks_should_not_have(device: Device) -> None:
    zygote = psutil.Process(device.child("zygote"))
    assert zygote.num_threads() == 1  # others would not be there in what it forks, their locks would
    assert zygote.num_fds() == 5  # standard streams, the way to agentd, and what it beats on


def test_a_zygote_that_is_killed_harms_nobody_and_forks_again(device: Device) -> None:
    others = {device.child("io"), device.child("link"), *device.workers()}
    dies(device, device.child("zygote"), "edgeflow zygote")
    assert {device.child("io"), device.child("link"), *device.workers()} == others
    eventually(lambda: decides(device, 1), "the pipeline decides")
    worker = dies(device, device.workers()[0], "edgeflow worker")
    assert psutil.Process(worker).ppid() == device.pid
    eventually(lambda: decides(device, 2), "the pipeline decides again")


def test_a_zygote_that_stands_still_is_replaced_and_a_worker_comes_from_the_next_one(device: Device) -> None:
    zygote, (worker,) = device.child("zygote"), device.workers()
    os.kill(zygote, signal.SIGSTOP)
    dies(device, worker, "edgeflow worker")
    assert not alive(zygote)
    assert device.workers() == eventually(device.workers, "a worker")
    eventually(lambda: decides(device, 1), "the pipeline decides again")
    assert len(device.workers()) == 1


def test_a_zygote_that_stands_still_does_not_keep_the_agent_from_stopping(device: Device) -> None:
    os.kill(device.child("zygote"), signal.SIGSTOP)
    kill(device.workers()[0])
    assert device.stop() == 0


def test_workers_and_zygotes_that_die_again_and_again_leave_nothing_behind(device: Device) -> None:
    for turn in range(10):
        if turn % 3 == 0:
            kill(device.child("zygote"))
        dies(device, device.workers()[0], "edgeflow worker")
        eventually(lambda: decides(device, turn + 1), "the pipeline decides again")  # noqa: B023
    children = psutil.Process(device.pid).children()
    assert sorted(psutil.Process(child.pid).status() for child in children).count(psutil.STATUS_ZOMBIE) == 0
    assert len(children) == 4


def test_what_was_forked_dies_with_agentd(device: Device) -> None:
    children = device.kill_agentd()
    assert len(children) == 4
    eventually(lambda: not any(alive(pid) for pid in children), "all are gone")
