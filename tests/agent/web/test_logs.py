"""``/api/v1/logs`` of a real `link` process; the test writes what `io` and a worker would."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgeflow_agent.core.logs import Line
from tests.agent.store.test_logs import Process
from tests.agent.web.harness import AgentdStandIn

pytestmark = pytest.mark.system
S = 10**9
WALL = 1_700_000_000 * S


def get(link: AgentdStandIn, **asked: str) -> dict[str, Any]:
    answer = link.http.get("/api/v1/logs", params=asked)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def said(found: dict[str, Any]) -> list[str]:
    return [line["message"] for line in found["lines"]]


def test_the_newest_lines_then_those_that_follow(link: AgentdStandIn) -> None:
    io, worker = (Process(link.store / "logs", name) for name in ("io", "worker-watch"))
    for t in range(10):
        io.say(f"io {t}", 2 * t, wall=WALL)
        worker.say(f"watch {t}", 2 * t + 1, wall=WALL, level="warning" if t % 2 else "info")
    first = get(link, limit="3")
    assert said(first) == ["watch 8", "io 9", "watch 9"]
    assert first["lines"][0].keys() == set(Line.__struct_fields__) - {"traceback", "suppressed"}
    assert {"io", "watch", "worker"} <= set(first["names"])
    assert said(get(link, name="watch", level="warning", limit="2")) == ["watch 7", "watch 9"]
    assert said(get(link, name="io", since="2023-11-14T22:13:20.00Z")) == [f"io {t}" for t in range(10)]
    assert said(get(link, name="io", since="2023-11-15T00:13:21+01:00")) == []
    io.say("new", 10 * S)
    assert said(get(link, after=first["next"], limit="5")) == ["new"]
    assert said(get(link, after="0", limit="2", name="io")) == ["io 0", "io 1"]


def test_what_cannot_be_asked_is_told(link: AgentdStandIn) -> None:
    for wrong, words in {
        "limit=0": "limit is 1", "level=loud": "level is one of", "after=x": "not a position",
        "since=noon": "Invalid isoformat", "since=2025-01-31": "without a zone",
        "lines=3": "unknown parameter",
        "since=0001-01-01T00:00:00%2B14:00": "",
    }.items():  # fmt: skip
        answer = link.http.get(f"/api/v1/logs?{wrong}")
        assert answer.status_code == (400 if words else 200)
        assert words in answer.text


def test_lines_are_streamed_as_they_are_written_and_after_a_break(link: AgentdStandIn) -> None:
    worker = Process(link.store / "logs", "worker-watch")
    worker.say("before", 1)
    headers = {"accept": "text/event-stream"}

    def take(count: int, **more: str) -> tuple[list[str], str]:
        heard, last = [], ""
        with link.http.stream("GET", "/api/v1/logs?name=watch", headers=headers | more) as stream:
            for line in stream.iter_lines():
                if line.startswith("retry:") and not more:
                    worker.say("first", 2)
                    worker.say("second", 3)
                if line.startswith("id: "):
                    last = line[4:]
                if line.startswith("data: "):
                    heard.append(json.loads(line[6:])["message"])
                    if len(heard) == count:
                        return heard, last
        raise AssertionError("the stream ended")

    heard, last = take(1)
    assert heard == ["first"]
    worker.say("third", 4)
    assert take(2, **{"last-event-id": last})[0] == ["second", "third"]
