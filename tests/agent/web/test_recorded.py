"""Recorded rows, asked of the device that holds them: behind an event, and of a pipeline."""

from __future__ import annotations

import io
import shutil
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from edgeflow_agent.store.journal import Journal
from edgeflow_agent.store.readers import Journals
from edgeflow_agent.store.recording import Recording, Recordings
from edgeflow_agent.web import traces
from edgeflow_proto.bundle import MANIFEST_FILE, PIPELINE_FILE, make_manifest
from edgeflow_proto.event import wall_time
from edgeflow_proto.rows import CONTENT_TYPE, Rows, sequence
from tests.agent.web.harness import AgentdStandIn, pipeline
from tests.proto.test_recorded import BASE, rows
from tests.support.processes import eventually
from tests.support.traced import decided, told

pytestmark = pytest.mark.system
SECOND = 10**9


@pytest.fixture
def recording(link: AgentdStandIn) -> Iterator[Recording]:
    """What `watch` recorded: three seconds of rows, one block each, the second with the steps' state."""
    recording = Recording(link.store / "recordings" / "watch", 64 << 20)
    for second in range(3):
        first = 500 * second
        block = rows(first, [(i, -i, 0.5) for i in range(first, first + 500)])
        more: dict[str, Any] = {"next": {"accel": block.end}, "written_ns": second * SECOND}
        state = b"state" if second == 1 else b""
        recording.write([msgspec.structs.replace(block, state=state, **more)])
    yield recording
    recording.close()


@pytest.fixture
def journal(link: AgentdStandIn, recording: Recording) -> Journal:
    """Its journal, with an event of rows 768 to 1023 and one of 1408 to 1663."""
    return link.commit("watch", told(), decided(11))


def blocks(answer: httpx.Response) -> list[Rows]:
    assert answer.headers["content-type"] == CONTENT_TYPE
    return [*sequence(io.BytesIO(answer.content))]


def test_a_trace_tells_which_rows_are_recorded_and_draws_them(link: AgentdStandIn, journal: Journal) -> None:
    found = link.http.get(f"/api/v1/events/{journal.id}-2/trace").json()["rows"]["accel"]
    assert (found["count"], [curve["name"] for curve in found["curves"]]) == (256, ["x", "y", "z"])
    assert found["curves"][0]["low"] == [*range(768, 1024)]
    assert link.http.get(f"/api/v1/events/{journal.id}-12/trace").json()["rows"]["accel"]["count"] == 92
    page = link.http.get(f"/events/{journal.id}-2").text
    assert "all 256 recorded" in page
    assert "accel.x: 768 to 1023" in page
    assert f'href="/api/v1/events/{journal.id}-2/rows/accel"' in page


def test_of_much_between_the_rows_of_a_slow_input_as_much_is_looked_through_as_serves_others(
    link: AgentdStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Recording(link.store / "recordings" / "watch", 64 << 20)
    for hour in range(6):
        following = {"accel": BASE + hour + 1, "heat": BASE + (hour + 1) * 150_000}
        places = range(hour * 150_000, (hour + 1) * 150_000, 500)
        fast = [rows(place, [(0.5,)] * 500, input="heat", next=following) for place in places]
        store.write([rows(hour, [(hour, 0, 0)], next=following), *fast])
    store.close()
    journal = link.commit("watch", told(), decided(spans=struct.pack("<2q", BASE, BASE + 5)))
    path = f"/api/v1/events/{journal.id}-2"
    found = link.http.get(f"{path}/trace").json()["rows"]["accel"]
    assert (found["count"], found.get("whole", True)) == (6, True)
    link.journals.pop("watch").close()
    journals, recordings = Journals(link.store / "journals"), Recordings(link.store / "recordings")
    journals.refresh()
    monkeypatch.setattr(traces, "LOOK_BYTES", 4 << 20)
    part = traces.find(journals, recordings, "dev-1", f"{journal.id}-2")
    assert part is not None
    assert 1 < part.rows["accel"].count < 6
    assert not part.rows["accel"].whole
    assert len(link.http.get(f"{path}/rows/accel").text.splitlines()) == 7  # who asks for them has all
    journals.close()
    recordings.close()


def test_the_rows_behind_an_event_come_as_csv_and_as_blocks(link: AgentdStandIn, journal: Journal) -> None:
    path = f"/api/v1/events/{journal.id}-2/rows/accel"
    answer = link.http.get(path)
    assert answer.headers["content-type"].startswith("text/csv")
    lines = answer.text.splitlines()
    assert lines[0] == "ring,row,time,x,y,z"
    assert lines[1].split(",")[:2] + lines[1].split(",")[3:] == ["3", "768", "768", "-768", "0.5"]
    assert len(lines) == 257
    found = blocks(link.http.get(path, headers={"accept": CONTENT_TYPE}))
    assert [(block.first - BASE, block.count) for block in found] == [(768, 232), (1000, 24)]


def test_what_is_not_recorded_is_told(link: AgentdStandIn, journal: Journal) -> None:
    other = link.commit("other", told(), decided())
    assert link.http.get(f"/api/v1/events/{other.id}-2/trace").json()["rows"] == {}
    assert link.http.get(f"/api/v1/events/{other.id}-2/rows/accel").text == ""
    for path, words in {
        f"events/{journal.id}-2/rows/heat": "no rows of an input 'heat'",
        "events/x-1/rows/a": "no such event",
        "pipelines/other/recording": "nothing is recorded", "pipelines/..%2fjournals/recording": "Not Found",
        "pipelines/two/files/manifest.json": "no such pipeline",
    }.items():  # fmt: skip
        answer = link.http.get(f"/api/v1/{path}")
        assert (answer.status_code, words in answer.json()["error"]) == (404, True), path
    for query in ("since=noon", "until=2025-01-31", "from=2025-01-31T00:00:00Z"):
        assert link.http.get(f"/api/v1/pipelines/watch/recording?{query}").status_code == 400
    query = "since=2030-01-01T00:00:00Z&until=2020-01-01T00:00:00Z"
    answer = link.http.get(f"/api/v1/pipelines/watch/recording?{query}")
    words = "since 2030-01-01T00:00:00Z is later than until 2020-01-01T00:00:00Z"
    assert (answer.status_code, answer.json()) == (400, {"error": words})


def test_a_recording_is_read_from_where_the_state_is_known(link: AgentdStandIn, journal: Journal) -> None:
    def firsts(**query: str) -> list[int]:
        answer = link.http.get("/api/v1/pipelines/watch/recording", params=query)
        return [block.first - BASE for block in blocks(answer)]

    at = {name: wall_time(1_700_000_000 * SECOND + round(s * SECOND))
          for name, s in {"half": 0.5, "later": 1.5, "late": 9}.items()}  # fmt: skip
    assert firsts() == [0, 500, 1000]
    assert firsts(until=at["half"]) == [0]
    assert firsts(since=at["half"]) == [500, 1000]
    assert firsts(since=at["late"]) == [500, 1000]
    assert firsts(since=at["later"], until=at["later"]) == [500]


def test_a_recording_that_is_removed_is_let_go_of(link: AgentdStandIn, recording: Recording) -> None:
    link.http.get("/api/v1/pipelines/watch/recording")
    assert link.process is not None
    maps = f"/proc/{link.process.pid}/maps"

    def mapped() -> bool:
        with open(maps) as file:
            return "recordings/watch" in file.read()

    assert mapped()
    shutil.rmtree(link.store / "recordings" / "watch")
    eventually(lambda: not mapped(), "link lets go of it")
    assert link.http.get("/api/v1/pipelines/watch/recording").status_code == 404


def test_that_rows_are_recorded_is_told_whoever_recorded_them(
    link: AgentdStandIn, recording: Recording
) -> None:
    link.tell(pipeline("watch"), pipeline("other"))
    listed = link.http.get("/api/v1/pipelines").json()["pipelines"]
    assert {each["name"]: each["recorded"] for each in listed} == {"watch": True, "other": False}
    assert "recording_bytes" not in listed[0]["counters"]  # the worker at work has written none


def test_the_files_of_a_bundle_can_be_had_and_no_others(link: AgentdStandIn) -> None:
    folder = link.store / "bundles" / "one"
    folder.mkdir()
    files = {PIPELINE_FILE: b"edgeflow: 1", "models/a.onnx": b"model"}
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / MANIFEST_FILE).write_bytes(make_manifest("one", files, {}).encode())
    (folder / "secret").write_text("not in the manifest")
    link.tell(pipeline("one", folder=str(folder)))
    base = "/api/v1/pipelines/one/files/"
    eventually(lambda: link.http.get(base + MANIFEST_FILE).status_code == 200, "link knows of it")
    for name, data in files.items():
        assert link.http.get(base + name).content == data
    for name in ("secret", "..%2f..%2fsettings.yaml", ""):
        assert link.http.get(base + name).status_code == 404
