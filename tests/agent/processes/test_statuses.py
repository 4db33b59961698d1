"""What `agentd` tells `link` when there is much to tell."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgeflow_agent.control.supervisor import Child
from edgeflow_agent.core import messages, spawn
from edgeflow_agent.core.channel import Channel
from edgeflow_agent.processes.agentd import Agent

TRACE = "ValueError: no\n" + "x" * 1180


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = spawn.pair()
    with left, right:
        yield left, right


def status(name: str) -> messages.PipelineStatus:
    return messages.PipelineStatus(
        name, "d" * 64, "folder", "running", "", 3, f"/var/lib/edgeflow/bundles/{'d' * 64}",
        f"/var/lib/edgeflow/journals/{name}", 0, 1, {"steps.a": TRACE, "steps.b": TRACE}, ("w" * 1000,) * 3,
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, 40, 125, 400])
def test_link_hears_of_all_pipelines_however_many_are_in_trouble(
    ends: tuple[socket.socket, socket.socket], count: int
) -> None:
    agent, sent = cast("Any", Agent.__new__(Agent)), tuple(status(f"pipeline-{n}") for n in range(count))
    link = cast("Any", Child.__new__(Child))
    link.channel = Channel(ends[0], messages.FromLink)
    agent._link, agent._brokers, agent._statuses = link, {}, lambda: sent
    agent._pipelines = SimpleNamespace(changed=True)
    assert agent._tell_link()
    received = Channel(ends[1], messages.ToLink).receive()
    assert received is not None
    heard = cast("messages.Pipelines", received[0])
    assert [known.name for known in heard.pipelines] == [known.name for known in sent]
    assert heard.pipelines == sent or count > 1
