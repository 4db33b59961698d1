from __future__ import annotations

import pytest

from edgeflow_agent.web.guard import refusal

HERE = "127.0.0.1:7080"


@pytest.mark.parametrize("host", [HERE, "localhost", "LOCALHOST:80", "[::1]:7080", "127.1.2.3:1"])
def test_this_machine_by_any_of_its_names_is_answered(host: str) -> None:
    assert refusal("PUT", host, None, None) == ""
    assert refusal("PUT", host, f"http://{host}", "same-origin") == ""


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:7080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "[::2]",
        "192.168.1.5:7080",
        "127.0.0.1:7080@evil.example",
        "localhost:80:80",
    ],
)
def test_a_name_that_is_not_this_machine_is_refused(host: str) -> None:
    assert refusal("GET", host, None, None) != ""


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://localhost:7080", "http://127.0.0.1", "https://127.0.0.1:7080"],
)
def test_a_page_from_elsewhere_is_refused(origin: str) -> None:
    assert refusal("POST", HERE, origin, None) != ""
    assert refusal("GET", HERE, origin, None) != ""


def test_a_link_from_elsewhere_may_be_followed_and_nothing_be_changed_from_there() -> None:
    assert refusal("GET", HERE, None, "cross-site") == ""
    assert refusal("DELETE", HERE, None, "cross-site") != ""
    assert refusal("POST", HERE, None, "same-site") != ""
    assert refusal("POST", HERE, None, "none") == ""
