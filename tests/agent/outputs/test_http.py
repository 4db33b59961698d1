"""The http output against a real server: order, retries, bounds, and that it never holds anything up."""

from __future__ import annotations

import math
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeflow_agent.config import Endpoint, Tls
from edgeflow_agent.core import board
from edgeflow_agent.core.clock import boottime_ns
from edgeflow_agent.core.messages import EffectRow
from edgeflow_agent.outputs import http
from edgeflow_agent.outputs.base import Account, OutputContext
from edgeflow_agent.outputs.http import MAX_WAITING, HttpOutput
from edgeflow_proto.pipeline.kinds.outputs import Http
from edgeflow_proto.pipeline.units import Duration
from tests.support.processes import eventually, free_port
from tests.support.web_server import WebServer, web_server


class Posted:
    """An http output over a board of its own."""

    def __init__(self, endpoints: dict[str, Endpoint] | None = None, **options: Any) -> None:
        self.slot = board.Board(board.create()).slot(1)
        account = Account("p", "o", self.slot)
        endpoints = endpoints or {}
        context = OutputContext("p", "o", None, account, None, endpoints.__getitem__)  # type: ignore[arg-type]
        self.output = HttpOutput(Http(**options), context)
        self.given = 0

    def rows(self, *values: float, age_s: float = 0.0) -> None:
        for value in values:
            self.given += 1
            t = boottime_ns() - int(age_s * 1e9)
            self.output.carry_out(EffectRow(self.given, t, "press", {"x": value}))

    def count(self, name: str, reason: str = "") -> int:
        self.output.turn(boottime_ns())
        found = self.slot.read().items()
        return sum(value for key, value in found if key.startswith(f"effects_{name}_total") and reason in key)

    def settled(self) -> None:
        eventually(lambda: self.count("done") + self.count("dropped") == self.given, "all are counted")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_WAIT_S", 0.01)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as made:
        yield made


def test_rows_are_posted_in_order_over_one_connection(server: WebServer) -> None:
    posted = Posted(url=server.url, headers={"X-Plant": "north"})
    posted.rows(*range(50), math.nan)
    posted.settled()
    assert [body["x"] for body in server.bodies] == [*range(50), None]
    assert server.bodies[0].keys() == {"key", "time", "x"}
    assert server.headers[0].items() >= {"Content-Type": "application/json", "X-Plant": "north"}.items()
    assert (server.connections, set(server.paths)) == (1, {"/rows"})
    posted.output.close()
    assert posted.count("done") == 51


def test_a_body_has_as_many_rows_as_wait_up_to_the_batch(server: WebServer) -> None:
    posted = Posted(url=server.url, batch=20, payload={"unit": "g"}, data=["x"])
    server.hanging.set()
    posted.rows(*range(50))
    server.hanging.clear()
    posted.settled()
    assert all(len(body) <= 20 for body in server.bodies)
    assert len(server.bodies) <= 5
    assert [row for body in server.bodies for row in body] == [{"unit": "g", "x": x} for x in range(50)]
    posted.output.close()


def test_what_passes_is_tried_again_and_what_does_not_is_dropped(server: WebServer) -> None:
    server.answers[:] = [(503, {}), (429, {"Retry-After": "0"}), (500, {"Connection": "close"}), (200, {}),
                         (400, {}), (302, {"Location": "/elsewhere"})]  # fmt: skip
    posted = Posted(url=server.url)
    posted.rows(1, 2, 3, 4)
    posted.settled()
    assert [body["x"] for body in server.bodies] == [1, 4]
    assert posted.count("dropped", 'reason="refused"') == 2
    posted.output.close()


def test_rows_wait_for_a_server_that_is_away_but_not_for_ever() -> None:
    port = free_port()
    posted = Posted(url=f"http://127.0.0.1:{port}/rows", max_age=Duration(5 * 10**9))
    posted.rows(1, age_s=6)
    posted.rows(2, 3)
    eventually(lambda: posted.count("dropped", "max_age") == 1, "one is too old")
    with web_server(port) as server:
        posted.settled()
        assert [body["x"] for body in server.bodies] == [2, 3]
    posted.output.close()


def test_a_connection_that_the_server_ended_is_made_anew(server: WebServer) -> None:
    server.answers[:] = [(200, {"Connection": "close"})] * 3
    posted = Posted(url=server.url)
    for number in range(3):
        posted.rows(number)
        posted.settled()
    assert [body["x"] for body in server.bodies] == [0, 1, 2]
    assert server.connections == 3
    posted.output.close()


def test_a_server_that_hangs_holds_nothing_up_and_what_waits_is_bounded(server: WebServer) -> None:
    server.hanging.set()
    posted = Posted(url=server.url, timeout=Duration(60 * 10**9))
    posted.rows(0)
    eventually(lambda: server.connections == 1, "it is on its way")
    begin = time.monotonic()
    posted.rows(*range(MAX_WAITING + 7))
    assert posted.count("dropped", 'reason="full"') == 7
    assert not posted.output.idle
    posted.output.close()
    assert posted.count("dropped", 'reason="closed"') == MAX_WAITING + 1
    assert posted.count("dropped") == posted.given
    assert time.monotonic() - begin < 30  # far below what the server would be waited for
    server.hanging.clear()


def test_no_answer_in_time_is_tried_again(server: WebServer) -> None:
    server.hanging.set()
    posted = Posted(url=server.url, timeout=Duration(50 * 10**6))
    posted.rows(1)
    eventually(lambda: server.connections == 2, "it is tried again")
    server.hanging.clear()
    posted.settled()
    assert server.bodies[-1]["x"] == 1
    posted.output.close()


def test_an_endpoint_has_the_headers_and_the_place(server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("Bearer secret\n")
    endpoint = Endpoint(
        f"http://127.0.0.1:{server.port}/api/", {"X-Site": "7"}, {"Authorization": str(tmp_path / "token")}
    )
    posted = Posted({"cloud": endpoint}, endpoint="cloud", path="/alarms")
    posted.rows(1)
    posted.settled()
    assert server.paths == ["/api/alarms"]
    assert server.headers[0].items() >= {"Authorization": "Bearer secret", "X-Site": "7"}.items()
    posted.output.close()
    (tmp_path / "token").write_text("two\nlines of a secret")
    with pytest.raises(ValueError, match="not a header: 'Authorization'") as raised:
        Posted({"cloud": endpoint}, endpoint="cloud")
    assert "secret" not in str(raised.value)
    with pytest.raises(OSError, match="no-file"):
        Posted({"cloud": Endpoint(server.url, {}, {"A": str(tmp_path / "no-file")})}, endpoint="cloud")


def test_https_trusts_only_whom_it_is_told_to(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    openssl = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    openssl += f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    subprocess.run(openssl.split(), check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with web_server(tls=tls) as server:
        url = server.url.replace("http:", "https:")
        told = Posted({"own": Endpoint(url, tls=Tls(ca=str(certificate)))}, endpoint="own")
        told.rows(1)
        told.settled()
        untold = Posted(url=url, max_age=Duration(3 * 10**8))
        untold.rows(2)
        untold.settled()
    assert untold.count("dropped", "max_age") == 1
    assert [body["x"] for body in server.bodies] == [1]
    told.output.close()
    untold.output.close()
