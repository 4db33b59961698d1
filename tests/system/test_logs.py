"""A real agent's logs: what every process says and the author's code prints, as JSON lines in the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edgeflow_agent.core.logfile import pieces
from edgeflow_agent.core.logs import Line
from tests.support.device import Device
from tests.support.processes import eventually, kill

pytestmark = pytest.mark.system

TALK = """
edgeflow: 1
name: talk
inputs:
  host: {host: 100ms, fields: [cpu]}
steps:
  some: {from: host, python: {function: talk.some, shape: [1]}}
outputs:
  said: {from: host, log: {rate: 2 Hz}}
  all: {from: some, event: talk.all}
"""
CODE = """
import logging
print("imported")
def some(rows):
    print("a row of", len(rows))
    logging.getLogger("mine").error("no %s", "luck")
    return rows
"""


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path)
    yield device
    device.close()


def lines(device: Device) -> list[Line]:
    """Return every line; raises where one is not what it should be."""
    found = [each.path.read_bytes() for each in pieces(device.store / "logs")]
    return [msgspec.json.decode(line, type=Line) for data in found for line in data.splitlines()]


def test_all_that_is_said_and_printed_is_in_the_pipelines_log(lone: Device) -> None:
    folder = lone.pipelines / "talk"
    folder.mkdir()
    (folder / "pipeline.yaml").write_text(TALK)
    (folder / "talk.py").write_text(CODE)
    lone.start()
    eventually(lambda: lone.events("talk", "talk.all"), "it runs")
    kill(lone.workers()[0])
    wanted = {
        ("worker", "edgeflow.print", "info", "imported"), ("worker", "edgeflow.print", "info", "a row of 1"),
        ("worker", "mine", "error", "no luck"),
        ("agentd", "edgeflow.agentd", "warning", "talk: worker of talk was killed by SIGKILL"),
    }  # fmt: skip

    def said() -> bool:
        found = [line for line in lines(lone) if line.pipeline == "talk"]
        logged = {(line.process, line.logger, line.level, line.message) for line in found}
        rows = [line for line in found if (line.process, line.logger) == ("io", "edgeflow.log")]
        return wanted <= logged and bool(rows)

    eventually(said, "all of it is logged")
    assert lone.stop() == 0
    assert "edgeflow.print: imported" in lone.log  # for people it is on standard error as well
