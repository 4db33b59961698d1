"""The trace of an event, asked of the device that holds it."""

from __future__ import annotations

from typing import Any

import pytest

from edgeflow_agent.store.journal import Journal
from tests.agent.web.harness import AgentdStandIn
from tests.support.traced import decided, lost, told

pytestmark = pytest.mark.system


def trace(link: AgentdStandIn, event: str) -> tuple[int, Any]:
    answer = link.http.get(f"/api/v1/events/{event}/trace")
    return answer.status_code, answer.json()


def test_an_event_is_explained_from_its_journal_alone(link: AgentdStandIn) -> None:
    journal = link.commit("watch", told(), decided(5, 1), lost(2), decided(5, 3))
    link.commit("watch", lost(500), told(600), decided(1, 601))
    status, found = trace(link, f"{journal.id}-9")
    assert status == 200
    assert found["event"] == link.http.get(f"/api/v1/events/{journal.id}-9").json()
    assert found["told"]["id"] == f"{journal.id}-1"
    assert [step["name"] for step in found["path"]] == [
        "accel", "window", "features", "score", "alarm", "raised",
    ]  # fmt: skip
    span = {"generation": 3, "first": 832, "last": 1087, "count": 256, "key": "press-7"}
    assert found["spans"]["accel"] == span
    assert [event["id"] for event in found["lost"]] == [f"{journal.id}-7"]
    assert trace(link, f"{journal.id}-15")[1]["told"]["id"] == f"{journal.id}-14"


def test_what_the_device_told_of_itself_is_lost_nearby_too(link: AgentdStandIn) -> None:
    journal = link.commit("watch", told(), decided(1, 100))
    own = link.commit("_agent", lost(20), lost(110, reason="agent"))
    assert [event["id"] for event in trace(link, f"{journal.id}-2")[1]["lost"]] == [f"{own.id}-2"]


def test_of_much_that_the_device_told_only_what_is_near_is_looked_at(link: AgentdStandIn) -> None:
    journal = link.commit("watch", told(), decided(1, 1000))
    own = link.commit("_agent", *(lost(second, reason="agent") for second in range(2000)))
    found = trace(link, f"{journal.id}-2")[1]["lost"]
    numbers = [int(event["sequence"]) - 1 for event in found]  # of seconds
    assert len(numbers) == 50
    assert {abs(number - 1000) <= 26 for number in numbers} == {True}
    assert found[0]["id"].startswith(own.id)


def test_a_journal_whose_beginning_went_still_tells_the_set_up_of_every_event(link: AgentdStandIn) -> None:
    journal = Journal(link.store / "journals" / "watch", 4 << 20, told)
    link.journals["watch"] = journal
    journal.commit([told()])
    for _ in range(100):
        link.commit("watch", decided(4000))
    page = link.http.get("/api/v1/events?limit=1").json()["events"]
    assert int(page[0]["sequence"]) > 1
    for sequence in (int(page[0]["sequence"]) + 1, journal.next - 1):
        found = trace(link, f"{journal.id}-{sequence}")[1]
        assert found["missing"] == ""
        assert found["event"]["id"] == f"{journal.id}-{sequence}"


def test_an_event_that_is_not_here_and_a_set_up_that_is_gone_are_told(link: AgentdStandIn) -> None:
    journal = link.commit("watch", decided())
    assert trace(link, f"{journal.id}-2") == (404, {"error": "no such event on this device"})
    assert trace(link, "other-1") == (404, {"error": "no such event on this device"})
    assert trace(link, "nonsense") == (404, {"error": "not an event id: 'nonsense'"})
    status, found = trace(link, f"{journal.id}-1")
    assert status == 200
    assert "not stored" in found["missing"]
    assert found["path"] == []
    assert found["models"] == {"score": "e" * 64}


def test_the_list_of_events_leads_to_a_page_that_explains_one(link: AgentdStandIn) -> None:
    journal = link.commit("watch", told(), decided(), lost(2, input="<b>accel</b>", reason="broker"))
    link.http.get("/api/v1/events")
    assert f'<a href="/events/{journal.id}-2">watch.raised</a>' in link.http.get("/").text
    page = link.http.get(f"/events/{journal.id}-2")
    assert page.headers["content-security-policy"] == link.http.get("/").headers["content-security-policy"]
    assert "<td>256 rows, those of press-7 among them: 768 to 1023 of ring 3</td>" in page.text
    assert "&lt;b&gt;accel&lt;/b&gt;" in page.text
    assert "<script" not in page.text
    assert f'href="/api/v1/events/{journal.id}-2/trace"' in page.text
    assert link.http.get("/events/other-1").status_code == 404


def test_who_looks_at_pages_is_told_on_one_what_is_not_here(link: AgentdStandIn) -> None:
    browser = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for path, words in (
        ("/events/other-1", "no such event on this device"), ("/none", "Not Found"),
        ("/events/<b>", "not an event id: &#x27;&lt;b&gt;"),
    ):  # fmt: skip
        page = link.http.get(path, headers=browser)
        assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert words in page.text
        assert (
            page.headers["content-security-policy"] == link.http.get("/").headers["content-security-policy"]
        )
        assert "error" in link.http.get(path).json()
    assert "error" in link.http.get("/api/v1/events/other-1/trace", headers=browser).json()
